"""The axes of the image that a file shall have free: those that are asked for, or all that can be.

An axis that is not asked for has the length that it has at the training size, and the batch is 1.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from anysize.errors import ExportError, UsageError
from anysize.sizes import AXES, MAX_SIDE, Size, SizeRange

if TYPE_CHECKING:
    import onnx

    from anysize.exporters.sizes import Probe
    from anysize.exporters.spec import ExportSpec

__all__ = [
    "asked_axes",
    "asked_sizes",
    "fix_axes",
    "held_axes",
    "length_of",
    "refuse_held",
    "with_asked_sides",
]


def asked_axes(words: Collection[str] | str | None) -> frozenset[str] | None:
    """Check the axes that a user asks for; None, all that can be free, where nothing is asked.

    Raises:
        UsageError: One of them is no axis of an image, or there is none.
    """
    if words is None:
        return None
    names = [word.strip() for word in (words.split(",") if isinstance(words, str) else words)]
    unknown = [name for name in names if name not in AXES]
    if unknown or not names:
        found = repr(unknown[0]) if unknown else "no axis"
        raise UsageError(f"--dynamic: {found}, expected some of {','.join(AXES)}")
    return frozenset(names)


def asked_sizes(size: Size, axes: Collection[str]) -> SizeRange:
    """Return the sizes at which each side that is not asked for is that of `size`."""
    low = Size(*(1 if side in axes else getattr(size, side) for side in AXES[1:]))
    top = Size(*(MAX_SIDE if side in axes else getattr(size, side) for side in AXES[1:]))
    return SizeRange(low, None if top == Size(MAX_SIDE, MAX_SIDE) else top)


def with_asked_sides(spec: ExportSpec) -> ExportSpec:
    """Put the training size for a side that is not asked for into the bounds that are given."""

    def bound(given: Size | None) -> Size | None:
        if given is None:
            return None
        asked = {side: getattr(given, side) for side in AXES[1:] if side in spec.axes}
        return replace(spec.size, **asked)

    return replace(spec, min_size=bound(spec.min_size), max_size=bound(spec.max_size))


def fix_axes(model: onnx.ModelProto, lengths: Mapping[str, int]) -> None:
    """Declare the length of axes, in place, wherever they have that name."""
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in lengths:
                dim.dim_value = lengths[dim.dim_param]


def held_axes(sizes: SizeRange | None, probe: Probe, spec: ExportSpec) -> dict[str, str]:
    """Say which axes of the image have one length alone, and why: in the module's own words.

    Sizes are None where it is not the module that holds any.
    """
    by_module = () if sizes is None else sizes.fixed_sides
    held = {}
    for axis in AXES:
        if axis not in spec.axes:
            held[axis] = f"{length_of(spec, axis)} (not asked for)"
        elif axis in by_module:
            held[axis] = f"{length_of(spec, axis)} ({_reason(axis, probe, spec)})"
    return held


def refuse_held(spec: ExportSpec, probe: Probe, other: Size) -> None:
    """Refuse to free a side, where that is asked for, of which the module takes one length."""
    for side in ("height", "width"):
        length = length_of(spec, side)
        if spec.dynamic and side in spec.dynamic and getattr(other, side) == length:
            why = _reason(side, probe, spec)
            raise ExportError(f"{spec.name}: --dynamic {side}: it is fixed at {length} ({why})")


def _reason(side: str, probe: Probe, spec: ExportSpec) -> str:
    longer = replace(spec.size, **{side: length_of(spec, side) + 1})
    return probe.refusal(longer) or "its fully connected layers"


def length_of(spec: ExportSpec, axis: str) -> int:
    """Return the length that an axis has where it is not free."""
    lengths = {"batch": 1, "height": spec.size.height, "width": spec.size.width}
    return lengths[axis]
