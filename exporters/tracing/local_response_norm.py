"""Local response normalisation as one operator.

PyTorch computes it from a five-dimensional view, padding and average pooling, and torch.onnx writes
all of that with the traced batch, channels and height in it. ONNX has had the operator, LRN, since
opset 1. During tracing the function is therefore replaced by one operator of our own.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch program gives it
from onnxscript import opset18
from torch import Tensor

from anysize.exporters.tracing.replaced_functions import FunctionTable

__all__ = ["WHOLE_LOCAL_RESPONSE_NORM", "translate_local_response_norm"]


@torch.library.custom_op("anysize::local_response_norm", mutates_args=())
def _local_response_norm(maps: Tensor, size: int, alpha: float, beta: float, bias: float) -> Tensor:
    """Divide each cell of `maps` (batch, channels, …) by a power of its neighbours' squares."""
    return F.local_response_norm(maps, size, alpha, beta, bias)


@_local_response_norm.register_fake
def _(maps: Tensor, size: int, alpha: float, beta: float, bias: float) -> Tensor:
    del size, alpha, beta, bias
    return torch.empty_like(maps)


def _replaced(
    input: Tensor,  # noqa: A002 - the signature of F.local_response_norm
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
) -> Tensor:
    # Over an even number of channels PyTorch looks one further back and ONNX one further ahead.
    if size % 2 == 0:
        return F.local_response_norm(input, size, alpha, beta, k)
    whole = torch.ops.anysize.local_response_norm.default
    return whole(input, size, float(alpha), float(beta), float(k))  # type: ignore[no-any-return]


# While it is active, normalisation over an odd number of channels is one operator.
WHOLE_LOCAL_RESPONSE_NORM: FunctionTable = {F.local_response_norm: _replaced}


def translate_local_response_norm(
    maps: Any, size: int, alpha: float, beta: float, bias: float
) -> Any:
    """Translate the operator for `torch.onnx.export(custom_translation_table=…)`."""
    return opset18.LRN(maps, size=size, alpha=alpha, beta=beta, bias=bias)
