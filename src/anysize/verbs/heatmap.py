"""Draw where in an image a fully convolutional graph sees its classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from anysize.class_names import check_class_names
from anysize.errors import UsageError
from anysize.preprocessing import Preprocessing
from anysize.sizes import Size
from anysize.verbs.class_map import ClassMap, class_map

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

    from anysize.verbs.panels import MapPlacement

__all__ = ["ClassPeak", "HeatmapResult", "heatmap"]

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
        preprocessing: What was done to the image's values, in words.
        preprocessing_from: Who says so: `flags`, `file`, or `assumed`.
        notes: What the user should know about it.
    """

    path: Path
    size: Size
    map_size: Size
    peaks: tuple[ClassPeak, ...]
    preprocessing: str
    preprocessing_from: str
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return one line for the picture and one for each class."""
        lines = [f"{self.path}: image {self.size}, map {self.map_size}"]
        lines += [
            f"  class {peak.name}: {peak.probability:.3f} at row {peak.y:.0f}, column {peak.x:.0f}"
            for peak in self.peaks
        ]
        lines.append(f"  preprocessing: {self.preprocessing} ({self.preprocessing_from})")
        return "\n".join(lines)


def heatmap(
    model: Path | str,
    image: Path | str,
    out: Path | str,
    *,
    class_: str | int | None = None,
    top: int = 3,
    output: str | None = None,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] | None = None,
) -> HeatmapResult:
    """Run a graph on an image, and draw its class map over it.

    A large image is run in tiles, with the result of the whole. It is turned as its EXIF
    orientation says, and laid over white where it is transparent.

    Args:
        model: An ONNX file with a class map (batch, classes, map_height, map_width), such as
            `anysize rewrite` writes.
        image: A picture of any legal size.
        out: The PNG to write.
        class_: Draw this class, by name or index; the strongest ones by default.
        top: How many of the strongest.
        output: The map to draw, where the file has several; none is chosen in silence.
        preprocessing: How images are prepared for the network; what it does not say is taken from
            the file, and else assumed, see `Preprocessing.complete`.
        class_names: Names of the classes, in order; those that the file records by default.

    Raises:
        AnysizeError: A subclass says what cannot be used.
    """
    from onnx.helper import tensor_dtype_to_np_dtype

    from anysize.files import check_output_path
    from anysize.images import read_picture
    from anysize.surgery import image_input, load_model, read_metadata
    from anysize.surgery.graph import require_sides_together
    from anysize.verbs.panels import Panel, draw_panels

    model, image, out = Path(model), Path(image), Path(out)
    check_output_path(out, inputs=(model, image))
    if top < 1:
        raise UsageError(f"top {top}: expected at least 1")
    graph = load_model(model, weights="in_file")
    kind = image_input(graph).type.tensor_type
    channels = kind.shape.dim[require_sides_together(graph).channels].dim_value
    metadata = read_metadata(graph)
    del graph
    picture = read_picture(image, channels=channels)
    dtype = str(tensor_dtype_to_np_dtype(kind.elem_type or 1))
    prepared, who = Preprocessing.chosen(
        preprocessing, metadata.preprocessing, channels, takes_bytes=dtype == "uint8"
    )
    size = Size(picture.height, picture.width)
    pixels = partial(_part, picture, channels, prepared, dtype)
    found = class_map(model, size, pixels, output=output)
    place, probabilities = found.place, _probabilities(found)
    names = metadata.class_names or ()
    if class_names is not None:
        names = check_class_names(class_names, len(probabilities))
    names = names or tuple(str(index) for index in range(len(probabilities)))
    chosen = _choose(probabilities, names, class_, top)
    peaks = tuple(_peak(index, names, probabilities[index], place) for index in chosen)
    panels = [
        Panel(f"class {peak.name}, at most {peak.probability:.2f}", probabilities[peak.index])
        for peak in peaks
    ]
    draw_panels(out, _thumbnail(picture), panels, place, size=size)
    notes = (f"{image}: was run in {found.tiles} tiles",) if found.tiles > 1 else ()
    return HeatmapResult(out, size, Size(*found.scores.shape[1:]), peaks, str(prepared), who, notes)


def _part(
    picture: Image,
    channels: int,
    preprocessing: Preprocessing,
    dtype: str,
    rows: slice,
    columns: slice,
) -> npt.NDArray[np.generic]:
    """Return a part of a picture as the network takes it: (1, channels, height, width)."""
    from anysize.images import pixels_of

    part = picture.crop((columns.start, rows.start, columns.stop, rows.stop))
    return preprocessing.applied(pixels_of(part, channels=channels), dtype)[None]


def _thumbnail(picture: Image) -> npt.NDArray[np.float32]:
    """Return a picture for drawing, 0 to 1, of no more pixels than the drawing shows."""
    import numpy as np

    small = picture.copy()
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
