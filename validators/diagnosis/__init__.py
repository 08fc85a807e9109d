"""Diagnosis: the first tensor of a graph where a runtime leaves its budget."""

from __future__ import annotations

from anysize.validators.diagnosis.bisect import bisect_report, diagnose
from anysize.validators.diagnosis.failing_input import load_inputs, save_inputs

__all__ = ["bisect_report", "diagnose", "load_inputs", "save_inputs"]
