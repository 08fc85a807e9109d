"""The demo's page: scans on paper that the network has not seen in training, and the truth.

`tools/digits` of the repository composes it.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt

from anysize.errors import ModelFileError

__all__ = ["Page", "PageDigit", "load_page"]


@dataclass(frozen=True, slots=True)
class PageDigit:
    """One digit of a page.

    Attributes:
        label: The digit.
        y: Row of the centre of its box, in pixels; 0 is the middle of the first row.
        x: Column of the centre of its box.
        height: Height of the box around its ink, in pixels.
        width: Width of that box.
        scan: Index of the scan in scikit-learn's set.
    """

    label: int
    y: float
    x: float
    height: int
    width: int
    scan: int


@dataclass(frozen=True, slots=True)
class Page:
    """A page and the truth about it.

    Attributes:
        pixels: `(1, 1, height, width)` float32 in [0, 1], paper 1: what the network takes.
        digits: From top to bottom, then from left to right.
    """

    pixels: npt.NDArray[np.float32]
    digits: tuple[PageDigit, ...]

    @staticmethod
    def from_grey(grey: npt.NDArray[np.uint8], digits: tuple[PageDigit, ...]) -> Page:
        """Make a page of a picture `(height, width)`, paper 255, and the digits on it."""
        return Page((grey.astype(np.float32) / np.float32(255.0))[None, None], digits)


def load_page(folder: Path | None = None) -> Page:
    """Load the page that is shipped, or the one in `folder`.

    Raises:
        ModelFileError: The files are missing or damaged.
    """
    from PIL import Image

    source = files("anysize.models.digits") / "page" if folder is None else folder
    try:
        truth = json.loads((source / "page.json").read_text(encoding="utf-8"))
        digits = tuple(PageDigit(**entry) for entry in truth["digits"])
        with Image.open(io.BytesIO((source / "page.png").read_bytes())) as picture:
            grey = np.asarray(picture.convert("L"), np.uint8)
    except (OSError, ValueError, TypeError, KeyError) as exc:
        raise ModelFileError(
            f"page {source}: cannot be read: {type(exc).__name__}; install anysize again, or "
            "compose a page with tools/digits of its repository"
        ) from exc
    return Page.from_grey(grey, digits)
