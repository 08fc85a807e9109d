"""The flatten, `(batch, C, h, w)` → `(batch, K)`, in every spelling."""

from __future__ import annotations

import numpy as np
from spellings.net import CHANNELS, FLAT, Net, Piece


def flat_reshape(*target: int) -> Piece:
    return lambda net, x: net.add("Reshape", x, net.ints(*target))


def flat_gather(net: Net, x: str) -> str:
    batch = net.add("Gather", net.add("Shape", x), net.ints(0), axis=0)
    return net.add("Reshape", x, net.add("Concat", batch, net.ints(-1), axis=0))


def flat_scalar_gather(net: Net, x: str) -> str:
    zero = net.store(np.array(0, np.int64))
    batch = net.add("Gather", net.add("Shape", x), zero, axis=0)
    row = net.squeeze(batch, 0, op="Unsqueeze")
    return net.add("Reshape", x, net.add("Concat", row, net.ints(FLAT), axis=0))


def flat_slice_mul(net: Net, x: str) -> str:
    shape = net.add("Shape", x)
    sides = [net.add("Slice", shape, net.ints(i), net.ints(i + 1)) for i in range(4)]
    features = net.add("Mul", net.add("Mul", sides[1], sides[2]), sides[3])
    return net.add("Reshape", x, net.add("Concat", sides[0], features, axis=0))


def flat_unsqueezed(net: Net, x: str) -> str:
    return net.add("Reshape", net.squeeze(x, 4, op="Unsqueeze"), net.ints(0, -1))


def flat_twice(net: Net, x: str) -> str:
    rows = net.add("Reshape", x, net.ints(0, CHANNELS, -1))
    return net.add("Reshape", rows, net.ints(0, FLAT))


def flat_through_rank_four(net: Net, x: str) -> str:
    return flat_reshape(0, -1)(net, net.add("Reshape", x, net.ints(0, CHANNELS, -1, 1)))


def flat_and_again(net: Net, x: str) -> str:
    return net.add("Flatten", net.add("Reshape", net.add("Flatten", x), net.ints(-1, FLAT)))


def nhwc(net: Net, x: str) -> str:
    return net.add("Transpose", x, perm=[0, 2, 3, 1])


def flat_nhwc(net: Net, x: str) -> str:
    return net.add("Reshape", nhwc(net, x), net.ints(-1, FLAT))


def flat_nhwc_flatten(net: Net, x: str) -> str:
    return net.add("Flatten", net.add("Relu", nhwc(net, x)), axis=1)


def flat_nhwc_scaled(net: Net, x: str) -> str:
    gain = net.add("Mul", nhwc(net, x), net.store(1 + net.normal(CHANNELS)))
    shift = net.add("Add", net.store(net.normal(1, 1, CHANNELS)), gain)
    return net.add("Reshape", net.add("Relu", shift), net.ints(0, -1))


def flat_nhwc_scaled_on_map(net: Net, x: str) -> str:
    gain = net.add("Mul", x, net.store(1 + net.normal(CHANNELS, 1, 1)))
    return flat_nhwc(net, gain)


def flat_sides_swapped(net: Net, x: str) -> str:
    return net.add("Flatten", net.add("Transpose", x, perm=[0, 1, 3, 2]))


FLATTENS: dict[str, Piece] = {
    "flatten": lambda net, x: net.add("Flatten", x),
    "flatten-axis-minus-three": lambda net, x: net.add("Flatten", x, axis=-3),
    "reshape-zero-minus-one": flat_reshape(0, -1),
    "reshape-minus-one-k": flat_reshape(-1, FLAT),
    "shape-gather-concat": flat_gather,
    "shape-scalar-gather-unsqueeze": flat_scalar_gather,
    "shape-slice-mul-concat": flat_slice_mul,
    "unsqueeze-reshape": flat_unsqueezed,
    "reshape-reshape": flat_twice,
    "reshape-through-rank-four": flat_through_rank_four,
    "flatten-reshape-flatten": flat_and_again,
    "nhwc-reshape": flat_nhwc,
    "nhwc-relu-flatten": flat_nhwc_flatten,
    "nhwc-mul-add-relu-reshape": flat_nhwc_scaled,
    "mul-nhwc-reshape": flat_nhwc_scaled_on_map,
    "sides-swapped": flat_sides_swapped,
}
BAKED: dict[str, Piece] = {
    "reshape-one-k": flat_reshape(1, FLAT),
    "reshape-one-minus-one": flat_reshape(1, -1),
    "reshape-allowzero": lambda net, x: net.add("Reshape", x, net.ints(-1, FLAT), allowzero=1),
}
