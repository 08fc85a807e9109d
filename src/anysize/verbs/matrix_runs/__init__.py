"""The jobs of a matrix: what they are, what results depend on, the processes that run them."""

from __future__ import annotations

from anysize.verbs.matrix_runs.forecast import MatrixPlan, PlannedJob, plan_jobs, unusable
from anysize.verbs.matrix_runs.job import died, run_job
from anysize.verbs.matrix_runs.key import input_files, installed_versions, job_keys
from anysize.verbs.matrix_runs.plan import Job, read_matrix
from anysize.verbs.matrix_runs.processes import run_in_processes

__all__ = [
    "Job",
    "MatrixPlan",
    "PlannedJob",
    "died",
    "input_files",
    "installed_versions",
    "job_keys",
    "plan_jobs",
    "read_matrix",
    "run_in_processes",
    "run_job",
    "unusable",
]
