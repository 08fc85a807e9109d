"""The class map of an image of any size, in one run, or in tiles where that takes too much."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from anysize.errors import UnsupportedModelError, UsageError
from anysize.sizes import Size
from anysize.verbs.tiles import Span, tiles
from anysize.words import one_line, or_list

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from anysize.surgery.graph import Graph
    from anysize.validators.runtimes import Session
    from anysize.verbs.panels import MapPlacement

    # Rows and columns of an image → those pixels, (1, channels, height, width), as the network
    # takes them.
    Pixels: TypeAlias = Callable[[slice, slice], npt.NDArray[np.generic]]

__all__ = ["ClassMap", "class_map"]

# Outputs of these are probabilities already.
_TO_PROBABILITIES: Final = frozenset({"Softmax", "Sigmoid", "HardSigmoid"})
_MAP_RANK: Final = 4


@dataclass(frozen=True, slots=True)
class ClassMap:
    """The class map of an image.

    Attributes:
        scores: (classes, map_height, map_width).
        place: How it lies on the image.
        are_probabilities: The graph itself makes probabilities of the scores.
        tiles: In how many runs it was computed.
    """

    scores: npt.NDArray[np.float32]
    place: MapPlacement
    are_probabilities: bool
    tiles: int


def class_map(model: Path, size: Size, pixels: Pixels, *, output: str | None = None) -> ClassMap:
    """Run a graph on ONNX Runtime's CPU provider over an image, and return its class map.

    Args:
        model: The file.
        size: Of the image.
        pixels: Hands out parts of the image; a network that has its channels last gets them so.
        output: The output that is the map, where there are several.

    Raises:
        UnsupportedModelError: The graph has no map, or does not say how it lies on the image.
        UsageError: The graph refuses the image's size, or has several maps and none is named.
    """
    from anysize.surgery import load_model, read_metadata
    from anysize.surgery.graph import Graph
    from anysize.verbs.panels import MapPlacement

    graph = Graph(load_model(model, weights="in_file"))
    metadata = read_metadata(graph)
    name = _map_output(model, graph, output)
    if metadata.map_stride is None or metadata.map_offset is None:
        raise UnsupportedModelError(f"{model}: has no class map with a known place on the image")
    legal = metadata.sizes
    # The runtime would refuse it in words of its own, or even crash.
    if legal is not None and size not in legal:
        raise UsageError(f"image of {size}: {model} takes {legal}; enlarge the image")
    parts = tiles(graph, name, size, legal)
    scores = _run(model, graph, size, pixels, name, parts)
    return ClassMap(
        scores,
        MapPlacement(metadata.map_stride, metadata.map_offset),
        _are_probabilities(graph, name),
        len(parts),
    )


def _map_output(model: Path, graph: Graph, asked: str | None) -> str:
    """Choose the output that is a map: the one that is asked for, or the only one."""
    outputs = graph.model.graph.output
    maps = [
        one.name
        for one in outputs
        if not one.type.tensor_type.HasField("shape")
        or len(one.type.tensor_type.shape.dim) == _MAP_RANK
    ]
    if not maps:
        raise UnsupportedModelError(f"{model}: {_without_map(model, graph)}")
    if asked is not None and asked not in maps:
        raise UsageError(f"output {asked!r}: is no map of {model}; expected {or_list(maps)}")
    if asked is None and len(maps) > 1:
        raise UsageError(
            f"{model}: has the maps {', '.join(maps)}; say which with --output {maps[0]}"
        )
    return asked or maps[0]


def _without_map(model: Path, graph: Graph) -> str:
    """Say how a file without a map can get one."""
    from anysize.surgery import read_metadata, trained_size
    from anysize.verbs.next_heads import next_heads

    if read_metadata(graph).map_stride is not None:
        return (
            "no output has the rank of a map, 4: it hands out the mean of its cells alone; write "
            "it again with --output map or both"
        )
    file = shlex.quote(str(model))
    found = next_heads(
        graph,
        trained_size(graph),
        command=lambda head: f"anysize rewrite {file} --to {head} -o map.onnx",
        describe=lambda output: str(len(output.type.tensor_type.shape.dim)),
    )
    ways = [one.command for one in found if str(_MAP_RANK) in one.outputs]
    head = read_metadata(graph).head
    what = f"head {head} hands out no class map" if head else "hands out no class map"
    if ways:
        return f"{what}; write one that does: {ways[0]}"
    return f"{what}, and no rewrite gives it one"


def _are_probabilities(graph: Graph, tensor: str) -> bool:
    """Whether an output is made by a Softmax or Sigmoid, whatever is renamed or cast behind it."""
    while (index := graph.producer(tensor)) is not None:
        node = graph.node(index)
        if node.op_type in _TO_PROBABILITIES:
            return True
        if node.op_type not in ("Identity", "Cast", "Transpose"):
            return False
        tensor = node.input[0]
    return False


def _run(
    model: Path,
    graph: Graph,
    size: Size,
    pixels: Pixels,
    output: str,
    parts: list[tuple[Span, Span]],
) -> npt.NDArray[np.float32]:
    import numpy as np

    from anysize.validators.worker import get_runtime

    session = get_runtime("ort-cpu").load(model, threads=0)
    scores: npt.NDArray[np.float32] | None = None
    try:
        for row, column in parts:
            try:
                cells = _map_of(session, graph, pixels(row.pixels, column.pixels), output)
            except Exception as error:
                raise UsageError(
                    f"image of {size}: {model} refuses it: {one_line(error)}"
                ) from error
            if len(parts) == 1:
                return cells
            if scores is None:
                shape = tuple(max(span[axis].cells.stop for span in parts) for axis in (0, 1))
                scores = np.empty((len(cells), *shape), np.float32)
            scores[:, row.cells, column.cells] = cells[:, row.inner, column.inner]
    finally:
        session.close()
    assert scores is not None
    return scores


def _map_of(
    session: Session, graph: Graph, pixels: npt.NDArray[np.generic], output: str
) -> npt.NDArray[np.float32]:
    import numpy as np

    from anysize.surgery import image_input
    from anysize.surgery.graph import require_sides_together

    image, layout = image_input(graph.model), require_sides_together(graph)
    answers = session.run({image.name: layout.arranged(pixels)})
    answer: npt.NDArray[np.float32] = np.asarray(answers[output], np.float32)
    if answer.ndim != _MAP_RANK:
        raise UnsupportedModelError(f"output {output} has the shape {answer.shape}")
    cells: npt.NDArray[np.float32] = answer[0]
    return cells
