"""What stands between two layers."""

from __future__ import annotations

import numpy as np
from spellings.net import HIDDEN, Net, Piece


def normed(net: Net, x: str) -> str:
    parameters = [1 + net.normal(HIDDEN), net.normal(HIDDEN), net.normal(HIDDEN)]
    stored = [net.store(array) for array in (*parameters, np.abs(net.normal(HIDDEN)) + 0.5)]
    return net.add("BatchNormalization", x, *stored)


def normed_rank_three(net: Net, x: str) -> str:
    return net.squeeze(normed(net, net.squeeze(x, 2, op="Unsqueeze")), 2)


def normed_rank_four(net: Net, x: str) -> str:
    wide = net.add("Reshape", x, net.ints(0, HIDDEN, 1, 1))
    return net.add("Flatten", normed(net, wide))


def dropped(net: Net, x: str) -> str:
    if net.opset < 12:
        return net.add("Dropout", x, ratio=0.5)
    training = net.store(np.array(False))
    return net.add("Dropout", x, net.store(np.array(0.5, np.float32)), training, outputs=2)


def scaled(net: Net, x: str) -> str:
    product = net.add("Mul", x, net.store(1 + net.normal(HIDDEN)))
    shifted = net.add("Add", net.store(net.normal(1, HIDDEN)), product)
    return net.add("PRelu", shifted, net.store(net.normal(HIDDEN)))


def silu(net: Net, x: str) -> str:
    return net.add("Mul", net.add("Sigmoid", x), x)


def unit(net: Net, x: str) -> str:
    return net.add("Div", x, net.reduce("ReduceL2", x))


def unit_expanded(net: Net, x: str) -> str:
    """As torch.nn.functional.normalize is exported."""
    norm = net.add("Clip", net.reduce("ReduceL2", x), net.store(np.array(1e-12, np.float32)))
    return net.add("Div", x, net.add("Expand", norm, net.add("Shape", x)))


def unit_expanded_to_the_image(net: Net, x: str) -> str:
    """As it is exported with a dynamic batch, which is read off the image."""
    batch = net.add("Gather", net.add("Shape", "image"), net.ints(0), axis=0)
    target = net.add("Concat", batch, net.ints(HIDDEN), axis=0)
    return net.add("Div", x, net.add("Expand", net.reduce("ReduceL2", x), target))


def unit_without_axis(net: Net, x: str) -> str:
    norm = net.reduce("ReduceL2", x, keepdims=0)
    return net.add("Div", x, net.squeeze(norm, 1, op="Unsqueeze"))


def root_mean_square(net: Net, x: str) -> str:
    mean = net.reduce("ReduceMean", net.add("Mul", x, x))
    shifted = net.add("Add", mean, net.store(np.array(1e-6, np.float32)))
    return net.add("Mul", net.add("Reciprocal", net.add("Sqrt", shifted)), x)


def layer_norm(net: Net, x: str) -> str:
    scale, shift = net.store(1 + net.normal(HIDDEN)), net.store(net.normal(HIDDEN))
    return net.add("LayerNormalization", x, scale, shift)


def layer_norm_written_out(net: Net, x: str) -> str:
    centred = net.add("Sub", x, net.reduce("ReduceMean", x))
    return root_mean_square(net, centred)


def halves_swapped(net: Net, x: str) -> str:
    half = net.ints(HIDDEN // 2)
    first = net.add("Slice", x, net.ints(0), half, net.ints(1))
    second = net.add("Slice", x, half, net.ints(2**40), net.ints(-1))
    return net.add("Concat", net.add("Relu", second), first, axis=-1)


def max_feature_map(net: Net, x: str) -> str:
    """As LightCNN has it (Wu et al., 2018), and as many features again behind it."""
    sizes = [HIDDEN // 2, HIDDEN - HIDDEN // 2]
    first = (
        net.add("Split", x, outputs=2, axis=1, split=sizes)
        if net.opset < 13
        else net.add("Split", x, net.ints(*sizes), outputs=2, axis=-1)
    )
    second = first[:-1] + "1"
    best = net.add("Max", first, second)
    return net.add("Concat", best, net.add("Min", second, first), axis=1)


def picked(net: Net, x: str) -> str:
    return net.add("Gather", x, net.ints(*reversed(range(HIDDEN))), axis=1)


BETWEEN: dict[str, Piece] = {
    "nothing": lambda _net, x: x,
    "relu": lambda net, x: net.add("Relu", x),
    "clip": lambda net, x: net.add("Clip", x, "", net.store(np.array(6, np.float32))),
    "dropout": dropped,
    "batch-norm": normed,
    "batch-norm-rank-three": normed_rank_three,
    "batch-norm-rank-four": normed_rank_four,
    "mul-add-prelu": scaled,
    "silu": silu,
    "identity-neg": lambda net, x: net.add("Neg", net.add("Identity", x)),
    "l2-norm": unit,
    "l2-norm-expanded": unit_expanded,
    "l2-norm-expanded-to-the-image": unit_expanded_to_the_image,
    "l2-norm-without-axis": unit_without_axis,
    "lp-normalization": lambda net, x: net.add("LpNormalization", x, axis=1, p=2),
    "root-mean-square": root_mean_square,
    "layer-norm": layer_norm,
    "layer-norm-written-out": layer_norm_written_out,
    "halves-swapped": halves_swapped,
    "max-feature-map": max_feature_map,
    "picked": picked,
    "softmax": lambda net, x: net.add("Softmax", x, axis=1),
}
