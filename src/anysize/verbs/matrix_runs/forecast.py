"""What a matrix is going to do: its jobs, what stands in their way, and how long they take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from anysize.as_json import as_json
from anysize.errors import AnysizeError, SourceError, UsageError
from anysize.verbs.matrix_runs.plan import Job
from anysize.words import duration_text

__all__ = ["MatrixPlan", "PlannedJob", "plan_jobs", "unusable"]

# An export, with the start of its process, and what a layer adds: ResNet-18 and DenseNet-121.
_EXPORT_S, _EXPORT_LAYER_S = 5.0, 0.015


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """One job before it runs.

    Attributes:
        name: On the report.
        model: A SOURCE or a file.
        head: The head to export; "" for a file, or for the model's own.
        runtimes: The runtimes that it runs on.
        estimated_s: How long it will take, in seconds: as long as it took the last time, or an
            estimate; None where there is none.
        is_estimate: It never ran, and the time is one by multiply-adds, sizes and runtimes.
        is_kept: `--resume` takes its report over.
        problem: Why it cannot run; "" where nothing is known to stand in its way.
    """

    name: str
    model: str
    head: str
    runtimes: tuple[str, ...]
    estimated_s: float | None
    is_estimate: bool
    is_kept: bool
    problem: str


@dataclass(frozen=True, slots=True)
class MatrixPlan:
    """The jobs of a matrix.

    Attributes:
        jobs: In the order in which they begin.
    """

    jobs: tuple[PlannedJob, ...]

    @property
    def exit_code(self) -> int:
        """2 where a job cannot be used, else 0."""
        return UsageError.exit_code if any(job.problem for job in self.jobs) else 0

    @property
    def estimated_s(self) -> float:
        """What the jobs take together whose time is known, in seconds, one after another."""
        return sum(job.estimated_s or 0.0 for job in self.jobs if not job.is_kept)

    def to_json(self) -> str:
        """Return the plan as JSON."""
        return as_json(self)

    def to_text(self) -> str:
        """Return a line for each job, and one for all."""
        lines = [f"{job.name}: {_state(job)}, on {', '.join(job.runtimes)}" for job in self.jobs]
        open_ones = sum(job.estimated_s is None and not job.problem for job in self.jobs)
        more = f", and {open_ones} of unknown time" if open_ones else ""
        how = " by estimate" if any(job.is_estimate for job in self.jobs) else ""
        total = f"{duration_text(self.estimated_s)}{how}"
        return "\n".join([*lines, f"{len(self.jobs)} jobs: {total}{more}, one after another"])


def unusable(job: Job) -> str:
    """Say what stands in a job's way before it runs; "" where nothing does that is known."""
    from anysize.models import choose_head
    from anysize.sources import is_of_zoo
    from anysize.surgery import load_model

    model = job.model
    try:
        for name in (model.file, model.reference if model.reference.endswith(".onnx") else ""):
            if name:
                load_model(Path(name), weights="in_file")
        if model.weights and not Path(model.weights).is_file():
            return f"weights {model.weights}: no such file"
        if model.source and is_of_zoo(model.source):
            choose_head(model.source, job.head or None)
    except AnysizeError as exc:
        return str(exc)
    return ""


def plan_jobs(
    jobs: Sequence[Job], *, kept: Mapping[Job, object], took_s: Mapping[str, float]
) -> MatrixPlan:
    """Look at every job before the first runs.

    Args:
        jobs: The jobs.
        kept: Those whose reports are taken over.
        took_s: Name → how long a job took the last time, in seconds.
    """
    return MatrixPlan(
        tuple(_planned(job, is_kept=job in kept, took_s=took_s.get(job.name)) for job in jobs)
    )


def _planned(job: Job, *, is_kept: bool, took_s: float | None) -> PlannedJob:
    problem, estimated_s = unusable(job), took_s
    if not problem and not took_s:
        try:
            estimated_s = _of_file(job) if job.model.file else _of_source(job)
        except SourceError as exc:
            problem = str(exc)
        except Exception:  # noqa: S110  (an estimate is not worth a failure, of anybody's module)
            pass
    return PlannedJob(
        name=job.name,
        model=job.model.source or job.model.file,
        head=job.head,
        runtimes=tuple(str(runtime) for runtime in job.spec.runtimes),
        estimated_s=estimated_s,
        is_estimate=not took_s,
        is_kept=is_kept,
        problem=problem,
    )


def _of_file(job: Job) -> float:
    from anysize.validators.run import estimated_s

    return estimated_s(Path(job.model.file), job.spec)


def _of_source(job: Job) -> float:
    """Estimate what a source takes, its export included; it is built, and nothing is computed."""
    from anysize.models import choose_head, layer_count, multiply_adds, resolve
    from anysize.sizes import Size
    from anysize.sources import is_of_zoo
    from anysize.validators.run import estimated_before_s

    source, size = job.model.source, job.model.size
    model = resolve(
        source,
        head=choose_head(source, job.head or None) if is_of_zoo(source) else None,
        size=None if size is None else Size.of(size),
        arguments=job.model.model_args,
    )
    weights = sum(parameter.numel() for parameter in model.module.parameters())
    layers = layer_count(model.module)
    checked = estimated_before_s(multiply_adds(model), weights, model.training_size, job.spec)
    return _EXPORT_S + _EXPORT_LAYER_S * layers + checked


def _state(job: PlannedJob) -> str:
    if job.problem:
        return f"cannot run: {job.problem}"
    if job.is_kept:
        return "its report is taken over"
    if job.estimated_s is None:
        return "not estimated"
    return f"{duration_text(job.estimated_s)}{' by estimate' if job.is_estimate else ' last time'}"
