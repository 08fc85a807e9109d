"""Numbers of the traced size follow the image or decline: held against NumPy at other sizes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from anysize.errors import DeclinedError, UsageError
from anysize.surgery import find_head, rewrite

# The backbone's map is 8×8 at 32×32.
CELLS = 64
SIZES = [(1, 32, 32), (2, 48, 80), (3, 45, 61)]
FROM_SUMS = "scores = Gemm <transB = 1> (made, w, bias)"
WEIGHTS = {"w": (5, 4), "bias": (5,)}


def network(kit, body, *, floats=None, constants=None, opset=17, tail=FROM_SUMS, weights=WEIGHTS):
    return kit.make(
        f"{kit.BACKBONE} {body} {tail}",
        weights={**kit.BACKBONE_WEIGHTS, **weights},
        floats=floats or {},
        constants={"axes": [2, 3], "zero": [0], "rows": [0, 4, -1], **(constants or {})},
        opset=opset,
    )


def scores(kit, model, images, pool):
    """Pool the backbone's map with NumPy, and classify."""
    cut = kit.make(
        kit.BACKBONE,
        weights=kit.BACKBONE_WEIGHTS,
        image="n, 3, h, w",
        outputs="float[n, 4, a, b] fmap",
    )
    given = {tensor.name: tensor for tensor in model.graph.initializer}
    for tensor in cut.graph.initializer:
        tensor.CopyFrom(given[tensor.name])
    (fmap,) = kit.run(cut, images)
    weight, bias = (onnx.numpy_helper.to_array(given[name]) for name in ("w", "bias"))
    return pool(fmap.astype(np.float64)) @ weight.T + bias


def log_mean_exp(fmap):
    return np.log(np.exp(fmap).mean((2, 3)))


def mean(fmap):
    return fmap.mean((2, 3))


AVERAGES = {
    "sum-divided": ("s = ReduceSum <keepdims = 0> (fmap, axes) made = Div (s, c)", CELLS, mean),
    "sum-times-reciprocal": (
        "s = ReduceSum <keepdims = 0> (fmap, axes) made = Mul (c, s)", 1 / CELLS, mean,
    ),
    "sums-one-after-the-other": (
        """r = ReduceSum <keepdims = 0> (fmap, three) s = ReduceSum <keepdims = 0> (r, two)
           made = Div (s, c)""", CELLS, mean,
    ),
    "kept-axes-behind-a-flatten": (
        """s = ReduceSum <keepdims = 1> (fmap, axes) f = Flatten (s) made = Div (f, c)""",
        CELLS, mean,
    ),
    "squares": (
        """s = ReduceSumSquare <keepdims = 0, axes = [2, 3]> (fmap) made = Div (s, c)""",
        CELLS, lambda fmap: (fmap**2).mean((2, 3)),
    ),
    "log-sum-exp-less-logarithm": (
        """f = Reshape (fmap, rows) s = ReduceLogSumExp <keepdims = 0, axes = [2]> (f)
           made = Sub (s, c)""", np.log(CELLS), log_mean_exp,
    ),
    "log-sum-exp-plus-negative-logarithm": (
        "s = ReduceLogSumExp <keepdims = 0, axes = [2, 3]> (fmap) made = Add (s, c)",
        -np.log(CELLS), log_mean_exp,
    ),
    "logarithm-of-a-sum": (
        """e = Exp (fmap) s = ReduceSum <keepdims = 0> (e, axes) l = Log (s)
           made = Sub (l, c)""", np.log(CELLS), log_mean_exp,
    ),
}  # fmt: skip


@pytest.mark.parametrize("opset", [13, 17])
@pytest.mark.parametrize("name", AVERAGES)
def test_a_sum_over_a_number_of_cells_is_an_average_at_every_size(kit, name, opset):
    body, number, pool = AVERAGES[name]
    model = network(
        kit, body, floats={"c": number}, constants={"two": [2], "three": [3]}, opset=opset
    )
    done = rewrite(model, to="dynamic")
    assert done.applied
    for batch, height, width in SIZES:
        images = kit.images(batch, 3, height, width)
        (got,) = kit.run(done.model, images)
        np.testing.assert_allclose(got, scores(kit, model, images, pool), rtol=1e-4, atol=1e-5)


def test_the_number_that_is_kept_is_wrong_elsewhere(kit):
    """What `keep` leaves shows that the comparison above can fail."""
    body, number, pool = AVERAGES["sum-divided"]
    model = network(kit, body, floats={"c": number})
    done = rewrite(model, to="dynamic", keep=["made"])
    images = kit.images(1, 3, 48, 80)
    (got,) = kit.run(done.model, images)
    expected = scores(kit, model, images, lambda fmap: fmap.sum((2, 3)) / number)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(got, scores(kit, model, images, pool), rtol=1e-2)


def test_the_count_is_read_from_what_is_summed(kit):
    body, number, _ = AVERAGES["sum-divided"]
    done = rewrite(network(kit, body, floats={"c": number}), to="dynamic")
    kinds = [node.op_type for node in done.model.graph.node]
    assert kinds[kinds.index("ReduceSum") + 1 :][:5] == ["Shape", "Shape", "Mul", "Cast", "Div"]
    assert all(tensor.name != "c" for tensor in done.model.graph.initializer)


PADDED = """
    padded = Pad (image, pads)
    conv = Conv <kernel_shape = [3, 3], strides = [2, 2]> (padded, conv_w, conv_b)
    mean = GlobalAveragePool (conv) made = Flatten (mean)
"""
SUM = "s = ReduceSum <keepdims = 0> (fmap, axes)"
# A name → the nodes, what they are given, and what the message has to say after the node's name.
SUSPECTS = {
    "less-one": (
        f"{SUM} made = Div (s, c)", {"c": CELLS - 1}, {},
        "'made': Div with 63, which may be the number of cells, 8×8, less 1, at 32x32; --keep made",
    ),
    "one-side": (
        f"{SUM} made = Div (s, c)", {"c": 8}, {}, "Div with 8, which may be the root of the number",
    ),
    "root": (
        "s = ReduceL2 <keepdims = 0, axes = [2, 3]> (fmap) made = Mul (s, c)", {"c": 1 / 8}, {},
        "Mul with 0.125, which may be",
    ),
    "power": (
        "s = ReduceProd <keepdims = 0, axes = [2, 3]> (fmap) made = Pow (s, c)", {"c": 1 / 64}, {},
        "Pow with 0.015625, which may be 1 / the number of cells, 8×8,",
    ),
    "one-for-all": (
        f"{SUM} made = Div (s, c)", {"c": [CELLS] * 4}, {}, "Div with 64, which may be the number",
    ),
    "mean-times-cells": (
        "s = ReduceMean <keepdims = 0, axes = [2, 3]> (fmap) made = Mul (s, c)", {"c": 64 / 63}, {},
        "Mul with 1.01587, which may be a ratio of the number of cells",
    ),
    "k": (
        """f = Reshape (fmap, rows) t, at = TopK (f, k)
           made = ReduceMean <keepdims = 0, axes = [2]> (t)""", {}, {"k": [6]},
        "'t': TopK with 6, which may be a part of the 64 cells",
    ),
    "end": (
        """t = Slice (fmap, zero, half, two) made = ReduceMean <keepdims = 0, axes = [2, 3]> (t)""",
        {}, {"half": [4], "two": [2]}, "Slice with 4, which may be a part of the 8 cells",
    ),
    "centre": (
        """t = Slice (fmap, low, high, two) made = ReduceMean <keepdims = 0, axes = [2, 3]> (t)""",
        {}, {"low": [3], "high": [5], "two": [2]}, "Slice with 3, which may be a part of the 8",
    ),
    "place": (
        """f = Reshape (fmap, rows) made = Gather <axis = 2> (f, k)""", {}, {"k": 37},
        "'made': Gather with 37, which may be a place among the 64 cells",
    ),
    "places": (
        """t = Transpose <perm = [2, 0, 1, 3]> (fmap) g = GatherND (t, k)
           made = ReduceMean <keepdims = 0, axes = [0, 3]> (g)""", {}, {"k": [[0], [3], [6]]},
        "'g': GatherND with 6, which may be a place among the 8 cells",
    ),
    "table": (
        """t = Gather <axis = 2> (fmap, k)
           made = ReduceMean <keepdims = 0, axes = [2, 3, 4]> (t)""",
        {}, {"k": [[0, 3, 6]] * 800}, "Gather with 8, which may be a table of places among the 8",
    ),
    "place-of-the-largest": (
        """f = Reshape (fmap, rows) a = ArgMax <axis = 2, keepdims = 0> (f) column = Mod (a, k)
           made = Cast <to = 1> (column)""", {}, {"k": 8},
        "'column': Mod with 8, which may be a side of a map",
    ),
    "spectrum": (
        """u = Unsqueeze (fmap, last) d = DFT <axis = 3> (u, k)
           made = ReduceMean <keepdims = 0, axes = [2, 3, 4]> (d)""", {}, {"k": 8, "last": [4]},
        "'d': DFT with 8, which may be the 8 cells of an axis",
    ),
    "grid": (
        """p = GlobalAveragePool (fmap) f = Flatten (p) m = MatMul (f, place) t = Reshape (m, two)
           c = MatMul (cells, t) g = Reshape (c, sides) sampled = GridSample (fmap, g)
           made = ReduceMean <keepdims = 0, axes = [2, 3]> (sampled)""", {},
        {"two": [-1, 3, 2], "sides": [-1, 8, 8, 2]},
        "'sampled': GridSample with 8, which may be a side of a grid that is laid out for 8×8",
    ),
    "scaled-before-the-sum": (
        """f = Reshape (fmap, rows) d = Div (f, c) t = Transpose <perm = [0, 2, 1]> (f)
           g = MatMul (d, t) made = ReduceMax <keepdims = 0, axes = [2]> (g)""", {"c": CELLS}, {},
        "'d': Div with 64, which may be the number of cells, 64,",
    ),
    "behind-a-maximum": (
        """r = ReduceSum <keepdims = 0> (fmap, two) m = ReduceMax <keepdims = 0, axes = [2]> (r)
           made = Div (m, c)""", {"c": 8}, {"two": [2]},
        "Div with 8, which may be the number of cells",
    ),
    "filled": (
        """p = Pad (fmap, pads) made = ReduceMean <keepdims = 0, axes = [2, 3]> (p)""", {},
        {"pads": [0, 0, 0, 0, 0, 0, 4, 4]}, "'p': Pad with 4, which may be what 8 cells lack to 12",
    ),
    "filled-in-a-window": (
        """p = Conv <kernel_shape = [1, 1], pads = [0, 0, 4, 4]> (fmap, filter)
           made = ReduceMean <keepdims = 0, axes = [2, 3]> (p)""", {}, {},
        "'p': Conv with 4, which may be what 8 cells lack to 12",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SUSPECTS)
def test_a_number_without_a_certain_meaning_is_declined_by_name(kit, name):
    body, floats, constants, message = SUSPECTS[name]
    shapes = {"filter": (4, 4, 1, 1), "place": (4, 6), "cells": (64, 3)}
    weights = {**WEIGHTS, **{name: shape for name, shape in shapes.items() if name in body}}
    model = network(kit, body, floats=floats, constants=constants, weights=weights)
    with pytest.raises(DeclinedError, match=message.replace("(", r"\(")) as caught:
        rewrite(model, to="dynamic")
    assert "--to resize" in str(caught.value)
    assert rewrite(model, to="dynamic", keep=[caught.value.node]).applied
    assert rewrite(model, to="resize").applied


def test_windows_that_are_put_back_into_a_map_are_declined_by_name(kit):
    body = """f = Reshape (fmap, rows) back = Col2Im (f, sides, one)
              mean = GlobalAveragePool (back) made = Flatten (mean)"""
    model = network(kit, body, constants={"sides": [8, 8], "one": [1, 1]}, opset=18)
    with pytest.raises(DeclinedError, match="'back': Col2Im with 8, which may be a side of a map"):
        rewrite(model, to="dynamic")


@pytest.mark.parametrize("pads", [[0, 0, 0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 0, 0, 0, 0]])
def test_same_padding_in_numbers_is_declined_by_name(kit, pads):
    model = kit.make(
        f"{PADDED} {FROM_SUMS}",
        weights={"conv_w": (4, 3, 3, 3), "conv_b": (4,), **WEIGHTS},
        constants={"pads": pads},
    )
    with pytest.raises(DeclinedError, match=r"'padded': pads 32 cells by . and ., .*--keep padded"):
        rewrite(model, to="dynamic")
    assert rewrite(model, to="dynamic", keep=["padded"]).applied
    assert rewrite(model, to="resize").applied


def test_the_pads_of_a_convolution_are_looked_at_as_well(kit):
    body = """conv = Conv <kernel_shape = [3, 3], strides = [2, 2], pads = [0, 0, 1, 1]>
                  (image, conv_w, conv_b)
              mean = GlobalAveragePool (conv) made = Flatten (mean)"""
    weights = {"conv_w": (4, 3, 3, 3), "conv_b": (4,), **WEIGHTS}
    with pytest.raises(DeclinedError, match="'conv': pads 32 cells by 0 and 1"):
        rewrite(kit.make(f"{body} {FROM_SUMS}", weights=weights), to="dynamic")


# What resembles a number of the size and is none.
INNOCENT = {
    "symmetric-pads": ("m = ReduceMean <keepdims = 0, axes = [2, 3]> (fmap) made = Relu (m)", {}),
    "another-number": (f"{SUM} made = Div (s, c)", {"c": 50}),
    "behind-a-maximum": (
        "s = ReduceMax <keepdims = 0, axes = [2, 3]> (fmap) made = Div (s, c)", {"c": CELLS},
    ),
    "beside-a-map": (
        """d = Div (fmap, c) made = ReduceMean <keepdims = 0, axes = [2, 3]> (d)""", {"c": CELLS},
    ),
    "sum-over-channels": (
        """s = ReduceSum <keepdims = 1> (fmap, one) d = Div (fmap, s) e = Mul (d, c)
           made = ReduceMean <keepdims = 0, axes = [2, 3]> (e)""", {"c": CELLS},
    ),
    "taken-away-before": (
        """t = Slice (fmap, ones, far, last) p = Pad (t, pads)
           made = ReduceMean <keepdims = 0, axes = [2, 3]> (p)""", {},
    ),
    "spectrum-of-channels": (  # the axis is 1 where none is said, up to opset 19
        """u = Unsqueeze (fmap, four) d = DFT (u, channels)
           made = ReduceMean <keepdims = 0, axes = [2, 3, 4]> (d)""", {},
    ),
    "rounded-up": (
        """p = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [0, 0, 1, 1]> (fmap)
           made = ReduceMean <keepdims = 0, axes = [2, 3]> (p)""", {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INNOCENT)
def test_what_needs_no_number_of_cells_is_left_as_it_is(kit, name):
    body, floats = INNOCENT[name]
    model = network(kit, body, floats=floats, constants={
        "one": [1], "ones": [2], "far": [2**40], "last": [3], "pads": [0, 0, 0, 0, 0, 0, 0, 2],
        "four": [4], "channels": 4,
    })  # fmt: skip
    done = rewrite(model, to="dynamic")
    assert done.applied
    assert len(done.model.graph.node) <= len(model.graph.node) + 12  # the guard, and no count
    assert sum(node.op_type == "Reciprocal" for node in done.model.graph.node) == 0


def test_a_sum_before_an_fc_head_is_freed_for_adaptive_and_fcn(kit):
    body = """s = ReduceSum <keepdims = 1> (fmap, axes) d = Div (s, c) g = Sigmoid (d)
              gated = Mul (fmap, g) made = Flatten (gated)"""
    model = network(kit, body, floats={"c": CELLS}, weights={"w": (5, 256), "bias": (5,)})
    for to in ("adaptive", "fcn"):
        done = rewrite(model, to=to)
        divided = next(node for node in done.model.graph.node if node.op_type == "Div")
        assert divided.input[1] != "c", to
    assert find_head(model).feature_map == "gated"


def test_a_number_in_the_head_that_adaptive_keeps_is_the_head_s(kit):
    body = "made = Flatten (fmap)"
    tail = """fc = Gemm <transB = 1> (made, w, bias)
              s = ReduceSum <keepdims = 1> (fc, one) scores = Div (fc, s)"""
    weights = {"w": (5, 256), "bias": (5,)}
    model = network(kit, body, constants={"one": [1]}, tail=tail, weights=weights)
    assert rewrite(model, to="adaptive").applied


def test_keep_names_a_node_of_the_graph(kit):
    body, number, _ = AVERAGES["sum-divided"]
    with pytest.raises(UsageError, match="keep 'nobody': the graph has no node of that name"):
        rewrite(network(kit, body, floats={"c": number}), to="dynamic", keep=["nobody"])


def test_the_command_takes_a_user_s_word_for_a_node(kit, tmp_path, capsys):
    from anysize.cli import main

    body, floats, constants, _ = SUSPECTS["less-one"]
    model = network(kit, body, floats=floats, constants=constants)
    source, out = tmp_path / "in.onnx", tmp_path / "out.onnx"
    source.write_bytes(model.SerializeToString())
    words = ["rewrite", str(source), "-o", str(out), "--to", "dynamic"]
    assert main(words) == 2
    assert "--keep made says that it is a constant" in capsys.readouterr().err
    assert main([*words, "--keep", "nobody"]) == 2
    assert not out.exists()
    assert main([*words, "--keep", "made"]) == 0
    assert out.exists()


def test_poolings_of_one_kind_that_pad_as_same_does_and_not_alike_were_computed(kit):
    """30 rows are padded by 0 and 1, and the 15 that are left by 1 and 1, as Keras has it."""
    pool = "MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = "
    body = f"""a = {pool}[0, 0, 1, 1]> (image) b = {pool}[1, 1, 1, 1]> (a)
               p = GlobalAveragePool (b) scores = Flatten <axis = 1> (p)"""
    shapes = {"image": "1, 3, 30, 30", "outputs": "float[1, 3] scores"}
    with pytest.raises(DeclinedError, match=r"node 'a': pads 30 cells by 0 and 1, which may stem"):
        rewrite(kit.make(body, **shapes), to="dynamic")
    alike = body.replace("[1, 1, 1, 1]", "[0, 0, 0, 0]")  # rounded up twice
    assert rewrite(kit.make(alike, **shapes), to="dynamic").applied
