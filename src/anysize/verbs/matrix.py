"""Run a matrix of validations: each job in a process of its own, its report kept in a folder."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from anysize.errors import AnysizeError, UsageError
from anysize.sizes import Size
from anysize.verbs.progress import Progress, silent

if TYPE_CHECKING:
    from anysize.validators import JoinedReport
    from anysize.validators.matrix_plan import Job
    from anysize.validators.report import Entry

__all__ = ["matrix"]


def matrix(
    config: Path | str,
    *,
    jobs: int = 1,
    engine: Literal["local", "ray"] = "local",
    resume: bool = False,
    folder: Path | str | None = None,
    progress: Progress = silent,
) -> JoinedReport:
    """Validate everything that a TOML file names; one job that fails does not stop the others.

    Args:
        config: The file.
        jobs: Processes at once.
        engine: `local`, or `ray` to spread the jobs over a cluster.
        resume: Take over the reports of jobs that nothing has changed about since they ran.
        folder: Where each job's report and exported file are kept; `CONFIG.reports` beside the
            file by default.
        progress: Told how far it is.

    Raises:
        UsageError: The file is not understood, the folder cannot be used, or ray is not installed.
    """
    from anysize.validators import JoinedReport
    from anysize.validators.matrix_plan import job_key, read_matrix

    config = Path(config)
    planned = read_matrix(config)
    if jobs < 1:
        raise UsageError(f"jobs {jobs}: expected a whole number from 1 on")
    if engine == "ray":
        _require_ray()
        config = config.absolute()  # other machines have other working folders
        planned = read_matrix(config)
    folder = Path(folder) if folder is not None else config.with_suffix(".reports")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as exc:
        raise UsageError(f"folder {folder}: cannot be made: {exc.strerror}") from exc
    keys = {job: job_key(job) for job in planned}
    entries: dict[Job, Entry] = {}
    if resume:
        for job in planned:
            with contextlib.suppress(UsageError):
                entries[job] = _kept(folder, keys[job])
    waiting = [job for job in planned if job not in entries]
    progress(len(entries), len(planned), "starting")
    run = _ray if engine == "ray" else _local
    for job, entry in run(waiting, jobs, folder):
        entries[job] = entry
        if entry.report is not None:  # what did not come to a report is tried again
            _keep(folder, keys[job], entry)
        progress(len(entries), len(planned), f"{job.name}: exit {entry.exit_code}")
    return JoinedReport(tuple(entries[job] for job in planned))


def run_job(job: Job, folder: Path) -> Entry:
    """Run one job in this process; whatever goes wrong is its entry."""
    from anysize.validators.report import Entry

    try:
        return _run(job, folder)
    except AnysizeError as exc:
        return Entry(job.name, None, str(exc), exc.exit_code)
    except MemoryError:
        return Entry(job.name, None, "out of memory; try smaller sizes or batches", 3)
    except Exception as exc:  # a bug of ours must not stop the other jobs
        return Entry(job.name, None, f"internal error: {type(exc).__name__}: {exc}", 2)


def _run(job: Job, folder: Path) -> Entry:
    from anysize.validators.report import Entry
    from anysize.verbs.export import export
    from anysize.verbs.validate import validate

    file = Path(job.file)
    if job.source:
        # It stays beside the reports: their commands that reproduce a cell name it.
        file = folder / f"{job.name.replace('/', '-').replace(':', '-')}.onnx"
        export(
            job.source,
            file,
            head=job.head or None,
            weights=job.weights or None,
            seed=job.seed,
            verify=False,
        )
    report = validate(
        file,
        job.reference or None,
        weights=job.weights or None,
        runtimes=job.runtimes,
        sizes="auto" if job.sizes == ("auto",) else [Size.parse(text) for text in job.sizes],
        batches=job.batches,
        seed=job.seed,
        atol=job.atol,
        rtol=job.rtol,
        arbiter=job.arbiter,
    )
    return Entry(job.name, report, "", report.exit_code)


def _local(waiting: Sequence[Job], count: int, folder: Path) -> Iterator[tuple[Job, Entry]]:
    """Run jobs in processes; one that dies takes down its own job alone."""
    again: list[Job] = []
    with _pool(count) as pool:
        futures: dict[Future[Entry], Job] = {
            pool.submit(run_job, job, folder): job for job in waiting
        }
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except BrokenProcessPool:  # some job died; the pool does not say which
                again.append(futures[future])
    for job in again:
        with _pool(1) as pool:
            try:
                entry = pool.submit(run_job, job, folder).result()
            except BrokenProcessPool:
                entry = _died(job)
        yield job, entry


def _pool(count: int) -> ProcessPoolExecutor:
    # A fork would share torch's threads, and each job begins with a clean memory.
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"), max_tasks_per_child=1)


def _died(job: Job) -> Entry:
    from anysize.validators.report import Entry

    return Entry(job.name, None, "the job's process died, as when memory runs out", 3)


def _require_ray() -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it reports to its makers otherwise
    try:
        importlib.import_module("ray")
    except ImportError as exc:
        raise UsageError(
            f"engine ray: ray is not installed ({exc}); pip install 'anysize[ray]'"
        ) from exc


def _ray(waiting: Sequence[Job], count: int, folder: Path) -> Iterator[tuple[Job, Entry]]:
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
            done, _ = ray.wait(list(running), num_returns=1)
            for reference in done:
                job = running.pop(reference)
                try:
                    entry = ray.get(reference)
                except ray.exceptions.RayError:
                    entry = _died(job)
                yield job, entry
    finally:
        ray.shutdown()


def _keep(folder: Path, key: str, entry: Entry) -> None:
    from anysize.files import atomic_output
    from anysize.validators import JoinedReport

    with atomic_output(folder / f"{key}.json") as stream:
        stream.write(JoinedReport((entry,)).to_json().encode(errors="backslashreplace"))


def _kept(folder: Path, key: str) -> Entry:
    from anysize.validators.report.json_format import read_report

    entries = read_report(folder / f"{key}.json").entries
    if len(entries) != 1:
        raise UsageError(f"report {key}.json: holds {len(entries)} jobs, expected one")
    return entries[0]
