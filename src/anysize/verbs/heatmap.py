"""Draw where in an image a fully convolutional graph sees its classes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from anysize.errors import ModelFileError, UnsupportedModelError, UsageError
from anysize.sizes import Size
from anysize.words import one_line

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from anysize.verbs.panels import MapPlacement

__all__ = ["ClassPeak", "HeatmapResult", "heatmap", "run_map"]

# What torchvision's ImageNet weights were trained with; grey images are taken as they are.
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class ClassPeak:
    """Where one class is strongest.

    Attributes:
        index: The class.
        name: The class's name, or its index as text.
        probability: At its strongest cell, 0 to 1.
        y: Row of that cell's centre, in pixels.
        x: Column of that cell's centre, in pixels.
    """

    index: int
    name: str
    probability: float
    y: float
    x: float


@dataclass(frozen=True, slots=True)
class HeatmapResult:
    """The picture and what is on it.

    Attributes:
        path: The PNG.
        size: Height and width of the image.
        map_size: Cells of the class map.
        peaks: The classes drawn, strongest first.
        notes: What the user should know about it.
    """

    path: Path
    size: Size
    map_size: Size
    peaks: tuple[ClassPeak, ...]
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return one line for the picture and one for each class."""
        lines = [f"{self.path}: image {self.size}, map {self.map_size}"]
        lines += [
            f"  class {peak.name}: {peak.probability:.3f} at row {peak.y:.0f}, column {peak.x:.0f}"
            for peak in self.peaks
        ]
        return "\n".join(lines)


def heatmap(
    model: Path | str,
    image: Path | str,
    out: Path | str,
    *,
    class_: str | int | None = None,
    top: int = 3,
) -> HeatmapResult:
    """Run a graph on an image, and draw its class map over it.

    A graph with one channel takes grey values from 0 to 1; one with three takes RGB normalised
    with ImageNet's mean and deviation, as torchvision's networks do.

    Args:
        model: An ONNX file with a class map (batch, classes, map_height, map_width), such as
            `anysize rewrite` writes.
        image: A picture of any legal size.
        out: The PNG to write.
        class_: Draw this class, by name or index; the strongest ones by default.
        top: How many of the strongest.

    Raises:
        AnysizeError: A subclass says what cannot be used.
    """
    from anysize.files import check_output_path
    from anysize.surgery import image_input, load_model, read_metadata
    from anysize.surgery.graph import require_sides_together
    from anysize.verbs.panels import Panel, draw_panels

    model, image, out = Path(model), Path(image), Path(out)
    check_output_path(out, inputs=(model, image))
    if top < 1:
        raise UsageError(f"top {top}: expected at least 1")
    graph = load_model(model)
    axis = require_sides_together(graph).channels
    channels = image_input(graph).type.tensor_type.shape.dim[axis].dim_value
    names = read_metadata(graph).class_names
    del graph
    picture, pixels = _read_image(image, channels)
    scores, place = run_map(model, pixels)
    probabilities = _softmax(scores)
    names = names or tuple(str(index) for index in range(len(probabilities)))
    chosen = _choose(probabilities, names, class_, top)
    peaks = tuple(_peak(index, names, probabilities[index], place) for index in chosen)
    panels = [
        Panel(f"class {peak.name}, at most {peak.probability:.2f}", probabilities[peak.index])
        for peak in peaks
    ]
    draw_panels(out, picture, panels, place)
    height, width = picture.shape[:2]
    return HeatmapResult(out, Size(height, width), Size(*scores.shape[1:]), peaks)


def run_map(
    model: Path, pixels: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float32], MapPlacement]:
    """Run a graph on ONNX Runtime's CPU provider and return its class map and where that lies.

    Args:
        model: The file.
        pixels: (1, channels, height, width) float32; a network that has its channels last gets
            them so.

    Returns:
        The map, (classes, map_height, map_width), and its placement on the image.

    Raises:
        UnsupportedModelError: The graph has no map, or does not say how it lies on the image.
        UsageError: The graph refuses the image's size.
    """
    import numpy as np
    from onnx.helper import tensor_dtype_to_np_dtype

    from anysize.surgery import image_input, load_model, read_metadata
    from anysize.surgery.graph import require_sides_together
    from anysize.validators.worker import get_runtime
    from anysize.verbs.panels import MapPlacement

    graph = load_model(model, weights="in_file")
    metadata, image = read_metadata(graph), image_input(graph)
    layout = require_sides_together(graph)
    kind = tensor_dtype_to_np_dtype(image.type.tensor_type.elem_type or 1)
    if metadata.map_stride is None or metadata.map_offset is None:
        raise UnsupportedModelError(
            f"{model}: has no class map with a known place on the image; "
            "write one with `anysize rewrite --to fcn` or `anysize export --head fcn`"
        )
    size = Size(*pixels.shape[2:])
    legal = metadata.sizes
    # The runtime would refuse it in words of its own, or even crash.
    if legal is not None and size not in legal:
        raise UsageError(f"image of {size}: {model} takes {legal}; enlarge the image")
    session = get_runtime("ort-cpu").load(model, threads=0)
    try:
        outputs = session.run({image.name: layout.arranged(pixels.astype(kind))})
    except Exception as error:
        raise UsageError(f"image of {size}: {model} refuses it: {one_line(error)}") from error
    finally:
        session.close()
    maps = [np.asarray(value, np.float32) for value in outputs.values() if value.ndim == 4]
    if not maps:
        raise UnsupportedModelError(f"{model}: no output has the rank of a map, 4")
    return maps[0][0], MapPlacement(metadata.map_stride, metadata.map_offset)


def _read_image(
    path: Path, channels: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the picture for drawing, and the pixels as the network takes them."""
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    if channels not in (1, 3):
        got = channels or "an undeclared number of"
        raise UnsupportedModelError(f"the graph takes {got} channels, expected 1 or 3")
    if path.exists() and not path.is_file():  # opening a pipe would wait for somebody to write
        raise ModelFileError(f"image {path}: is no regular file; name a PNG or JPEG file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                values = np.asarray(opened.convert("L" if channels == 1 else "RGB"), np.float32)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelFileError(f"image {path}: cannot be read: {reason}") from error
    except Image.DecompressionBombWarning as error:
        raise ModelFileError(f"image {path}: too large to open safely: {error}") from error
    picture = (values / 255).astype(np.float32)
    if channels == 1:
        return picture, picture[None, None]
    normalised = (picture - np.array(_MEAN)) / np.array(_DEVIATION)
    return picture, np.ascontiguousarray(normalised.transpose(2, 0, 1)[None], np.float32)


def _softmax(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Turn (classes, …) scores into probabilities; a graph that ends in Softmax has them."""
    import numpy as np

    values = scores.astype(np.float64)
    if values.min() >= 0 and np.allclose(values.sum(axis=0), 1, atol=1e-4):
        return values
    powers = np.exp(values - values.max(axis=0))
    probabilities: npt.NDArray[np.float64] = powers / powers.sum(axis=0)
    return probabilities


def _choose(
    probabilities: npt.NDArray[np.float64],
    names: tuple[str, ...],
    class_: str | int | None,
    top: int,
) -> list[int]:
    count = len(probabilities)
    if class_ is None:
        strongest = probabilities.reshape(count, -1).max(axis=1)
        return [int(index) for index in (-strongest).argsort(kind="stable")[:top]]
    text = str(class_)
    if text in names:
        return [names.index(text)]
    if text.isdecimal() and int(text) < count:
        return [int(text)]
    raise UsageError(f"class {text!r}: expected a name of the file's or 0 to {count - 1}")


def _peak(
    index: int, names: tuple[str, ...], heat: npt.NDArray[np.float64], place: MapPlacement
) -> ClassPeak:
    row, column = divmod(int(heat.argmax()), heat.shape[1])
    return ClassPeak(
        index=index,
        name=names[index] if index < len(names) else str(index),
        probability=float(heat[row, column]),
        y=place.offset[0] + row * place.stride[0],
        x=place.offset[1] + column * place.stride[1],
    )
