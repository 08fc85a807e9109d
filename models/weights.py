"""Checkpoints: read without executing anything, converted where the bytes are the same, checked.

Two formats are read: safetensors, and files of `torch.save` with `weights_only=True`. A linear
layer's `(O, C·h·w)` weight fits a convolution's `(O, C, h, w)` and the other way round: they
are the same bytes in the same order.
"""

from __future__ import annotations

import hashlib
import math
import warnings
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from anysize.errors import WeightsError
from anysize.words import cleaned, or_list

__all__ = ["Checkpoint", "load_tensors", "load_weights", "read_checkpoint", "state_sha256"]

# Where training scripts keep the state dict among optimiser state and epochs; the first that is
# there is taken, and the average over the training only where there is nothing else.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "ema")
# What DataParallel, Lightning and torch.compile put before the keys.
_PREFIXES = ("module.", "model.", "_orig_mod.")
_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_NAMED_PROBLEMS = 3


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The tensors of a file, by their names in it.

    Attributes:
        path: The file.
        tensors: On the CPU.
        notes: Which entry of the file they are, where they are one.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()

    def named_as(self, keys: Collection[str]) -> dict[str, Tensor]:
        """Return the tensors without what wrappers of a module put before every key.

        A prefix stays where a module's own `keys` begin with it.
        """
        tensors = dict(self.tensors)
        while keys and not tensors.keys() & keys:
            prefix = next((one for one in _PREFIXES if _is_before_all(one, tensors)), None)
            if prefix is None:
                break
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
        return tensors


def load_weights(module: nn.Module, path: Path) -> tuple[str, ...]:
    """Load a checkpoint into `module`, in place and strictly.

    An fc checkpoint fits the fcn, adaptive and resize heads, a gap checkpoint the cam head.
    float16, bfloat16 and float64 weights become the module's own type. On an error the module
    is left as it was.

    Args:
        module: On the CPU, allocated.
        path: safetensors or a torch file.

    Returns:
        What the user should know: which entry of the file was taken.

    Raises:
        WeightsError: The file is missing, damaged, holds anything but tensors, or does not fit:
            the first keys are named with got and expected, the others counted.
    """
    checkpoint = read_checkpoint(path)
    load_tensors(module, checkpoint)
    return checkpoint.notes


def state_sha256(module: nn.Module) -> str:
    """Return the SHA-256 of a module's weights and buffers, the same whatever file they came from.

    Names, types and bytes count; shapes do not, so that an FC layer and the convolution made of it
    have the same hash.
    """
    whole = hashlib.sha256()
    for name, value in sorted(module.state_dict().items(), key=itemgetter(0)):
        if not isinstance(value, Tensor):  # what a module adds by get_extra_state
            continue
        whole.update(f"{name.removeprefix('module.')}:{value.dtype}:{value.numel()};".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        if value.numel():
            whole.update(flat.view(torch.uint8).numpy().data)
    return whole.hexdigest()


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the tensors of a checkpoint by name, on the CPU; nothing in the file is executed.

    What training scripts save around them, `{"model_state_dict": …, "epoch": 3}`, is taken off.

    Raises:
        WeightsError: The file is missing, damaged or holds no tensors.
    """
    if path.is_dir():
        raise WeightsError(f"weights {path}: is a folder; name a safetensors or torch file")
    if not path.is_file():
        what = "is a device or a pipe; name a regular file" if path.exists() else "no such file"
        raise WeightsError(f"weights {path}: {what}")
    try:
        with path.open("rb") as stream:
            start = stream.read(9)
        tensors: object = _read_safetensors(path) if start[8:] == b"{" else _read_torch(path, start)
    except OSError as exc:
        reason = exc.strerror or _first_line(exc)
        raise WeightsError(f"weights {path}: cannot be read: {reason}") from exc
    tensors, taken, left = _unwrap(tensors)
    if not isinstance(tensors, Mapping) or not tensors:
        kind = type(tensors).__name__ if not isinstance(tensors, Mapping) else "nothing"
        raise WeightsError(
            f"weights {path}: got {kind}, expected a state dict; save module.state_dict()"
        )
    checked: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise WeightsError(
                f"weights {path}: {cleaned(key)!r} is a {type(value).__name__}, "
                "expected a tensor; save module.state_dict()"
            )
        checked[key] = value.detach()
    if not taken:
        return Checkpoint(path, checked)
    others = f"; {or_list(left)} has other weights, which are not used" if left else ""
    return Checkpoint(path, checked, (f"weights {path}: taken from its entry {taken}{others}",))


@torch.no_grad()
def load_tensors(module: nn.Module, checkpoint: Checkpoint) -> None:
    """Copy the tensors of a checkpoint into `module`, in place and strictly; see `load_weights`.

    Raises:
        WeightsError: A key is missing, unexpected, misshapen, not floating, or not finite.
    """
    # A user's module may keep extra state that is no tensor; it is not in a checkpoint of weights.
    state: Mapping[str, object] = module.state_dict()
    targets = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    tensors, path = checkpoint.named_as(targets.keys()), checkpoint.path
    problems: list[str] = []
    for key, target in targets.items():
        value = tensors.get(key)
        if value is not None:
            problems += _find_problems(key, value, target)
        elif key.endswith(".num_batches_tracked"):
            target.zero_()  # converters drop this counter; inference never reads it
        else:
            problems.append(f"{key} is missing, expected {_shape(target)}")
    problems += [
        f"{key} {_shape(value)} is unexpected"
        for key, value in tensors.items()
        if key not in targets
    ]
    if problems:
        rest = len(problems) - _NAMED_PROBLEMS
        more = f"; and {rest} more" if rest > 0 else ""
        named = "; ".join(cleaned(problem) for problem in problems[:_NAMED_PROBLEMS])
        raise WeightsError(f"weights {path} do not fit: {named}{more}")
    for key, target in targets.items():
        if key in tensors:
            target.copy_(tensors[key].reshape(target.shape))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, ValueError, KeyError, RuntimeError) as exc:
        raise WeightsError(f"weights {path}: damaged safetensors: {_first_line(exc)}") from exc


def _read_torch(path: Path, start: bytes) -> object:
    is_zip = start.startswith(b"PK")
    if not is_zip and not start.startswith(b"\x80"):
        raise WeightsError(f"weights {path}: is neither safetensors nor a torch file")
    if is_zip:
        _refuse_compressed(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    # The unpickler raises whatever a hostile stream provokes, from KeyError to RecursionError.
    except Exception as exc:
        if "weights_only" in str(exc).lower() or "Unsupported global" in str(exc):
            raise WeightsError(
                f"weights {path}: holds more than tensors, which would have to be executed; "
                "save module.state_dict()"
            ) from exc
        raise WeightsError(
            f"weights {path}: damaged torch file: {type(exc).__name__}: {_first_line(exc)}"
        ) from exc


def _refuse_compressed(path: Path) -> None:
    """torch.save never compresses: a file that unpacks to more than it holds is a zip bomb."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as exc:
        raise WeightsError(f"weights {path}: damaged torch file: {_first_line(exc)}") from exc
    if unpacked > path.stat().st_size:
        raise WeightsError(
            f"weights {path}: unpacks to {unpacked} bytes from {path.stat().st_size}; torch files "
            "are not compressed"
        )


def _unwrap(content: object) -> tuple[object, str, list[str]]:
    """Return the state dict within what was saved, the entry that it is, and others of its kind."""
    taken, left = "", list[str]()
    while isinstance(content, Mapping):
        found = [name for name in _WRAPPERS if isinstance(content.get(name), Mapping)]
        if not found:
            break
        content, taken = content[found[0]], f"{taken}[{found[0]!r}]"
        left += map(repr, found[1:])
    return content, taken, left


def _is_before_all(prefix: str, keys: Collection[str]) -> bool:
    return bool(keys) and all(key.startswith(prefix) for key in keys)


def _find_problems(key: str, value: Tensor, target: Tensor) -> list[str]:
    """Say why `value` cannot be copied into `target`; cheap checks first."""
    if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
        return [f"{key} is not a plain dense tensor"]
    if target.is_floating_point() and value.dtype not in _FLOATS:
        kind = str(value.dtype).removeprefix("torch.")
        return [f"{key} is {kind}, expected floating-point weights"]
    if not target.is_floating_point() and value.is_floating_point():
        return [f"{key} is {value.dtype}, expected whole numbers"]
    if value.shape != target.shape and not _is_same_layer(value, target):
        return [f"{key} got {_shape(value)}, expected {_shape(target)}{_hint(value, target)}"]
    if value.is_floating_point() and not bool(torch.isfinite(value).all()):
        return [f"{key} holds NaN or infinite values"]
    return []


def _is_same_layer(value: Tensor, target: Tensor) -> bool:
    """One is a linear layer's weight and the other a convolution's, with the same bytes."""
    return (
        {value.ndim, target.ndim} == {2, 4}
        and value.shape[0] == target.shape[0]
        and value.numel() == target.numel()
    )


def _hint(value: Tensor, target: Tensor) -> str:
    """Name the square map that a checkpoint's first FC layer was trained on, if it is one."""
    if target.ndim != 4 or value.ndim != 2 or value.shape[0] != target.shape[0]:
        return ""
    channels = target.shape[1]
    side = math.isqrt(int(value.shape[1]) // channels)
    if side < 1 or side * side * channels != value.shape[1]:
        return ""
    return f" (trained on a {side}x{side} map; give the training size)"


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(str(side) for side in tensor.shape)})"


def _first_line(exc: BaseException) -> str:
    lines = str(exc).strip().splitlines()
    return cleaned(lines[0]) if lines else type(exc).__name__
