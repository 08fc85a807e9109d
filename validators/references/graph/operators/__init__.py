"""Operators of the float64 arbiter, where onnx's evaluator is wrong, too narrow or too slow.

Each is written from the operator's specification. `tests/validators/references`
holds these and the evaluator's own against ONNX Runtime, at every opset that classifiers are in.
"""

from __future__ import annotations

from typing import Final

from anysize.validators.references.graph.operators.batch_norm import BatchNormalization
from anysize.validators.references.graph.operators.conv import Conv
from anysize.validators.references.graph.operators.dequantize import DequantizeLinear
from anysize.validators.references.graph.operators.lp_norm import LpNormalization
from anysize.validators.references.graph.operators.lrn import LRN
from anysize.validators.references.graph.operators.max_pool import MaxPool
from anysize.validators.references.graph.operators.resize import Resize
from anysize.validators.references.graph.operators.softmax import Hardmax, LogSoftmax, Softmax

__all__ = ["ARBITER_OPERATORS"]

# Given to the evaluator, which finds each by its class's name.
ARBITER_OPERATORS: Final[tuple[type, ...]] = (
    BatchNormalization,
    Conv,
    DequantizeLinear,
    Hardmax,
    LRN,
    LogSoftmax,
    LpNormalization,
    MaxPool,
    Resize,
    Softmax,
)
