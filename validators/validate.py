"""Validate one ONNX file against its original: runtimes × sizes × batches → report."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anysize.errors import UsageError
from anysize.sizes import Size
from anysize.validators.inputs import (
    Case,
    GraphInputs,
    auto_sizes,
    float_outputs,
    given_case,
    graph_inputs,
    plan_cases,
)
from anysize.validators.judging import Tolerances
from anysize.validators.references import (
    Reference,
    choose_reference,
    module_device,
    own_training_size,
)
from anysize.validators.report import ReferenceRecord, Report
from anysize.validators.run import (
    CaseExpectation,
    Spool,
    Subject,
    compute_expectations,
    machine,
    open_runtime,
    package_versions,
    read_inputs,
    run_opened,
    usable_cpus,
)
from anysize.validators.runtimes import Runtime
from anysize.validators.spec import ValidationSpec
from anysize.validators.worker import get_runtime

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Progress", "validate_model"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a validation stands: `done` of `total` runs, and what runs now."""

    done: int
    total: int
    text: str


def validate_model(
    path: Path | str,
    reference: Reference | nn.Module | Path | str,
    spec: ValidationSpec | None = None,
    *,
    name: str = "",
    progress: Callable[[Progress], None] | None = None,
    **options: Any,
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
        spec: What to compare on, and how to judge.
        name: How the report calls a module.
        progress: Called before each run.
        **options: Fields of `ValidationSpec`, which replace those of `spec`.

    Raises:
        ModelFileError: A file is unreadable, invalid or unsafe.
        UnsupportedModelError: The file takes something else than one float32 image.
        SourceError: The reference is in training mode, random, or does not run in float64.
        UsageError: An argument is malformed, or there is nothing to take sizes from.
        NotRunError: The reference ran out of memory.
    """
    from anysize.surgery import trained_size

    spec = replace(spec or ValidationSpec(), **options)
    found = _found(spec)
    subject = Subject.read(Path(path))
    outputs = float_outputs(subject.model)
    tolerances = Tolerances.of(spec.atol, spec.rtol, outputs)
    signature = graph_inputs(subject.model, spec.seed)
    threads = spec.threads or usable_cpus()
    training = trained_size(subject.model) or own_training_size(reference)
    given: Mapping[str, NDArray[np.generic]] | None = None
    if spec.inputs is not None:
        case, given = given_case(spec.inputs, signature)
        cases: tuple[Case, ...] = (case,)
    else:
        signature.require_made()
        sizes = _auto(subject, training) if spec.sizes == "auto" else spec.sizes
        cases = plan_cases(sizes, spec.batches)
    is_half = _is_half(subject, signature, is_asked_for=spec.half)
    is_amplified = spec.amplified and given is None and not is_half
    # Each runtime loads, runs every case twice, and once on amplified images.
    steps = _Steps(progress, total=len(cases) + len(found) * (2 * len(cases) + 1 + is_amplified))
    notes = []
    if subject.has_float16 and not is_half:
        notes.append("most weights are float16; --half judges the file as half precision")
    if not is_amplified and given is None:
        reason = ": half precision may overflow on them" if spec.amplified else ", by request"
        notes.append(f"no case has brighter images{reason}")
    with Spool() as spool:
        original = choose_reference(subject.model, reference, name=name, threads=threads)
        with (
            contextlib.closing(original),
            _rounded(subject, reference, is_half=is_half) as rounded,
        ):
            expectations = compute_expectations(
                cases,
                original,
                spec=signature,
                declared=subject.declared,
                arbiter=spec.arbiter,
                spool=spool,
                step=steps,
                training=training,
                rounded=rounded,
                given=given,
                is_asked_for=spec.sizes != "auto",
                bright=is_amplified,
                note=notes.append,
            )
        results = []
        for runtime in found:
            steps(f"{runtime.name}: loading")
            profile = "float16" if is_half else ""
            opened = open_runtime(runtime, subject.path, threads=threads, profile=profile)
            results.append(
                run_opened(
                    opened,
                    expectations,
                    spec=signature,
                    spool=spool,
                    tolerances=tolerances,
                    step=steps,
                )
            )
        subject.require_unchanged()
        report = Report(
            model=subject.record(),
            reference=ReferenceRecord(
                original.name, original.kind, spec.arbiter, device=module_device(reference)
            ),
            seed=spec.seed,
            vacuity_seed=signature.vacuity_seed,
            tolerance=str(tolerances),
            threads=threads,
            runtimes=tuple(result.record for result in results),
            packages=package_versions(),
            cells=tuple(cell for result in results for cell in result.cells),
            notes=(*notes, *_notes(expectations, outputs)),
            machine=machine(),
        )
        if spec.bisect is None:
            return report
        from anysize.validators.diagnosis import bisect_report

        return bisect_report(
            report,
            subject.path,
            runtimes=found,
            inputs_of=lambda cell: read_inputs(
                spool, Case(cell.size, cell.batch, cell.is_bright), signature
            ),
            folder=spec.bisect,
            step=steps,
        )


def _found(spec: ValidationSpec) -> list[Runtime]:
    if not spec.runtimes:
        raise UsageError("no runtime to validate on; give for example --runtimes ort-cpu")
    return [
        get_runtime(one, limits=spec.limits, tf32=spec.tf32) if isinstance(one, str) else one
        for one in spec.runtimes
    ]


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
    subject: Subject, reference: Reference | nn.Module | Path | str, *, is_half: bool
) -> contextlib.AbstractContextManager[Reference | None]:
    """Make the reference with float16 weights; None where nothing asks for it, or has no weights.

    An original that is no module has none that could be rounded.
    """
    if not is_half or isinstance(reference, (str, Path, Reference)):
        return contextlib.nullcontext()
    from anysize.validators.references import rounded_copy

    return contextlib.closing(choose_reference(subject.model, rounded_copy(reference)))


def _is_half(subject: Subject, spec: GraphInputs, *, is_asked_for: bool) -> bool:
    """Whether the file is judged as half precision: where it is, and it or the user says so."""
    if is_asked_for and not subject.has_float16:
        raise UsageError(f"half: most weights of {subject.path} are float32; leave it out")
    says_so = "float16" in (subject.metadata.precision, spec.dtype)
    return subject.has_float16 and (is_asked_for or says_so)


def _auto(subject: Subject, training: Size | None) -> tuple[Size, ...]:
    if training is None:
        raise UsageError(
            "sizes auto: neither the file nor the reference says its training size; give --sizes"
        )
    return auto_sizes(
        training,
        legal=subject.declared,
        stride=subject.metadata.map_stride,
        is_interval=subject.metadata.head == "fc",
    )
