"""Sums in order are PyTorch's sums, but for what adding one after the other loses."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn
from torch.nn import functional as F  # noqa: N812

from anysize.validators.references.eager.in_order import IN_ORDER, LANES
from anysize.validators.references.eager.perturbing import Perturbing

IMAGES = torch.randn(2, 6, 9, 11, generator=torch.Generator().manual_seed(1)) + 3.0
STEP = 2.0**-23


def weights(x, count=6):
    ends = ((0.5, 2.0), (-1.0, 1.0))
    return [torch.linspace(*each, count, dtype=x.dtype) for each in ends]


CALLS = {
    "mean of all": lambda x: x.mean(),
    "mean of an axis": lambda x: x.mean(-1),
    "mean of axes, kept": lambda x: torch.mean(x, dim=(2, 3), keepdim=True),
    "sum of no axes, which are all": lambda x: x.sum(()),
    "sum of axes": lambda x: x.sum((1, -1)),
    "a global pool": lambda x: F.adaptive_avg_pool2d(x, 1),
    "a window as large as the map": lambda x: F.avg_pool2d(x, x.shape[2:]),
    "a pooling layer as large as the map": nn.AvgPool2d((9, 11)),
    "a layer normalisation": lambda x: F.layer_norm(x, x.shape[1:]),
    "a layer normalisation with weights": lambda x: F.layer_norm(x.mT, (9,), *weights(x, 9)),
    "a group normalisation": lambda x: F.group_norm(x, 3, *weights(x)),
    "an instance normalisation": lambda x: F.instance_norm(x, None, None, *weights(x)),
}
OTHERS = {
    "a mean in float64": lambda x: x.mean(dtype=torch.float64),
    "a pool of 2x2 cells": lambda x: F.adaptive_avg_pool2d(x, 2),
    "a small window": lambda x: F.avg_pool2d(x, 3),
    "a padded pooling layer": nn.AvgPool2d((9, 11), 1, (4, 5)),
    "a padded window": lambda x: F.avg_pool2d(x, (9, 11), stride=1, padding=(4, 5)),
    "a window by another number": lambda x: F.avg_pool2d(x, (9, 11), divisor_override=3),
    "the sum of whole numbers": lambda x: (x > 0).sum(),
}


class InOrder(Perturbing):
    """Draws nothing but sums in order, and says how often PyTorch's own was asked."""

    def __init__(self, lanes):
        super().__init__(0)
        self._lanes, self._factors = lanes, torch.ones_like(self._factors)
        self.names, self.own = set(), 0

    def _result(self, func, name, args, kwargs):
        def counted(*args, **kwargs):
            self.own += name in IN_ORDER
            return func(*args, **kwargs)

        self.names.add(name)
        return super()._result(counted, name, args, kwargs)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("name", CALLS)
def test_a_sum_in_order_is_the_sum(name, lanes):
    call = CALLS[name]
    with InOrder(lanes) as mode:
        found = call(IMAGES)
    assert not mode.own, "it was not added up in order"
    plain, precise = call(IMAGES), call(IMAGES.double())
    assert found.dtype == torch.float32
    assert found.shape == plain.shape
    assert (found - precise).abs().max() < 200 * STEP * precise.abs().max()


@pytest.mark.parametrize("name", OTHERS)
def test_other_calls_are_pytorchs_own(name):
    with InOrder(4) as mode:
        found = OTHERS[name](IMAGES)
    assert mode.own
    assert torch.equal(found, OTHERS[name](IMAGES))


def test_every_sum_that_is_written_is_tested():
    with InOrder(1) as mode:
        for call in CALLS.values():
            call(IMAGES)
    assert IN_ORDER.keys() <= mode.names


def test_each_fourth_draw_adds_up_in_order_and_no_other_one():
    constant = torch.full((1, 1, 96, 96), 1.2345678)
    errors = []
    for draw in range(16):
        with Perturbing(draw):
            errors.append(abs(constant.mean((2, 3)).item() / float(constant[0, 0, 0, 0]) - 1))
    assert [error > 4 * STEP for error in errors] == [draw % 4 == 0 for draw in range(16)]


@pytest.mark.parametrize(("op_type", "lanes"), [("GlobalAveragePool", 4), ("ReduceMean", 8)])
def test_onnx_runtime_loses_what_a_sum_in_order_loses(op_type, lanes):
    """Why they are drawn: the same error on equal cells, hundreds of steps on a large map."""
    axes = {} if op_type == "GlobalAveragePool" else {"axes": [2, 3]}
    kind = TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node(op_type, ["x"], ["y"], **axes)],
        "mean",
        [helper.make_tensor_value_info("x", kind, [1, "channels", "height", "width"])],
        [helper.make_tensor_value_info("y", kind, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    cells = np.random.default_rng(0).uniform(1, 2, (1, 64, 1, 1)).astype(np.float32)
    maps = np.ascontiguousarray(np.broadcast_to(cells, (1, 64, 112, 112)))
    precise = maps.mean((2, 3), dtype=np.float64)
    (answer,) = session.run(None, {"x": maps})
    lost = np.abs(answer.reshape(precise.shape) / precise - 1).max() / STEP
    in_order = IN_ORDER["mean"](lanes, torch.from_numpy(maps), (2, 3)).numpy()
    drawn = np.abs(in_order / precise - 1).max() / STEP
    assert lost > 64
    assert 0.5 < drawn / lost < 2.0
