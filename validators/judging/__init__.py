"""How far an answer may be from float64, how far it is, and what is said of it."""

from __future__ import annotations

from anysize.validators.judging.budget import (
    ALL_OUTPUTS,
    PROFILES,
    QUANTISED,
    Deviation,
    PerOutput,
    Profile,
    Tolerance,
    Tolerances,
    exact_deviation,
    fill_values,
    float_deviation,
    float_error,
)
from anysize.validators.judging.nearness import is_plain, is_telling, judge_near
from anysize.validators.judging.parity import (
    STRICTEST_LIMIT,
    DeclaredShape,
    Expected,
    Judgement,
    OutputResult,
    judge,
    variation,
)
from anysize.validators.judging.rounding import rounded_up
from anysize.validators.judging.verdicts import VERDICTS, Outcome, Verdict, exit_code

__all__ = [
    "ALL_OUTPUTS",
    "PROFILES",
    "QUANTISED",
    "STRICTEST_LIMIT",
    "VERDICTS",
    "DeclaredShape",
    "Deviation",
    "Expected",
    "Judgement",
    "Outcome",
    "OutputResult",
    "PerOutput",
    "Profile",
    "Tolerance",
    "Tolerances",
    "Verdict",
    "exact_deviation",
    "exit_code",
    "fill_values",
    "float_deviation",
    "float_error",
    "is_plain",
    "is_telling",
    "judge",
    "judge_near",
    "rounded_up",
    "variation",
]
