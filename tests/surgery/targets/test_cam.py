"""A global average pooling head is rewritten to hand out its class map, exactly."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from anysize.errors import DeclinedError, UsageError
from anysize.sizes import Size
from anysize.surgery import read_metadata, rewrite

WEIGHTS = {"w": (5, 4), "b": (5,)}
HEADS = {
    "gap-flatten-gemm": (
        (
            "p = GlobalAveragePool (fmap) f = Flatten <axis = 1> (p) "
            "scores = Gemm <transB = 1> (f, w, b)"
        ),
        WEIGHTS,
    ),
    "gap-dropout-reshape-gemm": (
        (
            "p = GlobalAveragePool (fmap) d = Dropout (p) f = Reshape (d, shape) "
            "scores = Gemm <transB = 1> (f, w, b)"
        ),
        WEIGHTS,
    ),
    "mean-matmul-add": (
        "f = ReduceMean <axes = [2, 3], keepdims = 0> (fmap) m = MatMul (f, w) scores = Add (m, b)",
        {"w": (4, 5), "b": (5,)},
    ),
    "mean-kept-squeezed": (
        (
            "p = ReduceMean <axes = [-2, -1]> (fmap) f = Flatten <axis = 1> (p) "
            "scores = Gemm <transB = 1> (f, w)"
        ),
        {"w": (5, 4)},
    ),
    "scaled": (
        (
            "p = GlobalAveragePool (fmap) f = Flatten <axis = 1> (p) "
            "scores = Gemm <transB = 0, alpha = 0.5, beta = 2.0> (f, w, b)"
        ),
        {"w": (4, 5), "b": (5,)},
    ),
    "softmax": (
        (
            "p = GlobalAveragePool (fmap) f = Flatten <axis = 1> (p) "
            "l = Gemm <transB = 1> (f, w, b) scores = Softmax <axis = 1> (l)"
        ),
        WEIGHTS,
    ),
    "softmax-identity": (
        (
            "p = GlobalAveragePool (fmap) f = Flatten <axis = 1> (p) "
            "l = Gemm <transB = 1> (f, w, b) s = Softmax <axis = 1> (l) scores = Identity (s)"
        ),
        WEIGHTS,
    ),
    "shape-of-the-average": (
        (
            "p = GlobalAveragePool (fmap) s = Shape (p) n = Gather <axis = 0> (s, zero) "
            "t = Concat <axis = 0> (n, rest) f = Reshape (p, t) "
            "scores = Gemm <transB = 1> (f, w, b)"
        ),
        WEIGHTS,
    ),
    "number-between": (
        (
            "p = GlobalAveragePool (fmap) f = Flatten <axis = 1> (p) g = Mul (f, third) "
            "h = Div (g, third) i = Mul (h, third) scores = Gemm <transB = 1> (i, w, b)"
        ),
        WEIGHTS,
    ),
    "one-axis-after-the-other": (
        (
            "r = ReduceMean <axes = [3], keepdims = 0> (fmap) "
            "f = ReduceMean <axes = [-1], keepdims = 0> (r) scores = Gemm <transB = 1> (f, w, b)"
        ),
        WEIGHTS,
    ),
    "height-before-width": (
        (
            "r = ReduceMean <axes = [2]> (fmap) p = ReduceMean <axes = [3]> (r) "
            "f = Flatten <axis = 1> (p) scores = Gemm <transB = 1> (f, w, b)"
        ),
        WEIGHTS,
    ),
    "mean-of-flattened-cells": (
        (
            "r = Reshape (fmap, cells) f = ReduceMean <axes = [2], keepdims = 0> (r) "
            "scores = Gemm <transB = 1> (f, w, b)"
        ),
        WEIGHTS,
    ),
    "network-in-network": (
        "q = Conv (fmap, k, b) p = GlobalAveragePool (q) scores = Flatten <axis = 1> (p)",
        {"k": (5, 4, 1, 1), "b": (5,)},
    ),
    "network-in-network-softmax": (
        (
            "q = Conv (fmap, k, b) p = GlobalAveragePool (q) f = Flatten <axis = 1> (p) "
            "scores = Softmax <axis = 1> (f)"
        ),
        {"k": (5, 4, 1, 1), "b": (5,)},
    ),
}
CONSTANTS = {"shape": [-1, 4], "zero": [0], "rest": [-1], "cells": [0, 4, -1]}


def pooled(kit, head, **options):
    body, weights = HEADS[head]
    constants = {name: value for name, value in CONSTANTS.items() if name in body}
    return kit.make(
        kit.BACKBONE + body,
        weights=kit.BACKBONE_WEIGHTS | weights | ({"third": ()} if "third" in body else {}),
        constants=constants,
        image=options.pop("image", "batch, 3, h, w"),
        outputs="float[batch, 5] scores",
        **options,
    )


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("size", [(32, 32), (45, 70)])
def test_logits_stay_and_the_map_averages_to_them(kit, head, size):
    model = pooled(kit, head)
    done = rewrite(model, to="cam", size=Size(32, 32))
    onnx.checker.check_model(done.model, full_check=True)
    assert [output.name for output in done.model.graph.output] == ["scores", "map"]
    images = kit.images(2, 3, *size)
    (expected,) = kit.run(model, images)
    scores, dense = kit.run(done.model, images)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=2e-6 * np.abs(dense).max())
    mean = dense.mean(axis=(2, 3), dtype=np.float64)
    if "softmax" in head:
        mean = np.exp(mean) / np.exp(mean).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(mean, expected, rtol=0, atol=2e-6 * np.abs(dense).max())
    assert np.ptp(dense[0, 0]) > 1e-3


@pytest.mark.parametrize("head", ["gap-flatten-gemm", "mean-of-flattened-cells"])
def test_a_head_that_takes_any_size_needs_no_training_size(kit, head):
    done = rewrite(pooled(kit, head), to="cam")
    assert read_metadata(done.model).size is None
    assert [output.name for output in done.model.graph.output] == ["scores", "map"]


def test_the_mean_over_one_axis_is_no_mean_of_the_map(kit):
    body = (
        "r = ReduceMean <axes = [3], keepdims = 0> (fmap) f = Flatten <axis = 1> (r) "
        "scores = Gemm <transB = 1> (f, w)"
    )
    weights = kit.BACKBONE_WEIGHTS | {"w": (5, 32)}
    model = kit.make(kit.BACKBONE + body, weights=weights, outputs="float[1, 5] scores")
    with pytest.raises(DeclinedError, match="expected one on a global average"):
        rewrite(model, to="cam", size=Size(32, 32))


def test_the_weight_keeps_its_bytes(kit):
    model = pooled(kit, "gap-flatten-gemm")
    done = rewrite(model, to="cam", size=Size(32, 32))
    before = next(t for t in model.graph.initializer if t.name == "w")
    after = next(t for t in done.model.graph.initializer if t.name == "w")
    assert list(after.dims) == [5, 4, 1, 1]
    assert after.raw_data == before.raw_data
    assert done.moved == ()


def test_the_metadata_say_where_the_map_lies(kit):
    done = rewrite(pooled(kit, "gap-flatten-gemm"), to="cam", size=Size(32, 32))
    found = read_metadata(done.model)
    assert (found.head, found.classes, found.map_stride) == ("cam", 5, (4, 4))
    assert found.min_size == Size(3, 3)
    with pytest.raises(Exception, match=r"(?i)expand"):
        kit.run(done.model, kit.images(1, 3, 2, 9))


def test_rewriting_twice_changes_nothing(kit):
    once = rewrite(pooled(kit, "gap-flatten-gemm"), to="cam", size=Size(32, 32))
    twice = rewrite(once.model, to="cam")
    assert not twice.applied
    assert twice.model.SerializeToString() == once.model.SerializeToString()


DECLINED = {
    "fc": (
        "f = Flatten <axis = 1> (fmap) scores = Gemm <transB = 1> (f, w, b)",
        (5, 256),
        "--to fcn gives",
    ),
    "relu": (
        (
            "p = GlobalAveragePool (fmap) r = Relu (p) f = Flatten <axis = 1> (r) "
            "scores = Gemm <transB = 1> (f, w, b)"
        ),
        (5, 4),
        "Relu between the global average and the linear layer",
    ),
    "max": (
        "p = GlobalMaxPool (fmap) f = Flatten <axis = 1> (p) scores = Gemm <transB = 1> (f, w, b)",
        (5, 4),
        "GlobalMaxPool between",
    ),
    "behind": (
        (
            "p = GlobalAveragePool (fmap) f = Flatten <axis = 1> (p) "
            "l = Gemm <transB = 1> (f, w, b) scores = Relu (l)"
        ),
        (5, 4),
        "Relu makes the output",
    ),
}


@pytest.mark.parametrize("case", DECLINED)
def test_what_does_not_commute_is_declined_by_name_and_left_as_it_is(kit, case):
    body, weight, said = DECLINED[case]
    model = kit.make(
        kit.BACKBONE + body,
        weights=kit.BACKBONE_WEIGHTS | {"w": weight, "b": (5,)},
        outputs="float[1, 5] scores",
    )
    before = model.SerializeToString()
    with pytest.raises(DeclinedError, match=said):
        rewrite(model, to="cam", in_place=True)
    assert model.SerializeToString() == before


def test_logits_alone_are_no_rewrite(kit):
    with pytest.raises(UsageError, match="the graph's own"):
        rewrite(pooled(kit, "softmax"), to="cam", output="logits")
