"""Compare an ONNX file with its original on runtimes, sizes and batches."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from anysize.errors import NotRunError, UsageError
from anysize.sizes import AnySize, to_sizes
from anysize.verbs.original import find_original, other_weights
from anysize.verbs.progress import Progress, silent, validation_progress
from anysize.words import one_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from anysize.validators import Report, ValidationSpec
    from anysize.validators.judging import PerOutput

__all__ = ["files_of", "validate", "validate_file"]


def validate(
    model: Path | str,
    reference: str | Path | nn.Module | None = None,
    *,
    weights: Path | str | None = None,
    model_args: Mapping[str, object] | None = None,
    runtimes: str | Sequence[str] = "ort-cpu",
    sizes: AnySize | Sequence[AnySize] = "auto",
    batches: Sequence[int] | int = (1, 2),
    seed: int = 0,
    atol: PerOutput | None = None,
    rtol: PerOutput | None = None,
    arbiter: str = "float64",
    reference_device: Literal["cpu", "cuda"] = "cpu",
    tf32: bool = False,
    half: bool = False,
    bright: bool = True,
    inputs: Path | str | Mapping[str, NDArray[np.generic]] | None = None,
    bisect: Path | str | None = None,
    progress: Progress = silent,
) -> Report:
    """Run an ONNX file on each runtime at each size and batch, and judge it by its original.

    Args:
        model: The file under test.
        reference: A SOURCE, another ONNX file, or a module in evaluation mode. Left out, the
            model that the file's metadata name is built anew.
        weights: A checkpoint for the reference.
        model_args: What the reference is called with, such as `{"num_classes": 12}`.
        runtimes: Names as in `anysize runtimes`, a list or comma-separated, or `all`.
        sizes: Image sizes: `auto`, a list such as `224x224,256x320`, or a sequence of sizes; one
            is a Size, text, (height, width), or a number for a square.
        batches: Numbers of images.
        seed: What the images are drawn from.
        atol: With `rtol`, replaces the error budget by |y − ref| ≤ atol + rtol·|ref|, for all
            outputs or for those that are named: `{"map": 1e-3}`; the name "" stands for all that
            are not.
        rtol: The relative part of that tolerance.
        arbiter: `float64`, or `none` to judge by the float32 reference alone.
        reference_device: Where PyTorch computes a reference that SOURCE names; a module in memory
            stays where it is.
        tf32: Allow TF32 on the runtimes that have it, and judge them by its error profile.
        half: Judge a file with float16 weights by the error profile `float16`; one that says so
            itself, or takes float16 images, is anyway.
        bright: Add a case of other images, eight times as bright; a network that is quantised for
            images of the usual brightness may saturate there by design.
        inputs: Arrays for the graph's inputs, by name, or an `.npz` file of them; they replace
            sizes and batches.
        bisect: A folder. The first failing cell of each runtime is diagnosed: the first tensor
            where it leaves the budget; the cell's images are saved there as `.npz`.
        progress: Told how far it is.

    Raises:
        AnysizeError: A subclass says what cannot be used. What a runtime does wrong is no error
            but a cell of the report.
    """
    from anysize.validators import ValidationSpec, parse_runtimes

    spec = ValidationSpec(
        runtimes=parse_runtimes(runtimes if isinstance(runtimes, str) else ",".join(runtimes)),
        sizes=to_sizes(sizes),
        batches=batches,
        seed=seed,
        atol=atol,
        rtol=rtol,
        arbiter=arbiter,
        tf32=tf32,
        half=half,
        amplified=bright,
        inputs=_inputs(inputs),
        bisect=None if bisect is None else Path(bisect),
    )
    return validate_file(
        model,
        reference,
        spec,
        weights=weights,
        model_args=model_args,
        device=reference_device,
        progress=progress,
    )


def validate_file(
    model: Path | str,
    reference: str | Path | nn.Module | None,
    spec: ValidationSpec,
    *,
    weights: Path | str | None = None,
    model_args: Mapping[str, object] | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> Report:
    """Find the original of a file, and compare them as `spec` says.

    Args:
        model: The file under test.
        reference: The original, as `validate` takes it.
        spec: What to compare on, and how to judge.
        weights: A checkpoint for the reference.
        model_args: What the reference is called with.
        device: Where PyTorch computes a reference that SOURCE names.
        progress: Told how far it is.

    Raises:
        AnysizeError: See `validate`.
    """
    from anysize.surgery import load_model
    from anysize.surgery.shapes import refuse_oversized
    from anysize.validators import validate_model

    if not isinstance(model, (str, os.PathLike)):
        raise UsageError(f"model: got {type(model).__name__}, expected the path of an ONNX file")
    model = Path(model)
    if spec.bisect is not None:
        _require_folder(spec.bisect)
    loaded = load_model(model, weights="in_file")
    refuse_oversized(loaded, model)
    if reference is None or (isinstance(reference, str) and not reference.endswith(".onnx")):
        progress(0, 0, "building the reference")
    found = find_original(model, loaded, reference, weights, model_args)
    original = found.model
    if device != "cpu":
        original = _moved(original, device)
    report = validate_model(
        model, original, spec, name=found.name, progress=validation_progress(progress)
    )
    report = replace(report, notes=(*report.notes, *found.notes))
    if reference is not None and not isinstance(reference, (str, Path)):
        return report  # no command line can name it
    if any(cell.verdict == "mismatch" for cell in report.cells):
        report = replace(report, notes=(*report.notes, *other_weights(loaded, original)))
    named = replace(
        report.reference,
        argument=str(reference or ""),
        weights=str(weights) if weights else "",
        model_args=json.dumps(model_args) if model_args else "",
    )
    return replace(report, reference=named)


def files_of(models: Iterable[Path]) -> list[Path]:
    """Return the files that ONNX models consist of, external weights among them."""
    from anysize.surgery import model_files

    return [path for model in models if model.suffix == ".onnx" for path in model_files(model)]


def _require_folder(folder: Path) -> None:
    """Refuse a folder that failing inputs could not be saved in, before any work is done."""
    if not folder.is_dir():
        raise UsageError(f"bisect {folder}: is no folder; create it first")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"bisect {folder.absolute()}: the folder is not writable")


def _moved(original: nn.Module | Path, device: str) -> nn.Module:
    """Move a reference to another device, on which PyTorch must really be able to compute."""
    if isinstance(original, Path):
        raise UsageError(
            f"--reference-device {device}: {original} is an ONNX file, whose reference is computed "
            "on the CPU; leave it out"
        )
    import torch

    try:
        moved = original.to(device)
        torch.ones(1, device=device).add_(1)
    except (RuntimeError, AssertionError) as exc:  # the latter where it was built without CUDA
        raise NotRunError(
            f"--reference-device {device}: PyTorch {torch.__version__} cannot compute there: "
            f"{one_line(exc)}"
        ) from exc
    return moved


def _inputs(
    inputs: Path | str | Mapping[str, NDArray[np.generic]] | None,
) -> Mapping[str, NDArray[np.generic]] | None:
    if inputs is None or isinstance(inputs, Mapping):
        return inputs
    from anysize.validators.diagnosis import load_inputs

    return load_inputs(Path(inputs))
