"""Softmax, LogSoftmax and Hardmax for the arbiter, with the meaning of each opset.

Below opset 13 they flatten the tensor from their axis on and work on whole rows
(https://onnx.ai/onnx/operators/onnx__Softmax.html#softmax-11). The evaluator of onnx 1.23 works
along the one axis at every opset.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun

__all__ = ["Hardmax", "LogSoftmax", "Softmax"]

Array = NDArray[np.floating]

_ALONG_AXIS_OPSET = 13


class _OverClasses(OpRun):
    """What the three share: which elements belong to one row."""

    op_domain = ""

    def _run(self, x: Array, axis: int | None = None, **_: Any) -> tuple[Any, ...]:
        said = any(entry.name == "axis" for entry in self.onnx_node.attribute)
        if self.run_params["opsets"][""] >= _ALONG_AXIS_OPSET:
            place = axis if said and axis is not None else -1
            rows = np.moveaxis(x, place, -1)
            return (np.moveaxis(self._of_rows(rows), -1, place).astype(x.dtype),)
        place = axis if said and axis is not None else 1
        place += x.ndim if place < 0 else 0
        rows = x.reshape(int(np.prod(x.shape[:place])), -1)
        return (self._of_rows(rows).reshape(x.shape).astype(x.dtype),)

    def _of_rows(self, rows: Array) -> Array:
        raise NotImplementedError


class Softmax(_OverClasses):
    """exp(x) over its sum; the evaluator finds it by this name."""

    def _of_rows(self, rows: Array) -> Array:
        powers: Array = np.exp(rows - rows.max(axis=-1, keepdims=True))
        share: Array = powers / powers.sum(axis=-1, keepdims=True)
        return share


class LogSoftmax(_OverClasses):
    """The logarithm of `Softmax`, without rounding small ones to 0."""

    def _of_rows(self, rows: Array) -> Array:
        below: Array = rows - rows.max(axis=-1, keepdims=True)
        logarithms: Array = below - np.log(np.exp(below).sum(axis=-1, keepdims=True))
        return logarithms


class Hardmax(_OverClasses):
    """1 at the first largest element of a row and 0 elsewhere."""

    def _of_rows(self, rows: Array) -> Array:
        best = np.expand_dims(np.argmax(rows, axis=-1), -1)
        answer = np.zeros_like(rows)
        np.put_along_axis(answer, best, 1, axis=-1)
        return answer
