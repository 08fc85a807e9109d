"""The fully connected layer, `(batch, K)` → `(batch, units)`, in every spelling."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from spellings.net import Net
from spellings.weights import Hide

Dense = Callable[[Net, str, int, int, Hide], str]


def gemm(
    *,
    left: bool = False,
    turn_data: bool = False,
    turn_weight: bool = True,
    bias: tuple[int, ...] | None = None,
    **attributes: float,
) -> Dense:
    """A Gemm with any side transposed; bias dims in units (-1 for the number of units)."""

    def build(net: Net, x: str, features: int, units: int, hide: Hide) -> str:
        stored_first = turn_weight != left
        dims = (units, features) if stored_first else (features, units)
        weight = hide(net, net.normal(*dims))
        data = net.add("Transpose", x, perm=[1, 0]) if turn_data != left else x
        inputs = [weight, data] if left else [data, weight]
        turn_left, turn_right = (turn_weight, turn_data) if left else (turn_data, turn_weight)
        if bias is not None:
            sides = [units if side == -1 else side for side in bias]
            inputs.append(net.store(net.rng.standard_normal(sides).astype(np.float32)))
        out = net.add("Gemm", *inputs, transA=int(turn_left), transB=int(turn_right), **attributes)
        return net.add("Transpose", out) if left else out

    return build


def matmul(after: str = "", *, bias_first: bool = False, dims: tuple[int, ...] = (-1,)) -> Dense:
    def build(net: Net, x: str, features: int, units: int, hide: Hide) -> str:
        out = net.add("MatMul", x, hide(net, net.normal(features, units)))
        if not after:
            return out
        sides = [units if side == -1 else side for side in dims]
        bias = net.store(net.rng.standard_normal(sides).astype(np.float32))
        return net.add(after, bias, out) if bias_first else net.add(after, out, bias)

    return build


def matmul_left(net: Net, x: str, features: int, units: int, hide: Hide) -> str:
    out = net.add("MatMul", hide(net, net.normal(units, features)), net.add("Transpose", x))
    bias = net.store(net.rng.standard_normal((units, 1)).astype(np.float32))
    return net.add("Transpose", net.add("Add", out, bias))


def matmul_rank_three(net: Net, x: str, features: int, units: int, hide: Hide) -> str:
    row = net.squeeze(x, 1, op="Unsqueeze")
    return net.squeeze(matmul("Add")(net, row, features, units, hide), 1)


DENSE: dict[str, Dense] = {
    "gemm": gemm(bias=(-1,)),
    "gemm-without-bias": gemm(),
    "gemm-trans-none": gemm(turn_weight=False, bias=(-1,)),
    "gemm-trans-a": gemm(turn_data=True, turn_weight=False, bias=(-1,)),
    "gemm-trans-both": gemm(turn_data=True, bias=(-1,)),
    "gemm-left": gemm(left=True, turn_weight=False, bias=(-1, 1)),
    "gemm-left-trans-a": gemm(left=True, bias=(-1, 1)),
    "gemm-left-trans-b": gemm(left=True, turn_weight=False, turn_data=True),
    "gemm-left-trans-both": gemm(left=True, turn_data=True, bias=(-1, 1)),
    "gemm-alpha-beta": gemm(bias=(-1,), alpha=0.5, beta=3.0),
    "gemm-beta-zero": gemm(bias=(-1,), beta=0.0),
    "gemm-scalar-bias": gemm(bias=()),
    "gemm-one-bias": gemm(bias=(1, 1)),
    "gemm-row-bias": gemm(bias=(1, -1), beta=0.5),
    "matmul": matmul(),
    "matmul-add": matmul("Add"),
    "add-matmul": matmul("Add", bias_first=True, dims=(1, -1)),
    "matmul-sub": matmul("Sub"),
    "sub-matmul": matmul("Sub", bias_first=True),
    "matmul-add-scalar": matmul("Add", dims=()),
    "matmul-left": matmul_left,
    "matmul-rank-three": matmul_rank_three,
}
