"""The steps of a validation, from what the reference answers to one comparison a cell."""

from __future__ import annotations

from anysize.validators.run.asking import ask_all
from anysize.validators.run.case_expectation import CaseExpectation
from anysize.validators.run.estimate import estimated_before_s, estimated_s
from anysize.validators.run.expectation import Expectations
from anysize.validators.run.file_under_test import FileUnderTest
from anysize.validators.run.host import machine, package_versions, usable_cpus
from anysize.validators.run.open_session import open_session
from anysize.validators.run.plan import chosen_cases
from anysize.validators.run.quantisation import (
    Quantisation,
    in_range,
    quantisation_note,
    quantisation_records,
)
from anysize.validators.run.required_sizes import required_sizes
from anysize.validators.run.spool import FLOAT32, FLOAT64, Spool, answer_label
from anysize.validators.run.spread import judge_by_spread
from anysize.validators.run.steps import (
    IN_FLOAT32,
    LOADING,
    Progress,
    Steps,
    Work,
    validation_steps,
)
from anysize.validators.run.sweeps import as_cell, run_sweeps

__all__ = [
    "FLOAT32",
    "FLOAT64",
    "IN_FLOAT32",
    "LOADING",
    "CaseExpectation",
    "Expectations",
    "FileUnderTest",
    "Progress",
    "Quantisation",
    "Spool",
    "Steps",
    "Work",
    "answer_label",
    "as_cell",
    "ask_all",
    "chosen_cases",
    "estimated_before_s",
    "estimated_s",
    "in_range",
    "judge_by_spread",
    "machine",
    "open_session",
    "package_versions",
    "quantisation_note",
    "quantisation_records",
    "required_sizes",
    "run_sweeps",
    "usable_cpus",
    "validation_steps",
]
