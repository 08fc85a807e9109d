"""What a graph takes and hands out: one image, and what stands beside it; tensors of numbers.

Inputs are made for any size and batch, the same ones for the same seed. What beside the image has
axes that are numbers, or that the image has too, is made up as well; for anything else somebody has
to give arrays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray

from anysize.errors import UnsupportedModelError, UsageError
from anysize.surgery.graph import (
    Graph,
    ImageLayout,
    Model,
    image_input,
    require_sides_together,
    required_inputs,
)
from anysize.validators.inputs.cases import Case
from anysize.validators.inputs.images import AMPLIFICATION, as_pixels, make_images, tinted, within
from anysize.validators.inputs.regions import make_regions

__all__ = [
    "GraphInputs",
    "OtherInput",
    "declared_outputs",
    "float_outputs",
    "given_case",
    "graph_inputs",
    "make_inputs",
]

Array = NDArray[np.generic]

_IMAGES = ("float32", "float16", "float64", "uint8")
_OTHERS = ("float32", "float16", "float64", "bool")
_EXACT = ("BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
_MAX_CHANNELS = 65536
_MAX_ELEMENTS = 1 << 24  # of an input beside the image
_INSTEAD = "give arrays with --inputs FILE.npz"


@dataclass(frozen=True, slots=True)
class OtherInput:
    """An input beside the image.

    Attributes:
        name: The input's name.
        dtype: NumPy's word for its type.
        axes: A length, one of the image's axes (`batch`, `height`, `width`), or "" where it is not
            known, for each axis.
        is_regions: It is `rois` `(count, 5)`: batch index, x1, y1, x2, y2 in pixels.
        unknown: Why it cannot be made up; "" where it can.
    """

    name: str
    dtype: str
    axes: tuple[int | str, ...]
    is_regions: bool = False
    unknown: str = ""


@dataclass(frozen=True, slots=True)
class GraphInputs:
    """What the graph under test takes.

    Attributes:
        image: Name of the image input.
        channels: Channels of the image.
        seed: What the images are drawn from.
        vacuity_seed: What the second images are drawn from, for the vacuity guard.
        dtype: Element type of the image; the reference sees the same rounded pixels.
        others: The other inputs, in the graph's order.
        place: Where the image stands among all inputs.
        layout: Where the image's axes lie. All arrays of a validation lie so, the references' too.
        pixels: The least and the largest pixel, where the graph tells others apart from neither.
    """

    image: str
    channels: int
    seed: int
    vacuity_seed: int
    dtype: str = "float32"
    others: tuple[OtherInput, ...] = ()
    place: int = 0
    layout: ImageLayout = field(default_factory=ImageLayout)
    pixels: tuple[float, float] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of all inputs, in the graph's order."""
        others = [other.name for other in self.others]
        return (*others[: self.place], self.image, *others[self.place :])

    def require_made(self) -> None:
        """Refuse a graph with an input that cannot be made up.

        Raises:
            UnsupportedModelError: There is one.
        """
        for other in self.others:
            if other.unknown:
                raise UnsupportedModelError(f"input {other.name!r}: {other.unknown}; {_INSTEAD}")


def graph_inputs(model: Model, seed: int) -> GraphInputs:
    """Say what a graph takes.

    Raises:
        UnsupportedModelError: It has no image input `(batch, channels, height, width)` or `(batch,
            height, width, channels)` of floats or bytes with a known number of channels.
    """
    graph = Graph.of(model)
    model = graph.model
    image = image_input(model)
    inputs = required_inputs(model)
    place = next(i for i, value in enumerate(inputs) if value.name == image.name)
    layout = require_sides_together(graph)
    dtype = _dtype(image)
    if dtype not in _IMAGES:
        raise UnsupportedModelError(
            f"input {image.name!r}: is {dtype}, expected an image in {', '.join(_IMAGES)}; keep "
            "the input in float32"
        )
    channels = image.type.tensor_type.shape.dim[layout.channels].dim_value
    if not 1 <= channels <= _MAX_CHANNELS:
        raise UnsupportedModelError(
            f"input {image.name!r}: channels are {channels or 'not declared'}, expected a number "
            f"from 1 to {_MAX_CHANNELS} in axis {layout.channels}"
        )
    others = tuple(_other(value, image, layout) for i, value in enumerate(inputs) if i != place)
    return GraphInputs(image.name, channels, seed, seed + 1, dtype, others, place, layout)


def make_inputs(
    case: Case,
    spec: GraphInputs,
    seed: int,
    *,
    beside: Mapping[str, Array] | None = None,
    is_tinted: bool = False,
) -> dict[str, Array]:
    """Make the inputs of a case, by name, in the graph's order.

    What stands beside the image, made up unless it is given, is the same whatever the seed: what
    varies shall be the image.
    """
    images = make_images(case.size, case.batch, channels=spec.channels, seed=seed)
    if case.is_amplified:
        images *= np.float32(AMPLIFICATION)
    if is_tinted:
        images = tinted(images, seed)
    if spec.pixels is not None:
        images = within(images, *spec.pixels)
    made = {
        other.name: _made(other, case, spec.seed, place) if beside is None else beside[other.name]
        for place, other in enumerate(spec.others)
    }
    made[spec.image] = spec.layout.arranged(as_pixels(images, spec.dtype))
    return {name: made[name] for name in spec.names}


def given_case(inputs: Mapping[str, Array], spec: GraphInputs) -> tuple[Case, dict[str, Array]]:
    """Return the size and batch of inputs that were given, and these in the graph's order.

    Raises:
        UsageError: They are not what the graph takes.
    """
    if set(inputs) != set(spec.names):
        raise UsageError(
            f"inputs: got {', '.join(inputs) or 'none'}, expected {', '.join(spec.names)}"
        )
    image = OtherInput(spec.image, spec.dtype, _image_axes(spec))
    for other in (image, *spec.others):
        array = inputs[other.name]
        if array.dtype != other.dtype:
            raise UsageError(f"inputs: {other.name!r} is {array.dtype}, expected {other.dtype}")
        lengths = zip(other.axes, array.shape, strict=False)
        if array.ndim != len(other.axes) or any(
            isinstance(axis, int) and axis != length for axis, length in lengths
        ):
            expected = ", ".join(str(axis or "?") for axis in other.axes)
            raise UsageError(
                f"inputs: {other.name!r} has shape {list(array.shape)}, expected [{expected}]"
            )
    shape = inputs[spec.image].shape
    if not math.prod(shape):
        raise UsageError(f"inputs: {spec.image!r} is empty")
    case = Case(spec.layout.size(shape), shape[spec.layout.batch])
    return case, {name: inputs[name] for name in spec.names}


def float_outputs(model: onnx.ModelProto) -> dict[str, bool]:
    """Say of each output of a graph whether it is a floating-point one.

    Raises:
        UnsupportedModelError: One is no tensor.
    """
    exact = {onnx.TensorProto.DataType.Value(name) for name in _EXACT}
    for output in model.graph.output:
        kind = output.type.WhichOneof("value")
        if kind not in (None, "tensor_type"):
            raise UnsupportedModelError(
                f"output {output.name!r}: is a {str(kind).removesuffix('_type')}, expected a tensor"
            )
    return {o.name: o.type.tensor_type.elem_type not in exact for o in model.graph.output}


def declared_outputs(model: onnx.ModelProto) -> dict[str, tuple[int | None, ...]]:
    """Return the lengths that a graph declares its outputs' axes to have; None for a free one."""
    return {
        output.name: tuple(
            dim.dim_value if dim.dim_value > 0 else None
            for dim in output.type.tensor_type.shape.dim
        )
        for output in model.graph.output
        if output.type.tensor_type.HasField("shape")
    }


def _image_axes(spec: GraphInputs) -> tuple[int | str, ...]:
    names = _named(spec.layout)
    return tuple(names.get(axis, spec.channels) for axis in range(4))


def _named(layout: ImageLayout) -> dict[int, str]:
    """Name the axes of the image that another input may share."""
    return {layout.batch: "batch", layout.height: "height", layout.width: "width"}


def _other(
    value: onnx.ValueInfoProto, image: onnx.ValueInfoProto, layout: ImageLayout
) -> OtherInput:
    dtype, axes = _dtype(value), _axes(value, image, layout)
    is_regions = value.name == "rois" and dtype == "float32" and axes in (("", 5), ("batch", 5))
    unknown = ""
    if value.name == "rois" or is_regions:
        unknown = "" if is_regions else "cannot be made up, expected float32 rois (count, 5)"
    elif not value.type.tensor_type.HasField("shape"):
        unknown = "has no declared shape"
    elif dtype not in _OTHERS:
        unknown = f"is {dtype}, whose values have a range that nobody knows"
    elif "" in axes:
        unknown = f"axis {axes.index('')} is not one of the image's and has no length"
    elif math.prod(axis for axis in axes if isinstance(axis, int)) > _MAX_ELEMENTS:
        unknown = f"has more than {_MAX_ELEMENTS} elements"
    return OtherInput(value.name, dtype, axes, is_regions, unknown)


def _axes(
    value: onnx.ValueInfoProto, image: onnx.ValueInfoProto, layout: ImageLayout
) -> tuple[int | str, ...]:
    """Say how long each axis is: a number, the name of one of the image's axes, or "" ."""
    of_image = image.type.tensor_type.shape.dim
    named = _named(layout).items()
    symbols = {of_image[i].dim_param: axis for i, axis in named if of_image[i].dim_param}
    axes: list[int | str] = []
    for place, dim in enumerate(value.type.tensor_type.shape.dim):
        is_nameless = place == 0 and not dim.dim_param
        axes.append(
            int(dim.dim_value)
            if dim.HasField("dim_value") and dim.dim_value > 0
            else symbols.get(dim.dim_param, "batch" if is_nameless else "")
        )
    return tuple(axes)


def _made(other: OtherInput, case: Case, seed: int, place: int) -> Array:
    if other.is_regions:
        return make_regions(case.size, case.batch, seed=seed)
    lengths = {"batch": case.batch, "height": case.size.height, "width": case.size.width}
    shape = [axis if isinstance(axis, int) else lengths[axis] for axis in other.axes]
    entropy = (seed, case.size.height, case.size.width, case.batch, place)
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))
    if other.dtype == "bool":
        return generator.integers(0, 2, size=shape, dtype=np.uint8).astype(np.bool_)
    return generator.standard_normal(shape, dtype=np.float32).astype(other.dtype)


def _dtype(value: onnx.ValueInfoProto) -> str:
    """Return NumPy's word for an input's type."""
    kind = value.type.tensor_type.elem_type
    try:
        return onnx.helper.tensor_dtype_to_np_dtype(kind).name
    except KeyError:  # undefined, or none of a tensor
        return "no tensor"
