"""Any `nn.Module` with an FC or pooled head as the original of a converted file.

The eager module itself is cut at its feature map: its first half is its own forward pass, stopped
at the map; its second half the same pass on images without numbers, into which a window is put in
the map's place. Nothing is traced, exported or written anew, and the halves are checked: on the
map of an image they have to give the module's own answer.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anysize.errors import DeclinedError, SourceError
from anysize.sizes import Size
from anysize.validators.inputs import make_images
from anysize.validators.references.eager.calls import CallMode, Stopped, record
from anysize.validators.references.eager.cut import Cut, find_cut
from anysize.validators.references.eager.module import ModulePair, module_name, to_arrays
from anysize.validators.references.protocol import Precision, Rejected
from anysize.words import one_line

if TYPE_CHECKING:
    from torch import nn

__all__ = ["EagerFc", "output_ranks"]

Array = NDArray[np.generic]

_WAY_OUT = "give --reference ORIGINAL.onnx"
_BATCH = 2
_SEED = 0
# The halves do what the whole does on the same numbers; a kernel may sum otherwise by alignment.
_MAX_ERROR = 4 * float(np.finfo(np.float32).eps)


class EagerFc:
    """A module in two halves: images → feature map, and windows of it → outputs.

    Args:
        module: In evaluation mode and float32; only run.
        name: How reports call it; its own name by default.
        size: The training size.
        channels: Channels of the image.
        slides_windows: An average over a window as large as the trained map belongs to the
            features, where it slides; it is a global one otherwise.

    Attributes:
        name: See above.
        window: The map that the head takes, at the training size; 1×1 behind a global average.

    Raises:
        SourceError: The module has no such halves, or they do not give what the whole gives.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        size: Size,
        channels: int,
        name: str = "",
        slides_windows: bool = False,
    ) -> None:
        self.name = name or module_name(module)
        self._pair = ModulePair(module, name=self.name)
        self._sides = (channels, size.height, size.width)
        self._cut = self._find(module, size, slides_windows=slides_windows)
        self.window = self._cut.window
        self._check(size)

    def features(self, images: Array, precision: Precision) -> Array | Rejected:
        """Compute the feature map of images of any size that the module takes so far."""
        answer = self._pair.call((images,), precision, method=lambda m: partial(self._stop, m))
        return answer if isinstance(answer, Rejected) else to_arrays(answer, self.name)[0]

    def head(self, windows: Array, precision: Precision) -> tuple[Array, ...]:
        """Run what stands behind the feature map on windows of one."""
        entries = windows.reshape(len(windows), *self._cut.entry_shape)
        return self._from(entries, precision, entry=self._cut.entry_at)

    def scores(self, windows: Array, precision: Precision) -> tuple[Array, ...]:
        """Run the head up to its Softmax, LogSoftmax or ArgMax."""
        if self._cut.scores_at is None:
            return self.head(windows, precision)
        entries = windows.reshape(len(windows), *self._cut.entry_shape)
        return self._from(entries, precision, entry=self._cut.entry_at, stop=self._cut.scores_at)

    def finish(self, scores: tuple[Array, ...], precision: Precision) -> tuple[Array, ...]:
        """Run the Softmax, LogSoftmax or ArgMax on `(batch, classes)`."""
        if self._cut.scores_at is None:
            return scores
        return self._from(scores[0], precision, entry=self._cut.scores_at)

    def close(self) -> None:
        """Drop the float64 copy."""
        self._pair.close()

    def _find(self, module: nn.Module, size: Size, *, slides_windows: bool) -> Cut:
        dtype = next((p.dtype for p in module.parameters()), torch.float32)
        try:
            recording = record(module, (_BATCH, *self._sides), dtype)
            return find_cut(recording, slides_windows=slides_windows)
        except DeclinedError as exc:
            raise SourceError(f"reference {self.name}: {exc}; {_WAY_OUT}") from exc
        except Exception as exc:  # the module's own code raises what it likes
            raise SourceError(
                f"reference {self.name}: its forward cannot be followed at {size} "
                f"({one_line(exc)}); {_WAY_OUT}"
            ) from exc

    def _stop(self, module: nn.Module, images: Tensor) -> Any:
        """Run the module on images up to its feature map."""
        if self._cut.map_at < 0:
            return images

        def visit(place: int, name: str, result: Any) -> Any:
            if name != self._cut.names[place]:
                raise SourceError(
                    f"reference {self.name}: takes another path at "
                    f"{images.shape[2]}x{images.shape[3]} ({name} in the place of "
                    f"{self._cut.names[place]}); {_WAY_OUT}"
                )
            if place == self._cut.map_at:
                raise Stopped(result)
            return result

        return _run_until_stopped(module, images, visit)

    def _from(
        self, entries: Array, precision: Precision, *, entry: int, stop: int | None = None
    ) -> tuple[Array, ...]:
        """Run the module from the call `entry` on, whose result is `entries`, up to `stop`."""

        def resume(module: nn.Module, values: Tensor) -> Any:
            def visit(place: int, _name: str, result: Any) -> Any:
                answer = values if place == entry else result
                if place == stop:
                    raise Stopped(answer)
                return answer

            if entry < 0:
                return _run_until_stopped(module, values, visit)
            image = torch.empty((len(values), *self._sides), dtype=values.dtype, device="meta")
            return _run_until_stopped(module, image, visit)

        answer = self._pair.call((entries,), precision, method=lambda m: partial(resume, m))
        if isinstance(answer, Rejected):
            raise SourceError(
                f"reference {self.name}: its head rejects {list(entries.shape)}: {answer.reason}; "
                f"{_WAY_OUT}"
            )
        try:
            arrays = to_arrays(answer, self.name)
        except NotImplementedError as exc:  # a tensor on the meta device has no numbers
            raise SourceError(
                f"reference {self.name}: its outputs depend on more than one feature map; "
                f"{_WAY_OUT}"
            ) from exc
        if any(array.ndim == 0 or len(array) != len(entries) for array in arrays):
            shapes = ", ".join(str(list(array.shape)) for array in arrays)
            raise SourceError(
                f"reference {self.name}: its head makes {shapes} of {len(entries)} windows, "
                f"expected one answer for each; {_WAY_OUT}"
            )
        return arrays

    def _check(self, size: Size) -> None:
        """Compare the halves with the whole on an image.

        Raises:
            SourceError: They differ, or what was taken for a global average is something else.
        """
        images = make_images(size, 1, channels=self._sides[0], seed=_SEED)
        seen: dict[int, Tensor] = {}

        def watch(place: int, _name: str, result: Any) -> Any:
            if place in (self._cut.map_at, self._cut.entry_at):
                seen[place] = result.clone()  # what follows may work in place
            return result

        answer = self._pair.call(
            (images,), "float32", method=lambda m: partial(_run_until_stopped, m, visit=watch)
        )
        if isinstance(answer, Rejected):
            raise SourceError(f"reference {self.name}: rejects its own size: {answer.reason}")
        whole = to_arrays(answer, self.name)
        entry = _array(seen, self._cut.entry_at, images)
        halves = self._from(entry, "float32", entry=self._cut.entry_at)
        if not all(map(_is_equal, whole, halves)) or len(whole) != len(halves):
            raise SourceError(
                f"reference {self.name}: cut at its feature map it answers otherwise than whole; "
                f"{_WAY_OUT}"
            )
        if self._cut.entry_at != self._cut.map_at:
            mean = _array(seen, self._cut.map_at, images).mean(axis=(2, 3), dtype=np.float64)
            if mean.size != entry.size or not _is_equal(mean.reshape(entry.shape), entry):
                raise SourceError(
                    f"reference {self.name}: pools otherwise than by the average of the whole map; "
                    f"{_WAY_OUT}"
                )


def output_ranks(module: nn.Module, *, size: Size, channels: int) -> list[int] | None:
    """Return how many axes each output of a module has; None where that cannot be followed.

    Args:
        module: In evaluation mode; only run, on an image without numbers.
        size: The training size.
        channels: Channels of the image.
    """
    dtype = next((p.dtype for p in module.parameters()), torch.float32)
    try:
        found = record(module, (_BATCH, channels, size.height, size.width), dtype)
    except Exception:  # the module's own code raises what it likes
        return None
    return [len(found.shapes[number]) for number in found.outputs]


def _run_until_stopped(module: nn.Module, images: Tensor, visit: Any) -> Any:
    try:
        with CallMode(visit):
            return module(images)
    except Stopped as stopped:
        return stopped.value


def _array(seen: dict[int, Tensor], place: int, images: Array) -> Array:
    return seen[place].cpu().numpy() if place >= 0 else images


def _is_equal(first: Array, second: Array) -> bool:
    if first.shape != second.shape:
        return False
    scale = float(np.max(np.abs(first), initial=0.0))
    error = float(np.max(np.abs(first.astype(np.float64) - second.astype(np.float64)), initial=0.0))
    return error <= _MAX_ERROR * scale
