"""Run a matrix of validations: each job in a process of its own, its report kept in a folder."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from anysize.errors import UsageError
from anysize.files import check_output_path, made_folder
from anysize.verbs.matrix_runs import died, run_in_processes, run_job
from anysize.verbs.progress import Progress, silent

if TYPE_CHECKING:
    from anysize.validators import JoinedReport
    from anysize.validators.report import Entry
    from anysize.verbs.matrix_runs import Job

__all__ = ["matrix"]


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
        folder: Where each job's report and exported file are kept; `CONFIG.reports` beside the
            file by default.
        check: Called with all files that the jobs read, before any work.
        progress: Told how far it is.

    Raises:
        UsageError: The file is not understood, the folder cannot be used, an export would replace
            a file that a job reads, or ray is not installed.
    """
    from anysize.validators import JoinedReport
    from anysize.verbs.matrix_runs import input_files, job_keys, read_matrix

    config = Path(config)
    planned = read_matrix(config)
    if jobs < 1:
        raise UsageError(f"jobs {jobs}: expected a whole number from 1 on")
    _check_opsets(planned, config)
    inputs = [config, *(path for job in planned for path in input_files(job))]
    if check is not None:
        check(inputs)
    if engine == "ray":
        _require_ray()
        config = config.absolute()  # other machines have other working folders
        planned = read_matrix(config)
    folder = made_folder(Path(folder) if folder is not None else config.with_suffix(".reports"))
    _refuse_overwriting(planned, folder, inputs)
    keys = job_keys(planned)
    entries: dict[Job, Entry] = {}
    if resume:
        for job in planned:
            with contextlib.suppress(UsageError):
                entries[job] = _kept(folder, keys[job])
    waiting = [job for job in planned if job not in entries]
    progress(len(entries), len(planned), "starting")
    run = _ray if engine == "ray" else run_in_processes
    with contextlib.closing(run(waiting, jobs, folder)) as finished:
        for job, entry in finished:
            entries[job] = entry
            # What did not come to a report, or whose files were changed meanwhile, is tried again.
            if entry.report is not None and job_keys([job])[job] == keys[job]:
                _keep(folder, keys[job], entry)
            progress(len(entries), len(planned), f"{job.name}: exit {entry.exit_code}")
    return JoinedReport(tuple(entries[job] for job in planned))


def _refuse_overwriting(planned: Sequence[Job], folder: Path, inputs: Sequence[Path]) -> None:
    """Refuse a name that puts the export of one job in the place of what another reads."""
    for job in planned:
        if job.source:
            check_output_path(folder / job.exported_name, inputs=inputs)


def _check_opsets(planned: Sequence[Job], config: Path) -> None:
    from anysize.exporters import check_opset

    for job in planned:
        if job.opset is None:
            continue
        try:
            check_opset(job.opset)
        except UsageError as exc:
            raise UsageError(f"matrix {config}, {job.name}: {exc}") from exc


def _require_ray() -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it reports to its makers otherwise
    try:
        importlib.import_module("ray")
    except ImportError as exc:
        raise UsageError(
            f"engine ray: ray is not installed ({exc}); pip install 'anysize[ray]'"
        ) from exc


def _ray(
    waiting: Sequence[Job], count: int, folder: Path
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


def _keep(folder: Path, key: str, entry: Entry) -> None:
    from anysize.files import atomic_output
    from anysize.validators import JoinedReport

    with atomic_output(folder / f"{key}.json") as stream:
        stream.write(JoinedReport((entry,)).to_json().encode(errors="backslashreplace"))


def _kept(folder: Path, key: str) -> Entry:
    from anysize.validators.report import read_report

    entries = read_report(folder / f"{key}.json").entries
    if len(entries) != 1:
        raise UsageError(f"report {key}.json: holds {len(entries)} jobs, expected one")
    return entries[0]
