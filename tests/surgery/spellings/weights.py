"""Where a weight's elements are: what stands between them and the layer that reads them."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import onnx
import onnx.numpy_helper
from spellings.net import Net

Hide = Callable[[Net, np.ndarray], str]


def quantised(array: np.ndarray, axis: int | None) -> tuple[np.ndarray, np.ndarray]:
    others = None if axis is None else tuple(i for i in range(array.ndim) if i != axis)
    scale = (np.abs(array).max(axis=others) / 127).astype(np.float32)
    spread = scale if axis is None else np.expand_dims(scale, others or ())
    return np.clip(np.round(array / spread), -127, 127).astype(np.int8), scale


def hide_dequantised(axis: int | None, *, negative: bool = False) -> Hide:
    def hide(net: Net, array: np.ndarray) -> str:
        # One scale a unit, wherever the units lie.
        units = None if axis is None else int(np.argmin(array.shape))
        numbers, scale = quantised(array, units)
        zero = net.store(np.zeros(scale.shape, np.int8))
        place = {} if units is None else {"axis": units - (array.ndim if negative else 0)}
        return net.add("DequantizeLinear", net.store(numbers), net.store(scale), zero, **place)

    return hide


def hide_fake_quantised(net: Net, array: np.ndarray) -> str:
    units = int(np.argmin(array.shape))
    _, scale = quantised(array, units)
    factor, zero = net.store(scale), net.store(np.zeros(scale.shape, np.int8))
    numbers = net.add("QuantizeLinear", net.store(array), factor, zero, axis=units)
    return net.add("DequantizeLinear", numbers, factor, zero, axis=units)


def behind_transpose(inner: Hide) -> Hide:
    return lambda net, array: net.add(
        "Transpose", inner(net, np.ascontiguousarray(array.T)), perm=[1, 0]
    )


def hide_transposed_then_dequantised(net: Net, array: np.ndarray) -> str:
    units = int(np.argmin(array.shape))
    numbers, scale = quantised(array, units)
    turned = net.add("Transpose", net.store(np.ascontiguousarray(numbers.T)))
    return net.add("DequantizeLinear", turned, net.store(scale), axis=units)


def hide_in_constant(net: Net, array: np.ndarray) -> str:
    return net.add("Constant", value=onnx.numpy_helper.from_array(array))


def hide_as(kind: type) -> Hide:
    return lambda net, array: net.add("Cast", net.store(array.astype(kind)), to=1)


def hide_reshaped(net: Net, array: np.ndarray) -> str:
    """As CNTK writes it: the weight keeps the axes of the map that it reads."""
    stored = array.reshape(-1, 2, array.shape[1]) if array.shape[0] % 2 == 0 else array[None]
    return net.add("Reshape", net.store(stored), net.ints(*array.shape))


def hide_squeezed(net: Net, array: np.ndarray) -> str:
    return net.squeeze(net.store(array[:, :, None, None]), 2, 3)


def hide_unsqueezed(net: Net, array: np.ndarray) -> str:
    row = net.squeeze(net.store(array.reshape(-1)), 0, op="Unsqueeze")
    return net.add("Reshape", row, net.ints(*array.shape))


PLAIN: dict[str, Hide] = {
    "initializer": lambda net, array: net.store(array),
    "constant": hide_in_constant,
    "transpose": behind_transpose(lambda net, array: net.store(array)),
    "transpose-of-identity-of-constant": behind_transpose(
        lambda net, array: net.add("Identity", hide_in_constant(net, array))
    ),
    "identity": lambda net, array: net.add("Identity", net.store(array)),
    "cast-from-float16": hide_as(np.float16),
    "cast-from-bfloat16": hide_as(ml_dtypes.bfloat16),
    "cast-from-double": hide_as(np.float64),
    "reshape": hide_reshaped,
    "squeeze": hide_squeezed,
    "unsqueeze-reshape": hide_unsqueezed,
}
QUANTISED: dict[str, Hide] = {
    "dequantize": hide_dequantised(None),
    "dequantize-each-unit": hide_dequantised(0),
    "dequantize-each-unit-negative-axis": hide_dequantised(0, negative=True),
    "dequantize-transpose": behind_transpose(hide_dequantised(0)),
    "transpose-dequantize": hide_transposed_then_dequantised,
    "quantize-dequantize": hide_fake_quantised,
}
WEIGHTS = PLAIN | QUANTISED
