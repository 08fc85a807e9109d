"""Pictures as they are meant: turned upright, transparent parts over white, 16 bits as 16 bits."""

from __future__ import annotations

import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from anysize.errors import ModelFileError, UnsupportedModelError
from anysize.sizes import Size
from anysize.words import one_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

__all__ = ["Fit", "fitted", "pixels_of", "read_picture", "require_picture"]

Fit = Literal["crop", "resize", "none"]
# Steps of 16 bits for one of 8: 65535 / 255.
_STEPS = 257
# Formats whose whole numbers go up to 65535 where Pillow gives them more bits.
_SIXTEEN_BITS = ("PNG", "PPM")
# A picture of one row and a million columns would become one of a million rows.
_MOST_PIXELS = 1 << 26


def read_picture(path: Path, *, channels: int) -> Image:
    """Read an image file as a picture of one or three channels.

    It is turned as its EXIF orientation says; what is transparent is laid over white; colours
    become grey by their luminance. A picture of 16 bits keeps them: its mode is `F`, values from 0
    to 255 with fractions.

    Raises:
        ModelFileError: It cannot be read, or nothing says which of its values is white.
        UnsupportedModelError: A number of channels that no picture has.
    """
    from PIL import ImageOps

    if channels not in (1, 3):
        raise UnsupportedModelError(f"the graph takes {channels} channels, expected 1 or 3")
    with _opened(path) as picture:
        return _plain(ImageOps.exif_transpose(picture), picture.format, channels)


def require_picture(path: Path) -> None:
    """Refuse a file that is no image by its first bytes; the rest is not read.

    Raises:
        ModelFileError: It is none.
    """
    with _opened(path):
        pass


def fitted(picture: Image, size: Size, *, fit: Fit, crop: float, interpolation: str) -> Image:
    """Bring a picture to a size.

    Args:
        picture: As `read_picture` returns it.
        size: The size.
        fit: `resize`, whatever that does to its proportions; `crop`: resized until its sides times
            `crop` hold the size, as torchvision and timm do it, and cut out of the middle; `none`,
            as it is.
        crop: See `fit`.
        interpolation: A filter, as `Preprocessing` names them.
    """
    from PIL import Image

    how = Image.Resampling[interpolation.upper()]
    if fit == "none":
        return picture
    if fit == "resize":
        return picture.resize((size.width, size.height), how)
    wide, high = picture.size
    height, width = int(size.height / crop), int(size.width / crop)
    if height * wide >= width * high:  # the height decides
        width = max(height * wide // high, size.width)
    else:
        height = max(width * high // wide, size.height)
    if height * width > _MOST_PIXELS:
        raise ModelFileError(f"a picture of {high}x{wide} is too narrow to be cropped to {size}")
    top, left = round((height - size.height) / 2), round((width - size.width) / 2)
    whole = picture.resize((width, height), how)
    return whole.crop((left, top, left + size.width, top + size.height))


def pixels_of(picture: Image, *, channels: int) -> NDArray[np.float32]:
    """Return the values of a picture, (height, width, channels), 0 to 255, red first."""
    import numpy as np

    values = np.asarray(picture, np.float32)
    values = values[:, :, None] if values.ndim == 2 else values
    return np.repeat(values, channels, axis=2) if values.shape[2] < channels else values


@contextmanager
def _opened(path: Path) -> Iterator[Image]:
    """Open a file, and make one error of whatever its decoder trips over."""
    from PIL import Image

    try:
        _require_regular(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                yield picture
    except ModelFileError:
        raise
    except Exception as exc:  # decoders raise SyntaxError, struct.error, ValueError, …
        reason = getattr(exc, "strerror", None) or one_line(exc).replace(f" {str(path)!r}", "")
        raise ModelFileError(f"image {path}: cannot be read: {reason}") from exc


def _require_regular(path: Path) -> None:
    if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for somebody to write
        raise ModelFileError(f"image {path}: is no regular file; name a PNG or JPEG file")


def _plain(picture: Image, kind: str | None, channels: int) -> Image:
    """Return a picture in mode L or RGB, or F where it has more than 8 bits."""
    import numpy as np
    from PIL import Image

    if picture.mode.startswith("I;16") or (picture.mode == "I" and kind in _SIXTEEN_BITS):
        return Image.fromarray(np.asarray(picture, np.float32) / np.float32(_STEPS))
    if picture.mode in ("I", "F"):
        raise ValueError(f"its values, mode {picture.mode}, do not say which is white")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture).convert("RGB")
    return picture.convert("L" if channels == 1 else "RGB")
