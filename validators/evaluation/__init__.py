"""Evaluations: models and heads × sizes → accuracy, agreement, latency and memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anysize.lazy import lazy_names

if TYPE_CHECKING:
    from anysize.validators.evaluation.candidate import Candidate
    from anysize.validators.evaluation.dataset import read_dataset
    from anysize.validators.evaluation.evaluate import evaluate_candidates, evaluation_sizes
    from anysize.validators.evaluation.evaluation import Evaluation, EvaluationRow
    from anysize.validators.evaluation.job import EvaluationSpec
    from anysize.validators.evaluation.table import evaluation_table

__all__ = [
    "Candidate",
    "Evaluation",
    "EvaluationRow",
    "EvaluationSpec",
    "evaluate_candidates",
    "evaluation_sizes",
    "evaluation_table",
    "read_dataset",
]

__getattr__ = lazy_names(
    __name__,
    {
        "candidate": ("Candidate",),
        "dataset": ("read_dataset",),
        "evaluate": ("evaluate_candidates", "evaluation_sizes"),
        "evaluation": ("Evaluation", "EvaluationRow"),
        "job": ("EvaluationSpec",),
        "table": ("evaluation_table",),
    },
)
