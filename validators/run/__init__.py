"""The steps of a validation, from what the reference answers to one comparison a cell."""

from __future__ import annotations

from anysize.validators.run.expectation import CaseExpectation, Expectations
from anysize.validators.run.file_under_test import Subject
from anysize.validators.run.host import machine, package_versions, usable_cpus
from anysize.validators.run.open_session import open_runtime
from anysize.validators.run.spool import FLOAT64, Spool
from anysize.validators.run.sweeps import run_opened
from anysize.validators.run.vacuity import variations

__all__ = [
    "FLOAT64",
    "CaseExpectation",
    "Expectations",
    "Spool",
    "Subject",
    "machine",
    "open_runtime",
    "package_versions",
    "run_opened",
    "usable_cpus",
    "variations",
]
