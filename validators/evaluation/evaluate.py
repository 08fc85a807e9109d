"""All rows of an evaluation: which jobs there are, what each came to, and what they add up to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from anysize.errors import NotRunError, UnsupportedModelError, UsageError
from anysize.sizes import Size
from anysize.validators.evaluation.candidate import Candidate
from anysize.validators.evaluation.dataset import Dataset, output_of_class
from anysize.validators.evaluation.evaluation import Accuracy, Evaluation, EvaluationRow, Timing
from anysize.validators.evaluation.job import EvaluationSpec, Job, run_job
from anysize.validators.evaluation.records import Measurement, Record
from anysize.validators.evaluation.scores import accuracy_of, broken_images
from anysize.validators.report import PackageVersion
from anysize.validators.run import machine, package_versions
from anysize.validators.worker import RuntimeInfo, list_runtimes

__all__ = ["evaluate_candidates", "evaluation_sizes"]

# Of the training size.
_AUTO, _QUICK = (0.75, 1.0, 1.5, 2.0, 3.0), (1.0, 2.0)
_NAMED_BROKEN = 20

Sizes = Sequence[Size] | Literal["auto", "quick"]
Show = Callable[[int, int, str], None]


def evaluation_sizes(sizes: Sizes, training: Size | None) -> tuple[Size, ...]:
    """Return the sizes of an evaluation: those given, or multiples of the training size.

    `auto` is 0.75, 1, 1.5, 2 and 3 times its sides; `quick` is 1 and 2 times.

    Raises:
        UsageError: The training size is not known.
    """
    if not isinstance(sizes, str):
        return tuple(dict.fromkeys(sizes))
    if training is None:
        raise UsageError(f"sizes {sizes}: no model says its training size; give --sizes")
    factors = _AUTO if sizes == "auto" else _QUICK
    found = (Size(int(training.height * f), int(training.width * f)) for f in factors)
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class _Done:
    """What a job came to."""

    record: Record
    status: Literal["ran", "rejected", "failed"]
    reason: str = ""
    measured: Measurement | None = None


@dataclass(frozen=True, slots=True)
class _Reference:
    """What answers are compared with, and what it came to."""

    job: Job
    done: _Done

    def record_for(self, candidate: Candidate) -> Record | None:
        """Return its answers, where it ran and has the candidate's classes as far as is known."""
        mine, other = self.job.candidate, candidate
        counts, names = {mine.classes, other.classes}, {mine.class_names, other.class_names}
        is_comparable = len(counts - {None}) < 2 and len(names - {None}) < 2
        return self.done.record if is_comparable and self.done.status == "ran" else None


def evaluate_candidates(
    candidates: Sequence[Candidate],
    sizes: Sequence[Size | None],
    spec: EvaluationSpec,
    folder: Path,
    *,
    dataset: Dataset | None = None,
    reference: Candidate | None = None,
    show: Show = lambda *_: None,
) -> Evaluation:
    """Run every candidate at every size on every runtime, each in a process of its own.

    Args:
        candidates: The files.
        sizes: Image sizes; None takes each image as it is.
        spec: How to run them.
        folder: Keeps what has been found; what is there already is taken over.
        dataset: Labelled images; without them time and memory are measured alone.
        reference: What the answers shall agree with, at the size that it was made for.
        show: Told how far it is.

    Raises:
        UsageError: The classes are not the model's, or no image can be read.
        UnsupportedModelError: A model has no output of scores.
    """
    infos = list_runtimes(spec.runtimes)
    jobs = [
        Job(candidate, info, size, spec.fit)
        for candidate in candidates
        for info in infos
        for size in sizes
    ]
    original = _reference_job(reference, infos[0], sizes, spec) if dataset and reference else None
    ordered = [original, *jobs] if original else jobs
    if dataset is not None:
        _check_classes(ordered, dataset)
    records = [job.record(folder, spec, dataset) for job in ordered]
    keys = list(dict.fromkeys(record.key for record in records))
    each = dataset.count if dataset else 1
    done: dict[str, _Done] = {}
    for job, record in zip(ordered, records, strict=True):
        if record.key in done:  # the reference is one of the rows
            continue
        start = len(done) * each

        def shown(count: int, text: str, start: int = start) -> None:
            show(start + count, each * len(keys), text)

        done[record.key] = _run(job, spec, dataset, record, shown)
    agreed = _Reference(original, done[records[0].key]) if original else None
    found = zip(jobs, records[len(ordered) - len(jobs) :], strict=True)
    rows = tuple(_row(job, done[one.key], spec, dataset, agreed) for job, one in found)
    ran = next((one for one in done.values() if one.status == "ran"), None)
    count, broken = (
        broken_images(ran.record, dataset, _NAMED_BROKEN) if ran and dataset else (0, ())
    )
    return Evaluation(
        data=str(dataset.path) if dataset else "",
        images=dataset.count if dataset else 0,
        classes=len(dataset.classes) if dataset else 0,
        broken=broken,
        broken_count=count,
        fit=spec.fit if dataset else "",
        reference=f"{original.candidate.label} at {original.size}" if original else "",
        models=tuple(dict.fromkeys(one.facts() for one in candidates)),
        rows=rows,
        runtimes=tuple(PackageVersion(info.name, info.version) for info in infos),
        threads=spec.threads,
        machine=machine(),
        packages=package_versions(),
        notes=_notes(agreed, candidates),
    )


def _reference_job(
    reference: Candidate, info: RuntimeInfo, sizes: Sequence[Size | None], spec: EvaluationSpec
) -> Job:
    """Let the reference see the images at the size it was made for, or else at the first one."""
    size = reference.training or next((size for size in sizes if size), None)
    if size is None:
        raise UsageError(
            f"reference {reference.label}: does not say its training size; give another"
        )
    fit = "crop" if spec.fit == "none" else spec.fit
    return Job(reference, info, size, fit)


def _check_classes(jobs: Sequence[Job], dataset: Dataset) -> None:
    """Refuse classes that do not fit, where a file says how many it has, before anything runs."""
    for job in jobs:
        candidate = job.candidate
        if len(candidate.inputs.names) > 1:
            raise UnsupportedModelError(
                f"{candidate.label}: takes {', '.join(candidate.inputs.names)}, and data are images"
            )
        classes = candidate.file.metadata.classes
        if classes is not None:
            output_of_class(dataset, classes, candidate.class_names, candidate.label)


def _run(
    job: Job,
    spec: EvaluationSpec,
    dataset: Dataset | None,
    record: Record,
    show: Callable[[int, str], None],
) -> _Done:
    if job.size is not None and not job.candidate.takes(job.size):
        return _Done(record, "rejected", f"takes {job.candidate.legal}")
    if not job.runtime.is_available:
        return _Done(record, "failed", f"{job.runtime.reason}; {job.runtime.install}")
    try:
        return _Done(record, "ran", "", run_job(job, spec, dataset, record, show))
    except NotRunError as exc:
        return _Done(record, "failed", str(exc))


def _row(
    job: Job,
    done: _Done,
    spec: EvaluationSpec,
    dataset: Dataset | None,
    reference: _Reference | None,
) -> EvaluationRow:
    row = EvaluationRow(
        model=job.candidate.model,
        head=job.candidate.head,
        size=job.size,
        runtime=job.runtime.name,
        status=done.status,
        reason=done.reason,
    )
    if done.measured is None:
        return row
    accuracy = None
    if dataset is not None:
        agreed = reference.record_for(job.candidate) if reference else None
        accuracy = _accuracy(job.candidate, done.record, dataset, agreed)
    return replace(row, accuracy=accuracy, timing=_timing(done.measured, job.batch(spec)))


def _accuracy(
    candidate: Candidate, record: Record, dataset: Dataset, reference: Record | None
) -> Accuracy:
    outputs = output_of_class(dataset, None, candidate.class_names, candidate.label)
    names = candidate.class_names or ()
    if not names and sorted(outputs) == list(range(len(outputs))):
        names = tuple(dataset.classes[outputs.index(at)] for at in range(len(outputs)))
    try:
        return accuracy_of(record, outputs, names, dataset.classes, reference)
    except UsageError as exc:
        raise UsageError(
            f"data {dataset.path}: none of its {dataset.count} images can be read"
        ) from exc


def _timing(measured: Measurement, batch: int) -> Timing:
    low, median, high = map(float, np.quantile(measured.run_s, (0.25, 0.5, 0.75)))
    return Timing(
        batch=batch,
        runs=len(measured.run_s),
        latency_ms=median * 1e3,
        low_ms=low * 1e3,
        high_ms=high * 1e3,
        images_per_s=batch / median if median else 0.0,
        peak_memory_bytes=measured.peak_bytes,
        ran_on=measured.ran_on,
    )


def _notes(reference: _Reference | None, candidates: Sequence[Candidate]) -> tuple[str, ...]:
    if reference is None:
        return ()
    if reference.done.status != "ran":
        why = reference.done.reason
        return (f"no agreement: the reference {reference.job} did not run: {why}",)
    others = [one.label for one in candidates if reference.record_for(one) is None]
    return tuple(f"no agreement of {one}: its classes are not the reference's" for one in others)
