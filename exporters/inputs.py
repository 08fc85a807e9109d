"""Inputs of a graph besides the image."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from anysize.errors import UsageError
from anysize.sizes import Size

__all__ = [
    "ROIS",
    "Axes",
    "InputSpec",
    "described",
    "example_inputs",
    "in_order",
    "input_shape",
    "named_inputs",
]

# Of an input: numbers, and the names of axes that it shares with the image.
Axes = tuple[int | str, ...]
_OF_IMAGE = ("height", "width")


@dataclass(frozen=True, slots=True)
class InputSpec:
    """An input that a graph has besides the image.

    Attributes:
        name: The name that the graph gives it.
        axes: A number for each axis, or the name of a symbolic one.
        example: Makes a valid value of type float32 for a batch of images of a size. Symbolic
            axes must come out different for different batches.
        rows: The symbolic axis that the outputs' axis 0 follows, where it is not the batch.
        is_before: The module takes it before the image, not behind it.
    """

    name: str
    axes: tuple[int | str, ...]
    example: Callable[[int, Size], Tensor]
    rows: str | None = None
    is_before: bool = False

    @property
    def symbols(self) -> dict[int, str]:
        """The symbolic axes by place."""
        return {place: axis for place, axis in enumerate(self.axes) if isinstance(axis, str)}


_Kind = TypeVar("_Kind")


def in_order(
    image: _Kind, extra_inputs: Sequence[InputSpec], beside: Callable[[InputSpec], _Kind]
) -> tuple[_Kind, ...]:
    """Put what belongs to the image among what belongs to the other inputs, as the module does."""
    before = [beside(spec) for spec in extra_inputs if spec.is_before]
    return (*before, image, *(beside(spec) for spec in extra_inputs if not spec.is_before))


def example_inputs(
    channels: int,
    extra_inputs: Sequence[InputSpec],
    batch: int,
    size: Size,
    *,
    device: str = "cpu",
) -> tuple[Tensor, ...]:
    """Make an image of zeros, and a value for each input beside it, in float32."""
    # On the meta device the largest image costs nothing, if it is never anywhere else.
    image = torch.zeros(batch, channels, size.height, size.width, device=device)
    return in_order(image, extra_inputs, lambda spec: spec.example(batch, size).to(device))


def named_inputs(
    module: nn.Module, shapes: Mapping[str, Axes], image: str | None = None
) -> tuple[InputSpec, ...]:
    """Describe the inputs of a module beside its image, in the order of its arguments.

    Args:
        module: Its `forward` says the order.
        shapes: Name → axes without the batch: numbers, `height` and `width`.
        image: The argument that is the image; the first one that `shapes` leaves out, by default.

    Raises:
        UsageError: An input is missing, or there is none of a name, or the image is not told.
    """
    kind, arguments = type(module).__name__, _arguments(module)
    if arguments is None:  # a `forward` without names takes them as they are given
        return tuple(_plain(name, axes) for name, axes in shapes.items())
    unknown = [name for name in (*shapes, *filter(None, [image])) if name not in arguments]
    if unknown:
        raise UsageError(
            f"{kind}: has no input {unknown[0]!r}; its inputs are {_listed(arguments)}"
        )
    if image in shapes:
        raise UsageError(f"{kind}: {image!r} is the image; leave out --input {image}:…")
    image = image or next((name for name in arguments if name not in shapes), None)
    if image is None:
        raise UsageError(f"{kind}: {_listed(arguments)} are all given by --input; one is the image")
    last = max(list(arguments).index(name) for name in (*shapes, image))
    for place, (name, is_needed) in enumerate(arguments.items()):
        if name not in shapes and name != image and (is_needed or place < last):
            raise UsageError(
                f"{kind}: takes {name!r} beside the image {image!r}; give --input {name}:SHAPE, "
                f"its axes without the batch, such as --input {name}:4, or --input "
                f"{name}:3,height,width where it follows the image"
            )
    before = list(arguments)[: list(arguments).index(image)]
    specs = [_plain(n, shapes[n], is_before=n in before) for n in arguments if n in shapes]
    for spec in specs:
        if spec.name == "input" or (spec.is_before and len(spec.axes) == 4):
            what = "is what a file calls the image" if spec.name == "input" else "has four axes"
            raise UsageError(
                f"{kind}: its input {spec.name!r} {what}; wrap it in a module whose first input is "
                "the image"
            )
    return tuple(specs)


def input_shape(text: str) -> tuple[str, Axes]:
    """Read `NAME:SHAPE`, for example `facts:4` or `right:3,height,width`.

    Raises:
        UsageError: It is none.
    """
    name, _, shape = text.rpartition(":")
    axes = tuple(entry.strip() for entry in shape.split(",") if entry.strip())
    if not name or not all(axis in _OF_IMAGE or axis.isdecimal() for axis in axes):
        raise UsageError(
            f"--input {text!r}: expected NAME:SHAPE, the axes without the batch as numbers, height "
            "or width, for example facts:4 or right:3,height,width"
        )
    return name, tuple(axis if axis in _OF_IMAGE else int(axis) for axis in axes)


def described(
    examples: Sequence[Tensor] | Mapping[str, Tensor], module: nn.Module, image: str | None = None
) -> tuple[dict[str, Axes], str, Size]:
    """Say of example tensors which one is the image, how large it is, and the others' axes.

    Args:
        examples: The module's arguments with their batch, by position or by name.
        module: Its `forward` says the names.
        image: The argument that is the image; the first of four axes by default.

    Raises:
        UsageError: There is no image, more tensors than arguments, or other numbers than floats.
    """
    names = list(_arguments(module) or ())
    if not isinstance(examples, Mapping):
        names += [f"input_{place}" for place in range(len(names), len(examples))]
        examples = dict(zip(names, examples, strict=False))
    image = image or next((name for name, one in examples.items() if one.dim() == 4), "")
    if image not in examples or examples[image].dim() != 4:
        raise UsageError("example inputs: none is an image (batch, channels, height, width)")
    batch, _, height, width = examples[image].shape
    shapes: dict[str, Axes] = {}
    for name, one in examples.items():
        if not one.is_floating_point() or not one.dim() or one.shape[0] != batch:
            raise UsageError(
                f"example inputs: {name!r} is {str(one.dtype).removeprefix('torch.')} "
                f"{list(one.shape)}, expected floats with the image's batch of {batch} first"
            )
        if name != image:
            axes: list[int | str] = [int(length) for length in one.shape[1:]]
            if one.dim() == 4 and axes[1:] == [height, width]:
                axes[1:] = ["height", "width"]
            shapes[name] = tuple(axes)
    return shapes, image, Size(int(height), int(width))


def _arguments(module: nn.Module) -> dict[str, bool] | None:
    """Return the names of what `forward` takes, and whether it needs it; None if that is open."""
    kinds = inspect.Parameter
    try:
        found = list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):  # compiled
        return None
    if any(one.kind is kinds.VAR_POSITIONAL for one in found):
        return None
    positional = (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
    return {one.name: one.default is kinds.empty for one in found if one.kind in positional}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _plain(name: str, axes: Axes, *, is_before: bool = False) -> InputSpec:
    return InputSpec(name, ("batch", *axes), partial(_zeros, axes), is_before=is_before)


def _zeros(axes: Axes, batch: int, size: Size) -> Tensor:
    lengths = {"height": size.height, "width": size.width}
    return torch.zeros(batch, *(lengths[one] if isinstance(one, str) else one for one in axes))


def _regions(batch: int, size: Size) -> Tensor:
    """Make 2 · batch + 1 regions, which is never a multiple of the batch above 1."""
    count = 2 * batch + 1
    image = torch.arange(count) % batch
    whole = torch.tensor([0.0, 0.0, size.width, size.height]).expand(count, 4)
    return torch.cat([image[:, None].to(whole.dtype), whole], 1)


# Regions of the images: batch index, x1, y1, x2, y2 in pixels. One answer for each.
ROIS = InputSpec("rois", ("count", 5), _regions, rows="count")
