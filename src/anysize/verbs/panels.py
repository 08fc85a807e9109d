"""Pictures: a class map over the image that it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from anysize.sizes import Size

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes

__all__ = ["Label", "MapPlacement", "Panel", "draw_panels"]

_DPI = 110
_WIDTH_INCHES = 8.0


@dataclass(frozen=True, slots=True)
class MapPlacement:
    """How the cells of a map lie on the image, in pixels; each pair is (height, width).

    Pixel i covers [i, i + 1). Cell (0, 0) is drawn as a rectangle of `stride` around `offset`.
    """

    stride: tuple[float, float]
    offset: tuple[float, float]

    def extent(self, rows: int, columns: int) -> tuple[float, float, float, float]:
        """Return left, right, bottom, top of a map of rows × columns, for `imshow`."""
        top, left = (self.offset[i] - self.stride[i] / 2 for i in (0, 1))
        return (left, left + columns * self.stride[1], top + rows * self.stride[0], top)


@dataclass(frozen=True, slots=True)
class Label:
    """A word at a place of the image, in pixels, with a box of `side` pixels around it."""

    text: str
    y: float
    x: float
    side: float


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture: a title, a map to lay over the image (or none), and labels.

    Attributes:
        title: Above the picture.
        heat: (map_height, map_width), 0 transparent to 1 opaque; None for the bare image.
        labels: Drawn over it.
    """

    title: str
    heat: npt.NDArray[np.floating] | None = None
    labels: Sequence[Label] = ()


def _draw(
    axes: Axes, image: npt.NDArray[np.floating], panel: Panel, place: MapPlacement, size: Size
) -> None:
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    height, width = size.height, size.width
    axes.imshow(image, cmap="gray", vmin=0.0, vmax=1.0, extent=(0, width, height, 0))
    if panel.heat is not None:
        colours = colormaps["YlOrRd"](panel.heat, bytes=True)
        colours[..., 3] = np.rint(0.7 * 255 * panel.heat)
        axes.imshow(colours, extent=place.extent(*panel.heat.shape), interpolation="nearest")
    for label in panel.labels:
        corner = (label.x - label.side / 2, label.y - label.side / 2)
        box = Rectangle(
            corner, label.side, label.side, fill=False, edgecolor="#0b6e4f", linewidth=1.4
        )
        axes.add_patch(box)
        axes.text(
            corner[0],
            corner[1] - 2,
            label.text,
            color="white",
            fontsize=8,
            verticalalignment="bottom",
            bbox={"facecolor": "#0b6e4f", "edgecolor": "none", "pad": 1.2},
        )
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=(), yticks=())
    axes.set_title(panel.title, fontsize=10, loc="left")


def draw_panels(
    path: Path,
    image: npt.NDArray[np.floating],
    panels: Sequence[Panel],
    place: MapPlacement,
    *,
    size: Size | None = None,
) -> None:
    """Draw the panels below one another and write them as a PNG, whole or not at all.

    Args:
        path: The file to write.
        image: (height, width) or (height, width, 3), 0 black to 1 white.
        panels: From top to bottom.
        place: Where the maps lie on the image.
        size: Of the image, in pixels, where fewer are given for drawing.

    Raises:
        UsageError: The path cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from anysize.files import atomic_output

    size = size or Size(*image.shape[:2])
    panel_inches = _WIDTH_INCHES * min(size.height / size.width, 3.0) + 0.35
    figure = Figure(figsize=(_WIDTH_INCHES, panel_inches * len(panels)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, panel in zip(
        figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True
    ):
        _draw(axes, image, panel, place, size)
    with atomic_output(path) as stream:
        figure.savefig(stream, format="png", dpi=_DPI, metadata={"Software": "anysize"})
