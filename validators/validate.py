"""Validate one ONNX file against its original: runtimes × sizes × batches → report."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata as packages
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from anysize.errors import ModelFileError, UsageError
from anysize.sizes import Size, SizeRange
from anysize.validators.auto_sizes import auto_sizes
from anysize.validators.budget import PerOutput, Tolerances
from anysize.validators.cases import Case, plan_cases
from anysize.validators.expectation import (
    Arbiter,
    CaseExpectation,
    compute_expectations,
    read_inputs,
)
from anysize.validators.opening import open_runtime
from anysize.validators.passes import run_opened
from anysize.validators.references import (
    Reference,
    choose_reference,
    module_device,
    own_training_size,
)
from anysize.validators.report import (
    ModelRecord,
    PackageVersion,
    ReferenceRecord,
    Report,
)
from anysize.validators.runtimes import Runtime, get_runtime
from anysize.validators.signature import float_outputs, given_case, graph_inputs
from anysize.validators.spool import Spool
from anysize.validators.words import cleaned

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from anysize.surgery.metadata import FileMetadata
    from anysize.validators.worker import Limits

__all__ = ["Progress", "validate_model"]

_COULD_BE_HALF = "most weights are float16; --half judges the file as half precision"
_FLOAT, _FLOAT16 = 1, 10  # onnx.TensorProto.FLOAT, FLOAT16
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
    batches: Sequence[int] | int = (1, 2),
    seed: int = 0,
    atol: PerOutput | None = None,
    rtol: PerOutput | None = None,
    arbiter: Arbiter = "float64",
    name: str = "",
    threads: int = 0,
    limits: Limits | None = None,
    tf32: bool = False,
    half: bool = False,
    bright: bool = True,
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
        atol: With `rtol`, replaces the error budget by |y − ref| ≤ atol + rtol · |ref|, for all
            outputs or for those that are named; the name "" stands for all that are not.
        rtol: See `atol`; either one alone makes the other 0.
        arbiter: `float64`, or `none` to let the float32 reference stand in for it.
        name: How the report calls a module.
        threads: Threads that one operator may use; 0 takes all that this process may use.
        limits: Of the worker processes of runtimes given by name; None for the default ones.
        tf32: Allow TF32 on the runtimes that have it, and judge them by its error profile.
        half: Judge a file with float16 weights by the error profile `float16`; one that says so
            itself, or takes float16 images, is anyway.
        bright: Add a case of other, brighter images.
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
    _check(arbiter, seed)
    found = _found(runtimes, limits=limits, tf32=tf32)
    model = load_model(path, weights="in_file")
    state, sha256 = _state(path, model), _sha256(path)
    outputs = float_outputs(model)
    tolerances = Tolerances.of(atol, rtol, outputs)
    metadata = read_metadata(model)
    spec = graph_inputs(model, seed)
    threads = threads or _usable_cpus()
    original = choose_reference(model, reference, name=name, threads=threads)
    training = trained_size(model) or own_training_size(reference)
    if inputs is not None:
        case, inputs = given_case(inputs, spec)
        cases: tuple[Case, ...] = (case,)
    else:
        spec.require_made()
        chosen = _auto(metadata, training) if sizes == "auto" else sizes
        cases = plan_cases(chosen, batches)
    has_float16 = _has_float16(model)
    if half and not has_float16:
        raise UsageError(f"half: most weights of {path} are float32; leave it out")
    is_half = has_float16 and (half or "float16" in (metadata.precision, spec.dtype))
    notes = [_COULD_BE_HALF] if has_float16 and not is_half else []
    rounded = _rounded(model, reference, name=name) if is_half else None
    # Each runtime loads, runs every case twice, and once on bright images.
    is_bright = bright and inputs is None and not is_half
    steps = _Steps(progress, total=len(cases) + len(found) * (2 * len(cases) + 1 + is_bright))
    if not bright and inputs is None:
        notes.append("no case has brighter images, by request")
    with Spool() as spool:
        try:
            expectations = compute_expectations(
                cases,
                original,
                spec=spec,
                declared=_declared(metadata),
                arbiter=arbiter,
                spool=spool,
                step=steps,
                training=training,
                rounded=rounded,
                given=inputs,
                is_asked_for=sizes != "auto",
                bright=bright,
                note=notes.append,
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
                    spec=spec,
                    spool=spool,
                    tolerances=tolerances,
                    step=steps,
                )
            )
        if _state(path, model) != state:
            raise ModelFileError(f"{path}: changed while it was validated; run again")
        report = Report(
            model=_model_record(path, model, metadata, sha256),
            reference=ReferenceRecord(
                original.name, original.kind, arbiter, device=module_device(reference)
            ),
            seed=seed,
            vacuity_seed=spec.vacuity_seed,
            tolerance=str(tolerances),
            threads=threads,
            runtimes=tuple(result.record for result in results),
            packages=_package_versions(),
            cells=tuple(cell for result in results for cell in result.cells),
            notes=(*notes, *_notes(expectations, outputs)),
            machine=_machine(),
        )
        if bisect is None:
            return report
        from anysize.validators.diagnosis import bisect_report

        return bisect_report(
            report,
            path,
            runtimes=found,
            inputs_of=lambda cell: read_inputs(
                spool, Case(cell.size, cell.batch, cell.is_bright), spec
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


def _notes(expectations: Sequence[CaseExpectation], outputs: Mapping[str, bool]) -> tuple[str, ...]:
    """Say what the reader of the verdicts has to know."""
    notes = []
    if all(one.rejection is not None for one in expectations):
        notes.append(f"the reference takes none of these inputs: {expectations[0].rejection}")
    if not any(outputs.values()):
        notes.append(
            "every output is a whole number, such as a label: two networks agree on most of them; "
            "let the file hand out its scores as well"
        )
    return tuple(notes)


def _state(path: Path, model: onnx.ModelProto) -> tuple[tuple[int, ...], ...]:
    """Return what changes with the files of a model: their numbers, sizes and times."""
    from anysize.surgery.tensors import all_tensors, is_external

    names = {
        entry.value
        for tensor in all_tensors(model)
        if is_external(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    files = (path, *(path.parent / name for name in sorted(names)))
    found: list[tuple[int, ...]] = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            found.append(())
            continue
        found.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)


def _model_record(
    path: Path, model: onnx.ModelProto, metadata: FileMetadata, sha256: str
) -> ModelRecord:
    from anysize.surgery.graph import opset_version

    return ModelRecord(
        path=path.as_posix(),
        sha256=sha256,
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


def _rounded(
    model: onnx.ModelProto, reference: Reference | nn.Module | Path | str, *, name: str
) -> Reference | None:
    """Make the reference with float16 weights; None where the original is no module."""
    if isinstance(reference, (str, Path, Reference)):
        return None
    from anysize.validators.references.rounded import rounded_copy

    return choose_reference(model, rounded_copy(reference), name=name)


def _has_float16(model: onnx.ModelProto) -> bool:
    """Whether most weights are in half precision: a file's word alone buys no larger budget."""
    counts = {_FLOAT16: 0, _FLOAT: 0}
    read = {name for node in model.graph.node for name in node.input}
    for tensor in model.graph.initializer:
        if tensor.name in read and tensor.data_type in counts:
            counts[tensor.data_type] += math.prod(tensor.dims)
    return counts[_FLOAT16] > counts[_FLOAT]


def _declared(metadata: FileMetadata) -> SizeRange | None:
    if metadata.min_size is None and metadata.max_size is None:
        return None
    return SizeRange(metadata.min_size or Size(1, 1), metadata.max_size)


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


def _machine() -> str:
    """Name the system, the architecture and the processor, as far as they are known."""
    found = [platform.system(), platform.machine()]
    with contextlib.suppress(OSError, UnicodeDecodeError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        models = (line.partition(":")[2] for line in lines if line.startswith("model name"))
        found.append(cleaned(next(models, "")))
    return ", ".join(filter(None, found))


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
