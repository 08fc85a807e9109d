"""Diagnosis: the first tensor where a runtime leaves its budget, or a graph its original."""

from __future__ import annotations

from anysize.validators.diagnosis.bisect import bisect_report, diagnose
from anysize.validators.diagnosis.failing_input import load_inputs, save_inputs
from anysize.validators.diagnosis.wrong_graph import Arrays, blame_graph

__all__ = ["Arrays", "bisect_report", "blame_graph", "diagnose", "load_inputs", "save_inputs"]
