"""What stands behind the last layer, and how many outputs that makes."""

from __future__ import annotations

from collections.abc import Callable

import onnx
from spellings.net import CLASSES, Net

FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


def ending(op: str = "", kind: int = FLOAT, **attributes: int) -> Callable[[Net, str], None]:
    def end(net: Net, x: str) -> None:
        net.outputs.append((net.add(op, x, **attributes) if op else x, kind))

    return end


def end_in_two(net: Net, x: str) -> None:
    ending("Softmax", axis=1)(net, x)
    ending("ArgMax", INT64, axis=-1, keepdims=0)(net, x)


def end_in_top(net: Net, x: str) -> None:
    best = net.add("TopK", net.add("Softmax", x, axis=-1), net.ints(2), outputs=2, axis=1)
    net.outputs += [(best, FLOAT), (best[:-1] + "1", INT64)]


def end_then(op: str, *target: int) -> Callable[[Net, str], None]:
    def end(net: Net, x: str) -> None:
        scores = net.add("Softmax", x, axis=1)
        more = [net.ints(*target)] if target else []
        net.outputs.append((net.add(op, scores, *more), FLOAT))

    return end


def end_in_unit(net: Net, x: str) -> None:
    norm = net.add("Identity", net.reduce("ReduceL2", x))
    net.outputs.append((net.add("Div", x, norm), FLOAT))


def end_in_shares(net: Net, x: str) -> None:
    """A Softmax, written out."""
    exponents = net.add("Exp", net.add("Sub", x, net.reduce("ReduceMax", x)))
    net.outputs.append((net.add("Div", exponents, net.reduce("ReduceSum", exponents)), FLOAT))


def end_in_log_shares(net: Net, x: str) -> None:
    net.outputs.append((net.add("Sub", x, net.reduce("ReduceLogSumExp", x)), FLOAT))


def end_in_a_map_of_one_cell(net: Net, x: str) -> None:
    """As Caffe writes it."""
    cell = net.squeeze(x, 2, 3, op="Unsqueeze")
    cell = net.add("Transpose", cell, perm=[0, 2, 3, 1])
    scores = net.add("Transpose", net.add("Softmax", cell, axis=3), perm=[0, 3, 1, 2])
    net.outputs.append((net.add("Flatten", scores), FLOAT))


ENDS: dict[str, Callable[[Net, str], None]] = {
    "scores": ending(),
    "softmax": ending("Softmax", axis=1),
    "softmax-last": ending("Softmax", axis=-1),
    "log-softmax": ending("LogSoftmax", axis=1),
    "sigmoid": ending("Sigmoid"),
    "arg-max": ending("ArgMax", INT64, axis=1),
    "arg-max-without-axis": ending("ArgMax", INT64, axis=-1, keepdims=0),
    "softmax-and-arg-max": end_in_two,
    "softmax-top-k": end_in_top,
    "l2-norm": end_in_unit,
    "lp-normalization": ending("LpNormalization", axis=-1),
    "softmax-written-out": end_in_shares,
    "log-softmax-written-out": end_in_log_shares,
    "softmax-of-one-cell": end_in_a_map_of_one_cell,
    "softmax-identity": end_then("Identity"),
    "softmax-reshape": end_then("Reshape", -1, CLASSES),
}
