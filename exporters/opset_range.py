"""The opsets that a file may have: plain numbers, so that a wrong one is refused at once."""

from __future__ import annotations

from anysize.errors import UsageError

__all__ = ["DEFAULT_OPSET", "NEWEST_OPSET", "OLDEST_OPSET", "check_opset"]

OLDEST_OPSET, NEWEST_OPSET = 13, 24
# ONNX Runtime 1.31, onnx's evaluator, OpenVINO 2026.4 and tract 0.23 run gap, fcn, spp and adaptive
# graphs at every opset from 13 to 24 (measured; IREE 3.13 compiles them at 18 and 20 to 24, and was
# not run). By its tracker, not measured here, 18 is the newest at which ONNX Runtime's CUDA
# provider has a kernel for each operator written here: it lacks Pad from 19 on and
# MaxPool from 22 on, and runs them on the CPU instead
# (https://github.com/microsoft/onnxruntime/issues/26393), and for long lacked Shape and Reshape of
# 21 (issue 26065). Nothing that a classifier needs gained anything by a later opset but Gelu.
DEFAULT_OPSET = 18


def check_opset(opset: int) -> None:
    """Refuse an opset that no file is written at.

    Raises:
        UsageError: It is out of range.
    """
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise UsageError(f"opset {opset}: expected {OLDEST_OPSET} to {NEWEST_OPSET}")
