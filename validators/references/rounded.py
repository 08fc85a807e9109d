"""What float16 costs a module: the module itself with weights and inputs of its layers rounded.

PyTorch's own half precision is not used: on a CPU it lacks operators, and sums as it likes. Here
each convolution and linear layer has float16 weights, reads float16 values, and computes in
float32. So does each normalisation by statistics of its own input, which magnifies what was rounded
before it. What else lies between is not rounded. That is less than any float16 runtime rounds, so
the error is a lower bound of an honest runtime's, and `anysize.validators.judging` says how much
more is allowed.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from anysize.errors import SourceError
from anysize.words import one_line

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["rounded_copy"]


def rounded_copy(module: nn.Module) -> nn.Module:
    """Copy a float32 module so that its layers with weights see float16 numbers only.

    Args:
        module: In evaluation mode; not modified.

    Raises:
        SourceError: The module cannot be copied.
    """
    import torch
    from torch.nn.modules.conv import _ConvNd
    from torch.nn.modules.instancenorm import _InstanceNorm

    try:
        rounded = copy.deepcopy(module)
    except (RuntimeError, TypeError, ValueError) as exc:
        raise SourceError(
            f"reference {type(module).__name__}: cannot be copied for float16 ({one_line(exc)})"
        ) from exc
    for layer in rounded.modules():
        if isinstance(layer, (_ConvNd, torch.nn.Linear)):
            for parameter in layer.parameters(recurse=False):
                parameter.data = _round(parameter.data)
            layer.register_forward_pre_hook(_round_inputs)
        elif isinstance(layer, (torch.nn.GroupNorm, torch.nn.LayerNorm, _InstanceNorm)):
            layer.register_forward_pre_hook(_round_inputs)
    return rounded


def _round_inputs(_layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_round(value) if hasattr(value, "half") else value for value in inputs)


def _round(tensor: Tensor) -> Tensor:
    return tensor.half().to(tensor.dtype)
