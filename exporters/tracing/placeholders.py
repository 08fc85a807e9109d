"""Operators that torch.onnx would write for the traced size, kept whole until they are lowered.

`torch.onnx.export` decomposes adaptive pooling for the size of the example image, and writes the
example's batch and channels into Resize. During tracing each of these operators is therefore
translated to one node in the domain `anysize.lowering`; `anysize.exporters.lowerings` replaces the
node by standard operators that are right at every size. No file ever contains the domain.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnxscript import opset18

from anysize.exporters.tracing.local_response_norm import translate_local_response_norm
from anysize.exporters.tracing.placeholder import placeholder
from anysize.exporters.tracing.region_operators import REGION_OPERATORS
from anysize.exporters.tracing.same_padding import translate_pad

__all__ = ["translation_table"]

_OUTPUT_SIZE = {"output_size": "INTS"}
_ADAPTIVE_AVERAGE = placeholder("AdaptiveAveragePool2d", _OUTPUT_SIZE)
_ADAPTIVE_MAX = placeholder("AdaptiveMaxPool2d", _OUTPUT_SIZE)
_BILINEAR = placeholder("BilinearResize2d", _OUTPUT_SIZE, lengths=("height", "width"))
_PAPER_MAX = placeholder("PaperMaxPool2d", _OUTPUT_SIZE)


def _numbers(output_size: Sequence[Any]) -> list[int]:
    """Return 0 for a side that is a symbol: of a pooling, that of the map it pools."""
    return [side if isinstance(side, int) else 0 for side in output_size]


def _adaptive_average_pool2d(x: Any, output_size: Sequence[Any]) -> Any:
    if list(output_size) == [1, 1]:
        return opset18.GlobalAveragePool(x)
    return _ADAPTIVE_AVERAGE(x, output_size=_numbers(output_size))


def _adaptive_max_pool2d(x: Any, output_size: Sequence[Any]) -> Any:
    values = _ADAPTIVE_MAX(x, output_size=_numbers(output_size))
    # aten returns (values, indices). A module that uses the indices is refused: the second value
    # has the wrong type for them, and the checker says so.
    return values, values


def _length(side: Any) -> Any:
    """Write a symbol as a tensor of one number."""
    return opset18.Reshape(side, opset18.Constant(value_ints=[1]))


def _upsample_bilinear2d(
    x: Any,
    output_size: Sequence[Any] | None,
    align_corners: bool,  # noqa: FBT001 - the signature of aten.upsample_bilinear2d.vec
    scale_factors: Sequence[float] | None = None,
) -> Any:
    if output_size is not None and not align_corners:
        lengths = [None if isinstance(side, int) else _length(side) for side in output_size]
        return _BILINEAR(x, *(lengths if any(lengths) else ()), output_size=_numbers(output_size))
    mode = "align_corners" if align_corners else "half_pixel"
    if output_size is not None:
        sides = [
            opset18.Constant(value_ints=[side]) if isinstance(side, int) else _length(side)
            for side in output_size
        ]
        sizes = opset18.Concat(opset18.Shape(x, start=0, end=2), *sides, axis=0)
        return opset18.Resize(
            x, None, None, sizes, mode="linear", coordinate_transformation_mode=mode
        )
    scales = opset18.Constant(value_floats=[1.0, 1.0, *(scale_factors or ())])
    return opset18.Resize(x, None, scales, mode="linear", coordinate_transformation_mode=mode)


def _floor_divide(number: Any, by: Any) -> Any:
    """Divide symbols as Python does, rounding down; onnxscript 0.7 rounds towards zero."""
    return opset18.Div(opset18.Sub(number, opset18.Mod(number, by)), by)


def _paper_max_pool(x: Any, bins: int) -> Any:
    return _PAPER_MAX(x, output_size=[bins, bins])


# Operators that are there once the package that defines them has been imported.
_FOREIGN: dict[tuple[str, str], Callable[..., Any]] = {
    ("anysize", "local_response_norm"): translate_local_response_norm,
    ("anysize", "pad2d"): translate_pad,
    ("anysize", "paper_max_pool"): _paper_max_pool,
    **REGION_OPERATORS,
}


def _foreign_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    found: dict[Callable[..., Any], Callable[..., Any]] = {}
    for (library, name), translation in _FOREIGN.items():
        operator = getattr(getattr(torch.ops, library), name, None)
        if operator is not None:
            found[operator.default] = translation
    return found


def translation_table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the translations for `torch.onnx.export(custom_translation_table=…)`."""
    aten = torch.ops.aten
    return {
        aten.adaptive_avg_pool2d.default: _adaptive_average_pool2d,
        aten.adaptive_max_pool2d.default: _adaptive_max_pool2d,
        aten.upsample_bilinear2d.vec: _upsample_bilinear2d,
        operator.floordiv: _floor_divide,
        **_foreign_translations(),
    }
