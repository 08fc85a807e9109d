"""Run a matrix of validations: each job in a process of its own, its report kept in a folder."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from anysize.errors import UsageError
from anysize.files import check_output_path, made_folder
from anysize.verbs.matrix_runs import died, run_in_processes, run_job, unusable
from anysize.verbs.progress import Progress, silent
from anysize.words import duration_text

if TYPE_CHECKING:
    from anysize.validators import JoinedReport
    from anysize.validators.report import Entry
    from anysize.verbs.matrix_runs import Job, MatrixPlan

__all__ = ["matrix", "plan_matrix"]


def matrix(
    config: Path | str,
    *,
    jobs: int = 1,
    engine: Literal["local", "ray"] = "local",
    resume: bool = False,
    folder: Path | str | None = None,
    check: Callable[[Sequence[Path]], object] | None = None,
    progress: Progress = silent,
) -> JoinedReport:
    """Validate everything that a TOML file names; one job that fails does not stop the others.

    Args:
        config: The file.
        jobs: Processes at once.
        engine: `local`, or `ray` to spread the jobs over a cluster.
        resume: Take over the reports of jobs that nothing has changed about since they ran.
        folder: Where each job's report and exported file are kept, by model and head;
            `CONFIG.reports` beside the file by default.
        check: Called with all files that the jobs read, before any work.
        progress: Told how far it is, and which jobs run.

    Raises:
        UsageError: The file is not understood, the folder cannot be used, an export would replace
            a file that a job reads, or ray is not installed.
    """
    from anysize.validators import JoinedReport
    from anysize.verbs.matrix_runs import input_files, installed_versions, job_keys, read_matrix

    config = Path(config)
    planned = read_matrix(config)
    if jobs < 1:
        raise UsageError(f"jobs {jobs}: expected a whole number from 1 on")
    inputs = [config, *(path for job in planned for path in input_files(job))]
    if check is not None:
        check(inputs)
    if engine == "ray":
        _require_ray()
        config = config.absolute()  # other machines have other working folders
        planned = read_matrix(config)
    folder = made_folder(_folder(config, folder))
    _refuse_overwriting(planned, folder, inputs)
    versions = installed_versions()
    keys = job_keys(planned, versions)
    entries = _kept(planned, folder, keys) if resume else {}
    # What cannot be used is said before the first job, and not after hours of others.
    entries |= {job: _refused(job, why) for job in planned if (why := unusable(job))}
    waiting = [job for job in planned if job not in entries]
    show = _Shown(progress, len(entries), len(planned), jobs)
    for job in planned:
        if (entry := entries.get(job)) is not None and entry.error:
            show(f"{job.name}: {entry.error}")
    show("starting")
    run = _ray if engine == "ray" else run_in_processes
    with contextlib.closing(run(waiting, jobs, folder, show.begins)) as finished:
        for job, entry in finished:
            entries[job] = entry
            # What did not come to a report, or whose files were changed meanwhile, is tried again.
            if entry.report is not None and job_keys([job], versions)[job] == keys[job]:
                _keep(folder, job, replace(entry, key=keys[job]))
            show.ends(job, entry)
    return JoinedReport(tuple(entries[job] for job in planned))


def plan_matrix(
    config: Path | str, *, resume: bool = False, folder: Path | str | None = None
) -> MatrixPlan:
    """Say what a matrix would do, without doing it: jobs, what stands in their way, and times.

    Args:
        config: The file.
        resume: Whether reports of jobs that nothing has changed about are taken over.
        folder: Where reports are kept; how long jobs took is read there, too.

    Raises:
        UsageError: The file is not understood.
    """
    from anysize.verbs.matrix_runs import job_keys, plan_jobs, read_matrix

    config = Path(config)
    planned, folder = read_matrix(config), _folder(config, folder)
    kept = _kept(planned, folder, job_keys(planned)) if resume else {}
    before = {job.name: entry.run_s for job in planned if (entry := _last(folder, job))}
    return plan_jobs(planned, kept=kept, took_s={name: s for name, s in before.items() if s})


class _Shown:
    """Tells how far a matrix is, which jobs run, and how long the rest will take."""

    def __init__(self, progress: Progress, done: int, total: int, at_once: int) -> None:
        self._progress, self._done, self._total = progress, done, total
        self._at_once = at_once
        self._running: list[str] = []
        self._took_s: list[float] = []

    def __call__(self, text: str) -> None:
        self._progress(self._done, self._total, text)

    def begins(self, job: Job) -> None:
        """Say which jobs run, now that one more does."""
        self._running.append(job.name)
        self(f"running {', '.join(self._running)}{self._left()}")

    def ends(self, job: Job, entry: Entry) -> None:
        """Say how a job ended, and which ones run."""
        self._done += 1
        self._took_s.append(entry.run_s)
        self._running.remove(job.name)
        others = f"; running {', '.join(self._running)}" if self._running else ""
        self(f"{job.name}: exit {entry.exit_code}{others}{self._left()}")

    def _left(self) -> str:
        """Estimate the rest by the jobs so far."""
        if not self._took_s:
            return ""
        mean = sum(self._took_s) / len(self._took_s)
        left_s = mean * (self._total - self._done) / self._at_once
        return f", {duration_text(left_s)} left" if left_s else ""


def _folder(config: Path, folder: Path | str | None) -> Path:
    return Path(folder) if folder is not None else config.with_suffix(".reports")


def _refused(job: Job, why: str) -> Entry:
    from anysize.validators.report import Entry

    return Entry(job.name, None, why, UsageError.exit_code)


def _refuse_overwriting(planned: Sequence[Job], folder: Path, inputs: Sequence[Path]) -> None:
    """Refuse a name that puts the export of one job in the place of what another reads."""
    for job in planned:
        if job.model.source:
            check_output_path(folder / job.exported_name, inputs=inputs)


def _require_ray() -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it reports to its makers otherwise
    try:
        importlib.import_module("ray")
    except ImportError as exc:
        raise UsageError(
            f"engine ray: ray is not installed ({exc}); pip install 'anysize[ray]'"
        ) from exc


def _ray(
    waiting: Sequence[Job], count: int, folder: Path, started: Callable[[Job], object]
) -> Generator[tuple[Job, Entry], None, None]:
    """Run jobs as tasks of a Ray cluster, or of one on this machine where there is none."""
    ray: Any = importlib.import_module("ray")
    ray.init(ignore_reinit_error=True, include_dashboard=False, log_to_driver=False)
    try:
        task = ray.remote(run_job).options(num_cpus=1, max_retries=0)
        queue = list(reversed(waiting))
        running: dict[Any, Job] = {}
        while queue or running:
            while queue and len(running) < count:
                job = queue.pop()
                running[task.remote(job, folder)] = job
                started(job)
            done, _ = ray.wait(list(running), num_returns=1)
            for reference in done:
                job = running.pop(reference)
                try:
                    entry = ray.get(reference)
                except ray.exceptions.RayError:
                    entry = died(job)
                yield job, entry
    finally:
        ray.shutdown()


def _keep(folder: Path, job: Job, entry: Entry) -> None:
    from anysize.files import atomic_output
    from anysize.validators import JoinedReport

    with atomic_output(folder / job.report_name) as stream:
        stream.write(JoinedReport((entry,)).to_json().encode(errors="backslashreplace"))


def _last(folder: Path, job: Job) -> Entry | None:
    """Read what a job came to the last time, whatever has changed since."""
    from anysize.validators.report import read_report

    try:
        entries = read_report(folder / job.report_name).entries
    except UsageError:
        return None
    return entries[0] if len(entries) == 1 else None


def _kept(planned: Sequence[Job], folder: Path, keys: Mapping[Job, str]) -> dict[Job, Entry]:
    """Read the reports of jobs that nothing has changed about."""
    found = {job: _last(folder, job) for job in planned}
    return {job: entry for job, entry in found.items() if entry and entry.key == keys[job]}
