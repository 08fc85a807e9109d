"""Validate one ONNX file against its original: runtimes × sizes × batches → report."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anysize.errors import UsageError
from anysize.validators.inputs import (
    Case,
    GraphInputs,
    declared_outputs,
    float_outputs,
    given_case,
    graph_inputs,
    plan_cases,
    saturated_outputs,
)
from anysize.validators.judging import QUANTISED, Tolerances
from anysize.validators.references import (
    Reference,
    choose_reference,
    module_device,
    own_training_size,
)
from anysize.validators.report import Cell, ReferenceRecord, Report
from anysize.validators.run import (
    FLOAT32,
    FLOAT64,
    LOADING,
    CaseExpectation,
    Expectations,
    FileUnderTest,
    Progress,
    Quantisation,
    Spool,
    Work,
    answer_label,
    ask_all,
    chosen_cases,
    in_range,
    machine,
    open_session,
    package_versions,
    quantisation_note,
    quantisation_records,
    required_sizes,
    run_sweeps,
    usable_cpus,
    validation_steps,
)
from anysize.validators.runtimes import Runtime
from anysize.validators.spec import ValidationSpec
from anysize.validators.worker import get_runtime

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Progress", "validate_model"]


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
    runtimes = _runtimes(spec)
    file = FileUnderTest.read(Path(path))
    outputs = float_outputs(file.model)
    tolerances = Tolerances.of(spec.atol, spec.rtol, outputs)
    signature = graph_inputs(file.model, spec.seed)
    threads = spec.threads or usable_cpus()
    spec = replace(spec, batches=file.asked_batches(spec.batches))
    training = trained_size(file.model) or own_training_size(reference)
    work = Work.of(file.model, training)
    given: Mapping[str, NDArray[np.generic]] | None = None
    if spec.inputs is not None:
        case, given = given_case(spec.inputs, signature)
        cases: tuple[Case, ...] = (case,)
    else:
        signature.require_made()
        cases = (
            chosen_cases(
                file, training, spec.batches, cost=work.cost, is_quick=spec.sizes == "quick"
            )
            if isinstance(spec.sizes, str)
            else plan_cases(spec.sizes, spec.batches)
        )
    is_half = _is_half(file, signature, is_asked_for=spec.half)
    is_quantised = file.is_quantised and not is_half
    is_amplified = spec.amplified and given is None and not is_half and not is_quantised
    if is_quantised:
        signature = in_range(file, signature)
    steps = validation_steps(
        progress,
        cases,
        file.declared,
        training,
        [runtime.name for runtime in runtimes],
        work,
        is_repeated=spec.is_repeated,
        is_amplified=is_amplified,
    )
    notes = []
    if file.has_float16 and not is_half:
        notes.append("most weights are float16; --half judges the file as half precision")
    if not is_amplified and given is None:
        kind = "half precision may overflow on them" if is_half else "the file rounds to a range"
        reason = f": {kind}" if spec.amplified else ", by request"
        notes.append(f"no case has brighter images{reason}")
    with contextlib.ExitStack() as stack:
        spool = stack.enter_context(Spool())
        original = choose_reference(
            file.model, reference, name=name, threads=threads, limits=spec.limits
        )
        stack.callback(original.close)
        quantisation = None
        if is_quantised:
            quantisation = Quantisation.of(file, original, reference, threads=threads)
        with _rounded(file, reference, is_half=is_half) as rounded:
            asked = Expectations(
                quantisation.own if quantisation else original,
                spool,
                signature,
                has_arbiter=spec.arbiter == "float64",
                arbitrates_all=is_half or given is not None,
                several={case.size for case in cases if case.batch > 1},
                trusts_whole_numbers=is_amplified,
                rounded=rounded,
                given=given,
                renamed=file.metadata.output_names,
            )
            expectations = ask_all(
                asked,
                cases,
                declared=file.declared,
                required=required_sizes(
                    file, reference, training, signature=signature, limits=spec.limits
                ),
                training=training,
                sizes=spec.sizes if isinstance(spec.sizes, str) else "",
                is_amplified=is_amplified,
                work=work,
                step=steps,
            )
        if quantisation is not None:
            expectations = quantisation.judged(expectations, asked, saturated_outputs(file.model))
        original.close()  # a cell that would fail asks it once more
        results = []
        for runtime in runtimes:
            steps(f"{runtime.name}: loading", LOADING, work.loading)
            profile = "float16" if is_half else QUANTISED if is_quantised else ""
            opened = open_session(runtime, file.path, threads=threads, profile=profile)
            results.append(
                run_sweeps(
                    opened,
                    expectations,
                    asked=asked,
                    tolerances=tolerances,
                    declared=declared_outputs(file.model),
                    saturated=saturated_outputs(file.model),
                    is_repeated=spec.is_repeated,
                    step=steps,
                    work=work,
                )
            )
        file.require_unchanged()
        costs = quantisation_records(expectations)
        report = Report(
            model=file.record(),
            reference=ReferenceRecord(
                original.name,
                original.kind if quantisation is None else QUANTISED,
                spec.arbiter,
                device=module_device(reference),
            ),
            seed=spec.seed,
            vacuity_seed=signature.vacuity_seed,
            tolerance=str(tolerances),
            threads=threads,
            runtimes=tuple(result.record for result in results),
            packages=package_versions(),
            cells=tuple(cell for result in results for cell in result.cells),
            notes=(
                *notes,
                *quantisation_note(costs, original.name),
                *asked.notes,
                *_notes(expectations, outputs),
            ),
            machine=machine(),
            quantisation=costs,
        )
        if report.ok:
            return report
        from anysize.validators.diagnosis import Arrays, bisect_report, blame_graph

        arrays = Arrays(
            lambda cell: spool.inputs(_case(cell)),
            lambda cell: spool.read(_case(cell), answer_label(cell.runtime)),
            lambda cell: spool.read(_case(cell), FLOAT64) or spool.read(_case(cell), FLOAT32),
        )
        if not is_quantised:  # whose layers are those of no original
            report = blame_graph(
                report, file.path, file.model, reference=original, arrays=arrays, step=steps
            )
        if spec.bisect is None:
            return report
        return bisect_report(
            report,
            file.path,
            runtimes=runtimes,
            inputs_of=arrays.inputs,
            folder=spec.bisect,
            step=steps,
        )


def _case(cell: Cell) -> Case:
    return Case(cell.size, cell.batch, cell.is_bright)


def _runtimes(spec: ValidationSpec) -> list[Runtime]:
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


def _rounded(
    file: FileUnderTest, reference: Reference | nn.Module | Path | str, *, is_half: bool
) -> contextlib.AbstractContextManager[Reference | None]:
    """Make the reference with float16 weights; None where nothing asks for it, or has no weights.

    An original that is no module has none that could be rounded.
    """
    if not is_half or isinstance(reference, (str, Path, Reference)):
        return contextlib.nullcontext()
    from anysize.validators.references import rounded_copy

    return contextlib.closing(choose_reference(file.model, rounded_copy(reference)))


def _is_half(file: FileUnderTest, spec: GraphInputs, *, is_asked_for: bool) -> bool:
    """Whether the file is judged as half precision: where it is, and it or the user says so."""
    if is_asked_for and not file.has_float16:
        raise UsageError(f"half: most weights of {file.path} are float32; leave it out")
    says_so = "float16" in (file.metadata.precision, spec.dtype)
    return file.has_float16 and (is_asked_for or says_so)
