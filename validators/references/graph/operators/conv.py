"""Convolution for the arbiter, by PyTorch in float64.

The reference evaluator unfolds a whole batch into columns, which takes nine times the map's memory
for a 3×3 kernel and most of a VGG's time (measured: VGG-11 at 288×352 in 51 s). PyTorch's float64
convolution is the arbiter of every module, so it may be that of a graph as well. Whatever is not a
plain two-dimensional convolution is left to the evaluator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.reference.ops.op_conv import Conv as EvaluatorConv

__all__ = ["Conv"]


class Conv(EvaluatorConv):
    """`Conv` of the reference evaluator, faster; the evaluator finds it by this name."""

    op_domain = ""

    def _run(
        self,
        X: NDArray[np.float64],  # noqa: N803 - the operator specification's names
        W: NDArray[np.float64],  # noqa: N803
        B: NDArray[np.float64] | None = None,  # noqa: N803
        auto_pad: str | None = None,
        dilations: Sequence[int] | None = None,
        group: int | None = None,
        kernel_shape: Sequence[int] | None = None,
        pads: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
    ) -> tuple[Any, ...]:
        is_plain = X.ndim == 4 and X.dtype == np.float64 and auto_pad in (None, "NOTSET")
        if not is_plain:
            return tuple(
                super()._run(  # type: ignore[no-untyped-call]
                    X, W, B, auto_pad, dilations, group, kernel_shape, pads, strides
                )
            )
        import torch
        from torch.nn.functional import conv2d, pad

        top, left, bottom, right = pads or (0, 0, 0, 0)
        with torch.inference_mode():
            image = pad(_tensor(X), (left, right, top, bottom))
            answer = conv2d(
                image,
                _tensor(W),
                None if B is None else _tensor(B),
                stride=tuple(strides or (1, 1)),
                dilation=tuple(dilations or (1, 1)),
                groups=group or 1,
            )
        return (answer.numpy(),)


def _tensor(array: NDArray[np.float64]) -> Any:
    import torch

    array = np.ascontiguousarray(array)
    # torch shares the memory and warns where it may not write; it does not write.
    return torch.from_numpy(array if array.flags.writeable else array.copy())
