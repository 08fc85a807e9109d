"""What a model is asked: its signature, the sizes and batches, and images from seeds.

Sizes and batches are planned without a model: that part loads no onnx.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anysize.lazy import lazy_names

if TYPE_CHECKING:
    from anysize.validators.inputs.auto import auto_sizes
    from anysize.validators.inputs.cases import MAX_BATCH, Case, plan_cases, repeated_cases
    from anysize.validators.inputs.cost import cost_of
    from anysize.validators.inputs.images import AMPLIFICATION, make_images
    from anysize.validators.inputs.quick import RewritePlan, is_heavy, quick_cases, rewrite_plan
    from anysize.validators.inputs.saturation import saturated_outputs
    from anysize.validators.inputs.signature import (
        GraphInputs,
        declared_outputs,
        float_outputs,
        given_case,
        graph_inputs,
        make_inputs,
    )

__all__ = [
    "AMPLIFICATION",
    "MAX_BATCH",
    "Case",
    "GraphInputs",
    "RewritePlan",
    "auto_sizes",
    "cost_of",
    "declared_outputs",
    "float_outputs",
    "given_case",
    "graph_inputs",
    "is_heavy",
    "make_images",
    "make_inputs",
    "plan_cases",
    "quick_cases",
    "repeated_cases",
    "rewrite_plan",
    "saturated_outputs",
]

__getattr__ = lazy_names(
    __name__,
    {
        "auto": ("auto_sizes",),
        "cases": ("Case", "MAX_BATCH", "plan_cases", "repeated_cases"),
        "cost": ("cost_of",),
        "images": ("AMPLIFICATION", "make_images"),
        "quick": ("RewritePlan", "is_heavy", "quick_cases", "rewrite_plan"),
        "saturation": ("saturated_outputs",),
        "signature": (
            "GraphInputs",
            "declared_outputs",
            "float_outputs",
            "given_case",
            "graph_inputs",
            "make_inputs",
        ),
    },
)
