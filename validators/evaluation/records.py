"""What an evaluation has found so far, on disk: an interrupted one goes on where it stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from anysize.errors import UsageError
from anysize.files import atomic_output, read_regular

__all__ = ["ROW", "TOP", "Measurement", "NoAnswer", "Record", "Rows"]

TOP: Final = 5
# One image: its class in the dataset, the strongest outputs, and the seconds of its run.
ROW: Final = np.dtype([("label", "<i4"), ("top", "<i4", (TOP,)), ("run_s", "<f4")])
Rows = NDArray[np.void]
_BLOCK: Final = 1 << 15
_MOST_BYTES: Final = 1 << 22


class NoAnswer(IntEnum):
    """What stands for the strongest output of an image that has none."""

    BROKEN = -1
    REFUSED = -2
    NOT_FINITE = -3
    # Fewer outputs than `TOP`.
    NONE = -4


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a session took.

    Attributes:
        run_s: Seconds of each timed run.
        peak_bytes: The most memory that its process held; None where that is not known.
        ran_on: Providers and how many nodes each executed, as the runtime tells it.
    """

    run_s: Annotated[tuple[Annotated[float, Meta(ge=0)], ...], Meta(min_length=1)]
    peak_bytes: int | None
    ran_on: str


@dataclass(frozen=True, slots=True)
class Record:
    """The files of one model at one size on one runtime.

    Attributes:
        folder: Where they lie.
        key: A hash of everything that the numbers depend on.
    """

    folder: Path
    key: str

    def count(self, *, most: int) -> int:
        """Return how many images are done; what was half-written when it stopped is cut off."""
        path = self._rows
        if not path.exists():
            return 0
        done = path.stat().st_size // ROW.itemsize
        done = 0 if done > most else done
        with path.open("r+b") as stream:
            stream.truncate(done * ROW.itemsize)
        return done

    def appending(self) -> BinaryIO:
        """Open the file of images for `ndarray.tofile`, or create it."""
        return self._rows.open("ab")

    def blocks(self) -> Iterator[Rows]:
        """Yield what is known of the images, in their order, so many at a time."""
        with self._rows.open("rb") as stream:
            while data := stream.read(_BLOCK * ROW.itemsize):
                yield np.frombuffer(data, ROW)

    def keep(self, measured: Measurement) -> None:
        """Write what the session took, whole or not at all."""
        with atomic_output(self._measured) as stream:
            stream.write(msgspec.json.encode(measured))

    def kept(self) -> Measurement | None:
        """Read what `keep` wrote; None where there is nothing of use."""
        with suppress(UsageError, msgspec.DecodeError):
            written = read_regular(self._measured, most=_MOST_BYTES)
            return msgspec.json.decode(written, type=Measurement)
        return None

    @property
    def _rows(self) -> Path:
        return self.folder / f"{self.key}.rows"

    @property
    def _measured(self) -> Path:
        return self.folder / f"{self.key}.json"
