"""One job of a matrix, in the process that it is given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from anysize.errors import AnysizeError

if TYPE_CHECKING:
    from anysize.validators.report import Entry
    from anysize.verbs.matrix_runs.plan import Job

__all__ = ["died", "run_job"]


def run_job(job: Job, folder: Path) -> Entry:
    """Run one job in this process; whatever goes wrong is its entry."""
    from anysize.validators.report import Entry

    start = perf_counter()
    try:
        return replace(_run(job, folder), run_s=perf_counter() - start)
    except AnysizeError as exc:
        return Entry(job.name, None, str(exc), exc.exit_code)
    except MemoryError:
        return Entry(job.name, None, "out of memory; try smaller sizes or batches", 3)
    except Exception as exc:  # a bug of ours must not stop the other jobs
        return Entry(job.name, None, f"internal error: {type(exc).__name__}: {exc}", 2)


def died(job: Job) -> Entry:
    """Return the entry of a job whose process ended without one."""
    from anysize.validators.report import Entry

    return Entry(job.name, None, "the job's process died, as when memory runs out", 3)


def _run(job: Job, folder: Path) -> Entry:
    from anysize.exporters import DEFAULT_OPSET
    from anysize.validators.report import Entry
    from anysize.verbs.export import export
    from anysize.verbs.original import is_known_network
    from anysize.verbs.validate import validate_file

    model, arguments = job.model, job.model.model_args or {}
    file = Path(model.file)
    if model.source:
        # It stays beside the reports: their commands that reproduce a cell name it.
        file = folder / job.exported_name
        export(
            model.source,
            file,
            head=job.head or None,
            weights=model.weights or None,
            size=model.size,
            min_size=model.min_size,
            max_size=model.max_size,
            opset=DEFAULT_OPSET if model.opset is None else model.opset,
            half=model.half,
            model_args=arguments,
            seed=job.spec.seed,
            verify=False,
        )
    # A file may not choose code that is run; whoever wrote the configuration may.
    is_own = model.source and (not is_known_network(model.source) or arguments)
    reference = model.reference or (model.source if is_own else None)
    report = validate_file(
        file,
        reference,
        job.spec,
        weights=model.weights or None,
        model_args=arguments if reference else None,
    )
    return Entry(job.name, report, "", report.exit_code)
