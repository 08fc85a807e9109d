"""Draw where in an image a fully convolutional graph sees its classes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from anysize.errors import ModelFileError, UnsupportedModelError, UsageError
from anysize.sizes import Size
from anysize.verbs.class_map import ClassMap, class_map

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from anysize.verbs.panels import MapPlacement

__all__ = ["ClassPeak", "HeatmapResult", "heatmap"]

# What torchvision's ImageNet weights were trained with; grey images are taken as they are.
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)
# Pixels of a side; panels are half as wide.
_MOST_DRAWN = 1760


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
    output: str | None = None,
) -> HeatmapResult:
    """Run a graph on an image, and draw its class map over it.

    A large image is run in tiles, with the result of the whole.

    A graph with one channel takes grey values from 0 to 1; one with three takes RGB normalised
    with ImageNet's mean and deviation, as torchvision's networks do.

    Args:
        model: An ONNX file with a class map (batch, classes, map_height, map_width), such as
            `anysize rewrite` writes.
        image: A picture of any legal size.
        out: The PNG to write.
        class_: Draw this class, by name or index; the strongest ones by default.
        top: How many of the strongest.
        output: The map to draw, where the file has several; none is chosen in silence.

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
    graph = load_model(model, weights="in_file")
    axis = require_sides_together(graph).channels
    channels = image_input(graph).type.tensor_type.shape.dim[axis].dim_value
    names = read_metadata(graph).class_names
    del graph
    picture = _read_image(image, channels)
    size = Size(*picture.shape[:2])
    found = class_map(
        model, size, lambda rows, columns: _prepared(picture[rows, columns]), output=output
    )
    place, probabilities = found.place, _probabilities(found)
    names = names or tuple(str(index) for index in range(len(probabilities)))
    chosen = _choose(probabilities, names, class_, top)
    peaks = tuple(_peak(index, names, probabilities[index], place) for index in chosen)
    panels = [
        Panel(f"class {peak.name}, at most {peak.probability:.2f}", probabilities[peak.index])
        for peak in peaks
    ]
    draw_panels(out, _thumbnail(picture), panels, place, size=size)
    notes = (f"{image}: was run in {found.tiles} tiles",) if found.tiles > 1 else ()
    return HeatmapResult(out, size, Size(*found.scores.shape[1:]), peaks, notes)


def _read_image(path: Path, channels: int) -> npt.NDArray[np.uint8]:
    """Return the picture, (height, width) or (height, width, 3), 0 to 255."""
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
                return np.asarray(opened.convert("L" if channels == 1 else "RGB"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelFileError(f"image {path}: cannot be read: {reason}") from error
    except Image.DecompressionBombWarning as error:
        raise ModelFileError(f"image {path}: too large to open safely: {error}") from error


def _prepared(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return a picture, or a part of one, as the network takes it: (1, channels, height, width)."""
    import numpy as np

    values: npt.NDArray[np.float32] = picture.astype(np.float32) / np.float32(255)
    if values.ndim == 2:
        return values[None, None]
    normalised = (values - np.array(_MEAN, np.float32)) / np.array(_DEVIATION, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1)[None], np.float32)


def _thumbnail(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return a picture for drawing, 0 to 1, of no more pixels than the drawing shows."""
    import numpy as np
    from PIL import Image

    small = Image.fromarray(picture)
    small.thumbnail((_MOST_DRAWN, _MOST_DRAWN))
    return np.divide(np.asarray(small, np.float32), 255, dtype=np.float32)


def _probabilities(found: ClassMap) -> npt.NDArray[np.float64]:
    """Return probabilities of (classes, …) scores: what the graph makes, or their Softmax."""
    import numpy as np

    values = found.scores.astype(np.float64)
    sums_to_one = values.min() >= 0 and np.allclose(values.sum(axis=0), 1, atol=1e-4)
    if found.are_probabilities or sums_to_one:
        return values
    # In place: the map of a large image has millions of numbers.
    np.subtract(values, values.max(axis=0), out=values)
    np.exp(values, out=values)
    np.divide(values, values.sum(axis=0), out=values)
    return values


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
