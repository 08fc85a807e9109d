"""An optimisation profile for TensorRT, from the sizes that a file takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from anysize.errors import UsageError
from anysize.sizes import MAX_SIDE, Size, SizeRange

__all__ = ["OptimizationProfile", "profile"]

Shape = tuple[int, ...]
_WORDS = ("min", "opt", "max")


@dataclass(frozen=True, slots=True)
class OptimizationProfile:
    """The shapes between which one TensorRT engine works, and the one that it is fastest at.

    Attributes:
        shapes: Input → its least, usual and largest shape.
    """

    shapes: Mapping[str, tuple[Shape, Shape, Shape]]

    def to_json(self) -> str:
        """Return `{input: {"min": [...], "opt": [...], "max": [...]}}`."""
        named = {
            name: dict(zip(_WORDS, map(list, three), strict=True))
            for name, three in self.shapes.items()
        }
        return json.dumps(named, indent=2)

    def flags(self) -> tuple[str, ...]:
        """Return the flags of `trtexec`."""
        return tuple(
            f"--{word}Shapes="
            + ",".join(
                f"{name}:{'x'.join(map(str, three[n]))}" for name, three in self.shapes.items()
            )
            for n, word in enumerate(_WORDS)
        )


def profile(
    model: Path | str,
    *,
    size: Size | None = None,
    max_size: Size | None = None,
    batches: tuple[int, int, int] = (1, 1, 8),
) -> OptimizationProfile:
    """Work out an optimisation profile: heights and widths from the sizes that the file takes.

    Args:
        model: An ONNX file with free axes; it is not run.
        size: What the engine is to be fastest at; the training size, or else the least.
        max_size: The largest images; what the file declares, or else twice `size` each way.
        batches: The least, usual and largest batch, where the file leaves it free.

    Raises:
        AnysizeError: The file cannot be used, or takes none of these sizes.
    """
    from anysize import surgery
    from anysize.surgery.graph import Graph, required_inputs
    from anysize.surgery.shapes import legal_sizes

    if not 1 <= batches[0] <= batches[1] <= batches[2]:
        raise UsageError(f"batches {batches}: expected three numbers from 1 on, none below another")
    graph = Graph(surgery.load_model(Path(model), weights="in_file"))
    usual = size or surgery.trained_size(graph)
    static = surgery.static_size(graph)
    taken = surgery.read_metadata(graph).sizes or (SizeRange(static, static) if static else None)
    if taken is None:
        taken = legal_sizes(graph, usual or surgery.smallest_size(graph))
    usual = usual or taken.minimum
    largest = max_size or _largest(taken, usual)
    for one, option in ((usual, "--size"), (largest, "--max-size")):
        if one not in taken:
            raise UsageError(f"{option} {one}: the file takes {taken}")
    if largest.height < usual.height or largest.width < usual.width:
        raise UsageError(f"--max-size {largest}: below {usual}, which the engine is fastest at")
    declared = surgery.image_input(graph.model).type.tensor_type.shape.dim[0].dim_value
    three = zip(
        (taken.minimum, usual, largest), (declared,) * 3 if declared else batches, strict=True
    )
    least, middle, most = (surgery.infer_shapes(graph, one, batch) for one, batch in three)
    names = [value.name for value in required_inputs(graph.model)]
    return OptimizationProfile({name: (least[name], middle[name], most[name]) for name in names})


def _largest(taken: SizeRange, usual: Size) -> Size:
    """Return the bound of each axis, and twice the usual side where it has none."""
    top = taken.maximum or Size(MAX_SIDE, MAX_SIDE)
    sides = ((top.height, usual.height), (top.width, usual.width))
    height, width = (2 * side if bound == MAX_SIDE else bound for bound, side in sides)
    return taken.near(height, width) or usual
