"""Wrong pooling and resizing: bins, windows and sampling points, often right at some size only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from sabotage.entry import Sabotage
from sabotage.graph import Graph

from anysize.sizes import Size
from anysize.validators import Verdict

__all__ = ["POOLING"]

TRAINED = Size(32, 32)  # LeNet's map is 5×5 there
LEVEL = 4


def map_size(image: Size) -> tuple[int, int]:
    """LeNet's feature map."""
    height, width = (((side - 4) // 2 - 4) // 2 for side in (image.height, image.width))
    return height, width


def not_trained(size: Size, batch: int) -> bool:
    """Every size but those with the map of the training size."""
    return map_size(size) != map_size(TRAINED)


def paper_differs(size: Size, batch: int) -> bool:
    """Whether window ⌈a/n⌉ and stride ⌊a/n⌋ put a bin elsewhere than adaptive pooling."""
    for side in map_size(size):
        for i in range(LEVEL):
            start = i * (side // LEVEL)
            paper = (start, start - (-side // LEVEL))
            if paper != (i * side // LEVEL, -(-(i + 1) * side // LEVEL)):
                return True
    return False


def divisions(graph: Graph) -> list[onnx.NodeProto]:
    """Find the Div nodes that compute where bins start and end, in the order of the graph."""
    nodes = graph.model.graph.node
    whole = {t.name for t in graph.model.graph.initializer if t.data_type == onnx.TensorProto.INT64}
    return [node for node in nodes if node.op_type == "Div" and node.input[1] in whole]


def ends_rounded_down(graph: Graph) -> None:
    """Bins end at ⌊(i+1)·a/n⌋."""
    for place in (1, 3):
        division = divisions(graph)[place]
        ends = next(n for n in graph.model.graph.node if division.input[0] in n.output)
        ends.input[1] = graph.integers(0)


def paper_bins(graph: Graph) -> None:
    """Bins start every ⌊a/n⌋ cells and are ⌈a/n⌉ long."""
    bins, level, less = (
        graph.constant(values, np.int64) for values in (range(LEVEL), [LEVEL], [LEVEL - 1])
    )
    shapes = map_shapes(graph)
    found = divisions(graph)
    for shape, start, end in zip(shapes, found[::2], found[1::2], strict=True):
        starts, ends = start.output[0], end.output[0]

        def build_starts(_: str, shape: str = shape) -> str:
            return graph.add("Mul", bins, graph.add("Div", shape, level))

        def build_ends(_: str, shape: str = shape, starts: str = starts) -> str:
            window = graph.add("Div", graph.add("Add", shape, less), level)
            return graph.add("Add", starts, window)

        graph.splice(starts, build_starts)
        graph.splice(ends, build_ends)


def map_shapes(graph: Graph) -> list[str]:
    """Name the tensors with the map's height and with its width."""
    return [node.output[0] for node in graph.model.graph.node if node.op_type == "Shape"][-2:]


def baked_map(graph: Graph) -> None:
    """Bins of the trained map at every size: what an exporter writes that specialises."""
    for shape, side in zip(map_shapes(graph), map_size(TRAINED), strict=True):
        graph.splice(shape, lambda _, side=side: graph.integers(side))


def trained_window(graph: Graph) -> None:
    """The average of the trained map's cells, whatever the map's size."""
    corner = graph.integers(0, 0), graph.integers(*map_size(TRAINED)), graph.integers(2, 3)
    graph.insert(graph.node("GlobalAveragePool"), 0, "Slice", *corner)


def local_average(graph: Graph) -> None:
    """A window as large as the trained map, one step at a time."""
    sides = map_size(TRAINED)
    graph.turn(graph.node("GlobalAveragePool"), "AveragePool", kernel_shape=sides)


def maximum(graph: Graph) -> None:
    graph.turn(graph.node("GlobalAveragePool"), "GlobalMaxPool")


def rounded_up(graph: Graph) -> None:
    graph.set(graph.node("MaxPool"), ceil_mode=1)


def sampling(
    points: Callable[[int], int], shift: int, scale: int, *, of_last: bool = False
) -> Callable[[Graph], None]:
    """Sample at ((points(i) · a − shift) / scale), with a − 1 in the place of a for `of_last`."""

    def spoil(graph: Graph) -> None:
        multiply = next(n for n in graph.model.graph.node if n.op_type == "Mul")
        graph.replace(multiply.input[0], np.asarray([points(i) for i in range(32)]))
        subtract = next(n for n in graph.model.graph.node if multiply.output[0] in n.input)
        graph.replace(subtract.input[1], np.asarray([shift]))
        (divisor,) = {node.input[1] for node in divisions(graph)}
        graph.replace(divisor, np.asarray([scale]))
        (as_float,) = (
            t.name
            for t in graph.model.graph.initializer
            if t.data_type == onnx.TensorProto.FLOAT and list(t.dims) == [1]
        )
        graph.replace(as_float, np.asarray([scale]))
        if of_last:
            shapes = [n.output[0] for n in graph.model.graph.node if n.op_type == "Shape"]
            for node in list(graph.model.graph.node):
                if node.op_type == "Mul" and node.input[1] in shapes:
                    graph.insert(node, 1, "Sub", graph.integers(1))

    return spoil


def resized(size: Size, batch: int) -> bool:
    """Whether an image is not of the trained size, where every rule samples the pixels."""
    return size != TRAINED


def _wrong(
    name: str,
    twin: str,
    what: str,
    spoil: Callable[[Graph], None],
    *,
    verdict: Verdict = Verdict.MISMATCH,
    at: Callable[[Size, int], bool] = not_trained,
    words: Sequence[str] = ("x the budget of",),
    sizes: tuple[Size, ...] = (),
) -> Sabotage:
    return Sabotage(name, twin, what, verdict, spoil, at=at, words=tuple(words), sizes=sizes)


ABOVE = (TRAINED, Size(35, 34), Size(40, 45))

POOLING = (
    _wrong("shifted bins", "lenet-adaptive", "bins end at ⌊(i+1)·a/n⌋", ends_rounded_down),
    _wrong(
        "paper bins",
        "lenet-spp",
        "window ⌈a/n⌉ and stride ⌊a/n⌋ for adaptive bins",
        paper_bins,
        at=paper_differs,
        sizes=(TRAINED, Size(36, 32), Size(40, 52)),
    ),
    _wrong(
        "specialised average pooling",
        "lenet-adaptive",
        "bins of the trained map",
        baked_map,
        verdict=Verdict.ERROR,
        words=(),
    ),
    _wrong("specialised pyramid", "lenet-spp", "bins of the trained map", baked_map),
    _wrong(
        "average of a window",
        "lenet-cam",
        "pooling stops where the trained map ended",
        trained_window,
        words=("output 'logits'",),
        sizes=ABOVE,
    ),
    _wrong(
        "local average",
        "lenet-cam",
        "a window as large as the trained map",
        local_average,
        verdict=Verdict.SHAPE,
        words=("output 'logits' has shape",),
        sizes=ABOVE,
    ),
    _wrong(
        "maximum",
        "lenet-cam",
        "GlobalMaxPool for GlobalAveragePool",
        maximum,
        at=lambda size, _: size != Size(16, 16),
        words=("output 'logits'",),
    ),
    _wrong(
        "ceil mode",
        "lenet-cam",
        "pooling keeps a row too many",
        rounded_up,
        verdict=Verdict.SHAPE,
        at=lambda size, _: size == Size(35, 34),
        words=("output 'map' has shape",),
        sizes=ABOVE,
    ),
    _wrong(
        "asymmetric resize",
        "lenet-resize",
        "samples at i·a/n for half-pixel centres",
        sampling(lambda i: 2 * i, 0, 64),
        at=resized,
    ),
    _wrong(
        "aligned corners",
        "lenet-resize",
        "samples at i·(a−1)/(n−1)",
        sampling(lambda i: i, 0, 31, of_last=True),
        at=resized,
    ),
)
