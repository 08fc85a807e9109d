"""PyTorch without the short cuts that a process may allow it in float32.

PyTorch 2.13 lets cuDNN round the factors of a convolution to TF32 unless it is told not to, and
`torch.set_float32_matmul_precision("medium")` lets a CPU round those of a product to bfloat16. The
error budget is measured on the reference: one that loses digits would excuse a runtime that does.
(https://docs.pytorch.org/docs/stable/notes/numerical_accuracy.html)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from operator import attrgetter

__all__ = ["exact_products"]

_EXACT = "ieee"
_SWITCHES = (
    "cuda.matmul",
    "cudnn.conv",
    "cudnn.rnn",
    "mkldnn.matmul",
    "mkldnn.conv",
    "mkldnn.rnn",
)


@contextlib.contextmanager
def exact_products() -> Iterator[None]:
    """Compute products and convolutions as IEEE float32, and then as the process had it again."""
    import torch

    switches = [attrgetter(name)(torch.backends) for name in _SWITCHES]
    before = [switch.fp32_precision for switch in switches]
    try:
        for switch in switches:
            switch.fp32_precision = _EXACT
        yield
    finally:
        for switch, precision in zip(switches, before, strict=True):
            switch.fp32_precision = precision
