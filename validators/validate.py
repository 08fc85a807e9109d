"""Validate one ONNX file against its original: runtimes × sizes × batches → report."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata as packages
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from anysize.errors import UnsupportedModelError, UsageError
from anysize.sizes import Size, SizeRange
from anysize.validators.auto_sizes import auto_sizes
from anysize.validators.budget import Tolerance
from anysize.validators.cases import Case, plan_cases
from anysize.validators.expectation import (
    Arbiter,
    ImageSpec,
    compute_expectations,
    given_case,
    make_inputs,
)
from anysize.validators.opening import open_runtime
from anysize.validators.passes import run_opened
from anysize.validators.references import Reference, choose_reference, module_device
from anysize.validators.report import (
    ModelRecord,
    PackageVersion,
    ReferenceRecord,
    Report,
)
from anysize.validators.runtimes import Runtime, get_runtime
from anysize.validators.spool import Spool

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from anysize.surgery.metadata import FileMetadata
    from anysize.validators.worker import Limits

__all__ = ["Progress", "image_spec", "validate_model"]

_FLOAT16 = 10  # onnx.TensorProto.FLOAT16
_PACKAGES = (
    "anysize",
    "iree-base-compiler",
    "iree-base-runtime",
    "mnn",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "torch",
    "tract",
)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a validation stands: `done` of `total` runs, and what runs now."""

    done: int
    total: int
    text: str


def validate_model(
    path: Path | str,
    reference: Reference | nn.Module | Path | str,
    *,
    runtimes: Sequence[str | Runtime] = ("ort-cpu",),
    sizes: Sequence[Size] | Literal["auto"] = "auto",
    batches: Sequence[int] = (1, 2),
    seed: int = 0,
    atol: float | None = None,
    rtol: float | None = None,
    arbiter: Arbiter = "float64",
    name: str = "",
    threads: int = 0,
    limits: Limits | None = None,
    tf32: bool = False,
    inputs: Mapping[str, NDArray[np.generic]] | None = None,
    bisect: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Compare an ONNX file with its original on every runtime, size and batch.

    The reference is computed once for each size and batch; every runtime then runs them all on one
    session, from the smallest to the largest size and back. Images and outputs wait on disk, so
    memory does not grow with the number of sizes.

    Args:
        path: The file under test.
        reference: Its original: a module in evaluation mode, another ONNX file, or a ready
            reference. A fully convolutional file against an original with an FC head is compared
            window by window.
        runtimes: Names of `anysize.validators.runtimes.known_runtimes()`, each of which runs in a
            worker process; or runtimes of the caller's own, which run in this one.
        sizes: Of the images, or `auto`.
        batches: Numbers of images.
        seed: Of the images.
        atol: With `rtol`, replaces the error budget by |y − ref| ≤ atol + rtol · |ref|.
        rtol: See `atol`; either one alone makes the other 0.
        arbiter: `float64`, or `none` to let the float32 reference stand in for it.
        name: How the report calls a module.
        threads: Threads that one operator may use; 0 takes all that this process may use.
        limits: Of the worker processes of runtimes given by name; None for the default ones.
        tf32: Allow TF32 on the runtimes that have it, and judge them by its error profile.
        inputs: Arrays for the graph's inputs, by name; they replace seeded images, sizes and
            batches.
        bisect: A folder. Each runtime's first failing cell is diagnosed, and its images are
            saved there.
        progress: Called before each run.

    Raises:
        ModelFileError: A file is unreadable, invalid or unsafe.
        UnsupportedModelError: The file takes something else than one float32 image.
        SourceError: The reference is in training mode, random, or does not run in float64.
        UsageError: An argument is malformed, or there is nothing to take sizes from.
        NotRunError: The reference ran out of memory.
    """
    from anysize.surgery import load_model, read_metadata, trained_size

    path = Path(path)
    tolerance = _tolerance(atol, rtol)
    _check(arbiter, seed)
    found = _found(runtimes, limits=limits, tf32=tf32)
    model = load_model(path, weights="in_file")
    metadata = read_metadata(model)
    images = image_spec(model, seed)
    threads = threads or _usable_cpus()
    original = choose_reference(model, reference, name=name, threads=threads)
    training = trained_size(model) or getattr(reference, "training_size", None)
    if inputs is not None:
        cases: tuple[Case, ...] = (given_case(inputs, images),)
    else:
        chosen = _auto(metadata, training) if sizes == "auto" else sizes
        cases = plan_cases(chosen, batches)
    is_half = "float16" in (metadata.precision, images.dtype) and _has_float16(model)
    rounded = _rounded(model, reference, name=name) if is_half else None
    # Each runtime loads, runs every case twice, and once on bright images.
    is_bright = inputs is None and not is_half
    steps = _Steps(progress, total=len(cases) + len(found) * (2 * len(cases) + 1 + is_bright))
    with Spool() as spool:
        try:
            expectations = compute_expectations(
                cases,
                original,
                images=images,
                declared=_declared(metadata),
                arbiter=arbiter,
                spool=spool,
                step=steps,
                training=training,
                rounded=rounded,
                given=inputs,
            )
        finally:
            original.close()
            if rounded is not None:
                rounded.close()
        results = []
        for runtime in found:
            steps(f"{runtime.name}: loading")
            opened = open_runtime(
                runtime, path, threads=threads, profile="float16" if is_half else ""
            )
            results.append(
                run_opened(
                    opened,
                    expectations,
                    images=images,
                    spool=spool,
                    tolerance=tolerance,
                    step=steps,
                )
            )
    report = Report(
        model=_model_record(path, model, metadata),
        reference=ReferenceRecord(
            original.name, original.kind, arbiter, device=module_device(reference)
        ),
        seed=seed,
        vacuity_seed=images.vacuity_seed,
        tolerance=str(tolerance) if tolerance else "",
        threads=threads,
        runtimes=tuple(result.record for result in results),
        packages=_package_versions(),
        cells=tuple(cell for result in results for cell in result.cells),
    )
    if bisect is None:
        return report
    from anysize.validators.diagnosis import bisect_report

    return bisect_report(
        report,
        path,
        runtimes=found,
        inputs_of=lambda cell: (
            inputs or make_inputs(Case(cell.size, cell.batch, cell.is_bright), images, seed)
        ),
        folder=bisect,
        step=steps,
    )


def _check(arbiter: str, seed: int) -> None:
    if arbiter not in ("float64", "none"):
        raise UsageError(f"arbiter {arbiter!r}: expected float64 or none")
    if seed < 0:
        raise UsageError(f"seed {seed}: expected a whole number from 0 on")


def _found(
    runtimes: Sequence[str | Runtime], *, limits: Limits | None, tf32: bool
) -> list[Runtime]:
    if not runtimes:
        raise UsageError("no runtime to validate on; give for example --runtimes ort-cpu")
    return [get_runtime(r, limits=limits, tf32=tf32) if isinstance(r, str) else r for r in runtimes]


def _model_record(path: Path, model: onnx.ModelProto, metadata: FileMetadata) -> ModelRecord:
    from anysize.surgery.graph import opset_version

    return ModelRecord(
        path=path.as_posix(),
        sha256=_sha256(path),
        opset=opset_version(model),
        head=metadata.head,
        min_size=metadata.min_size,
        max_size=metadata.max_size,
    )


class _Steps:
    """Counts runs and passes them on to the caller's progress."""

    def __init__(self, progress: Callable[[Progress], None] | None, *, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def __call__(self, text: str) -> None:
        if self._progress is not None:
            self._progress(Progress(self._done, self._total, text))
        self._done += 1


def _tolerance(atol: float | None, rtol: float | None) -> Tolerance | None:
    for option, value in (("atol", atol), ("rtol", rtol)):
        if value is not None and not (math.isfinite(value) and value >= 0.0):
            raise UsageError(f"--{option} {value}: expected a number from 0 on")
    if atol is None and rtol is None:
        return None
    return Tolerance(atol or 0.0, rtol or 0.0)


def _rounded(
    model: onnx.ModelProto, reference: Reference | nn.Module | Path | str, *, name: str
) -> Reference | None:
    """Make the reference with float16 weights; None where the original is no module."""
    if isinstance(reference, (str, Path, Reference)):
        return None
    from anysize.validators.references.rounded import rounded_copy

    return choose_reference(model, rounded_copy(reference), name=name)


def _has_float16(model: onnx.ModelProto) -> bool:
    """Whether a file that says half precision has any: its word alone buys no larger budget."""
    return any(tensor.data_type == _FLOAT16 for tensor in model.graph.initializer)


def _declared(metadata: FileMetadata) -> SizeRange | None:
    if metadata.min_size is None and metadata.max_size is None:
        return None
    return SizeRange(metadata.min_size or Size(1, 1), metadata.max_size)


def image_spec(model: onnx.ModelProto, seed: int) -> ImageSpec:
    """Say which images a graph takes, and whether it takes regions of them.

    Raises:
        UnsupportedModelError: It takes something else than one image in float32 or float16, and
            behind it perhaps float32 regions `rois` `(count, 5)`.
    """
    import onnx

    from anysize.surgery.graph import image_input

    image = image_input(model)
    filled = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in filled]
    others = [value for value in inputs if value.name != image.name]
    rois = others[0].name if others and inputs[0] is image and _is_regions(others[0]) else None
    others = others[1:] if rois else others
    if others:
        raise UnsupportedModelError(
            f"input {others[0].name!r}: cannot be made up; expected a graph whose only input is "
            f"the image, {image.name!r}, or the image and then float32 rois (count, 5)"
        )
    declared = image.type.tensor_type
    dtype = {onnx.TensorProto.FLOAT: "float32", _FLOAT16: "float16"}.get(declared.elem_type)
    if dtype is None:
        got = onnx.TensorProto.DataType.Name(declared.elem_type)
        raise UnsupportedModelError(
            f"input {image.name!r}: is {got}, expected FLOAT or FLOAT16; keep the input in float32"
        )
    channels = declared.shape.dim[1].dim_value
    if not 1 <= channels <= 65536:
        raise UnsupportedModelError(
            f"input {image.name!r}: channels are {channels or 'not declared'}, expected a number "
            "from 1 to 65536 in axis 1"
        )
    return ImageSpec(image.name, channels, seed, seed + 1, rois, dtype)


def _is_regions(value: onnx.ValueInfoProto) -> bool:
    """Whether an input is `rois`: batch index, x1, y1, x2, y2 in pixels, for any count of them."""
    declared = value.type.tensor_type
    dims = declared.shape.dim
    is_float = declared.elem_type == 1  # onnx.TensorProto.FLOAT
    is_free = len(dims) == 2 and dims[0].dim_value == 0 and dims[1].dim_value == 5
    return value.name == "rois" and is_float and is_free


def _auto(metadata: FileMetadata, training: Size | None) -> tuple[Size, ...]:
    if training is None:
        raise UsageError(
            "sizes auto: neither the file nor the reference says its training size; give --sizes"
        )
    return auto_sizes(
        training,
        legal=_declared(metadata),
        stride=metadata.map_stride,
        is_interval=metadata.head == "fc",
    )


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _package_versions() -> tuple[PackageVersion, ...]:
    found = []
    for package in _PACKAGES:
        try:
            found.append(PackageVersion(package, packages.version(package)))
        except packages.PackageNotFoundError:
            continue
    return tuple(found)
