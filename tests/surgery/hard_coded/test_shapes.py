"""Shapes that a trace has built in follow the image: held against a trace at that very size."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from anysize.errors import DeclinedError, UsageError
from anysize.sizes import Size
from anysize.surgery import (
    IllegalSizeError,
    free_axes,
    free_baked_shapes,
    image_input,
    read_metadata,
    rewrite,
)
from anysize.validators.proof import prove_rewrite

# The wide image's map is wider than high, the other one's odd; the batch is never the trace's.
OTHERS = [(3, Size(48, 80)), (2, Size(64, 32)), (1, Size(32, 32))]
ODD = [(2, Size(45, 61))]
TAIL = """
    after = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (made, after_w)
    warm = Relu (after) mean = GlobalAveragePool (warm) flat = Flatten (mean)
    scores = Gemm <transB = 1> (flat, w, bias)
"""
SMALL = "small = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (fmap)"
RESIZE = 'Resize <mode = "linear">'
HALF = f"made = {RESIZE} (fmap, , , s)"


# What a network computes between `fmap` and `made`, and the shapes that its trace would hold.
PATTERNS = {
    "channel-shuffle": (
        """a = Reshape (fmap, s) t = Transpose <perm = [0, 2, 1, 3, 4]> (a)
           made = Reshape (t, back)""",
        lambda n, h, w: {"s": [n, 2, 2, h, w], "back": [n, 4, h, w]},
    ),
    "tokens": (
        """a = Reshape (fmap, s) t = Transpose <perm = [0, 2, 1]> (a) m = MatMul (t, mix)
           q = Softmax (m) u = Transpose <perm = [0, 2, 1]> (q) made = Reshape (u, back)""",
        lambda n, h, w: {"s": [n, 4, h * w], "back": [n, 4, h, w]},
    ),
    "groups-normalised": (
        """a = Reshape (fmap, s) g = InstanceNormalization (a, two, zero)
           made = Reshape (g, back)""",
        lambda n, h, w: {"s": [n, 2, -1], "back": [n, 4, h, w]},
    ),
    "batch-and-channels-folded": (
        "a = Reshape (fmap, s) b = Sigmoid (a) made = Reshape (b, back)",
        lambda n, h, w: {"s": [4 * n, h, w], "back": [n, 4, h, w]},
    ),
    "height-and-width-exchanged": (
        """t = Transpose <perm = [0, 1, 3, 2]> (fmap) a = Reshape (t, s) b = Relu (a)
           c = Reshape (b, back) made = Transpose <perm = [0, 1, 3, 2]> (c)""",
        lambda n, h, w: {"s": [n, 4 * w, h], "back": [n, 4, w, h]},
    ),
    "pooled-and-expanded": (
        "p = GlobalAveragePool (fmap) e = Expand (p, s) made = Mul (e, fmap)",
        lambda n, h, w: {"s": [n, 4, h, w]},
    ),
    "squeezed-and-excited": (
        """p = GlobalMaxPool (fmap) f = Reshape (p, s) m = MatMul (f, mix) g = Sigmoid (m)
           e = Reshape (g, back) made = Mul (fmap, e)""",
        lambda n, h, w: {"s": [n, 4], "back": [n, 4, 1, 1]},
    ),
    "depth-to-space": (
        """wide = Conv <kernel_shape = [1, 1]> (fmap, wide_w) a = Reshape (wide, s)
           t = Transpose <perm = [0, 1, 4, 2, 5, 3]> (a) made = Reshape (t, back)""",
        lambda n, h, w: {"s": [n, 4, 2, 2, h, w], "back": [n, 4, 2 * h, 2 * w]},
    ),
    "resized-to-another-map": (
        f"{SMALL} r = {RESIZE} (small, , , s) made = Add (r, fmap)",
        lambda n, h, w: {"s": [n, 4, h, w]},
    ),
}
EVEN = {
    "space-to-depth": (
        """a = Reshape (fmap, s) t = Transpose <perm = [0, 1, 3, 5, 2, 4]> (a)
           d = Reshape (t, back) made = Conv <kernel_shape = [1, 1]> (d, deep_w)""",
        lambda n, h, w: {"s": [n, 4, h // 2, 2, w // 2, 2], "back": [n, 16, h // 2, w // 2]},
    ),
}


def traced(kit, pattern, batch, size, opset=17):
    """The graph that an exporter writes at one size: every shape is a number."""
    body, shapes = pattern
    height, width = ((side + 1) // 2 // 2 for side in (size.height, size.width))
    return kit.make(
        kit.BACKBONE + body + TAIL,
        weights=kit.BACKBONE_WEIGHTS
        | {"after_w": (4, 4, 3, 3), "bias": (5,), "w": (5, 4), "mix": (4, 4),
           "deep_w": (4, 16, 1, 1), "wide_w": (16, 4, 1, 1)},
        floats={"two": [2.0, 0.5], "zero": [0.0, 0.25]},
        constants=shapes(batch, height, width),
        image=f"{batch}, 3, {size.height}, {size.width}",
        outputs=f"float[{batch}, 5] scores",
        opset=opset,
    )  # fmt: skip


def assert_follows(kit, pattern, others, opset=17):
    original = traced(kit, pattern, 1, Size(32, 32), opset)
    before = original.SerializeToString()
    done = rewrite(original, to="dynamic")
    assert done.applied
    assert original.SerializeToString() == before
    onnx.checker.check_model(done.model, full_check=True)
    for batch, size in others:
        images = kit.images(batch, 3, size.height, size.width)
        (want,) = kit.run(traced(kit, pattern, batch, size, opset), images)
        (got,) = kit.run(done.model, images)
        assert np.ptp(want, axis=1).min() > 1e-4
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", PATTERNS)
def test_a_freed_graph_equals_a_trace_at_any_other_size(kit, name):
    assert_follows(kit, PATTERNS[name], OTHERS + ODD)


@pytest.mark.parametrize("name", EVEN)
def test_a_height_that_is_halved_follows_where_it_is_even(kit, name):
    assert_follows(kit, EVEN[name], OTHERS)


@pytest.mark.parametrize("opset", [9, 11, 14, 18])
def test_shapes_are_computed_with_what_the_opset_has(kit, opset):
    assert_follows(kit, PATTERNS["channel-shuffle"], OTHERS + ODD, opset)


def test_zero_and_minus_one_say_it_where_they_can(kit):
    done = rewrite(traced(kit, PATTERNS["groups-normalised"], 1, Size(32, 32)), to="dynamic")
    values = {t.name: onnx.numpy_helper.to_array(t) for t in done.model.graph.initializer}
    first, second = (n for n in done.model.graph.node if n.op_type == "Reshape")
    assert values[first.input[1]].tolist() == [0, 2, -1]
    assert second.input[1] not in values, "height and width are those of an earlier map"


def test_height_and_width_taken_for_one_another_would_answer_something_else(kit):
    body, shapes = PATTERNS["height-and-width-exchanged"]
    wrong = body.replace("made = Transpose <perm = [0, 1, 3, 2]> (c)", "made = Relu (c)")
    images = kit.images(1, 3, 48, 80)
    answers = [
        kit.run(traced(kit, (one, shapes), 1, Size(48, 80)), images)[0] for one in (body, wrong)
    ]
    assert np.abs(answers[0] - answers[1]).max() > 1e-2


HALVED = """
    a = Reshape (fmap, s) top = ReduceMax <axes = [3], keepdims = 0> (a)
    made = Reshape (top, back)
"""


def halved(kit, batch, size, *, windows):
    """Rows in pairs, or in four bands: at 8 rows that is the same."""

    def shapes(n, h, w):
        first = [n, 4, 4, h // 4, w] if windows else [n, 4, h // 2, 2, w]
        return {"s": first, "back": [n, 4, -1, w]}

    return traced(kit, (HALVED, shapes), batch, size)


def test_where_two_readings_fit_the_node_is_named(kit):
    pairs = halved(kit, 1, Size(32, 32), windows=False)
    bands = halved(kit, 1, Size(32, 32), windows=True)
    assert pairs.SerializeToString() == bands.SerializeToString()
    image = kit.images(1, 3, 64, 32)
    answers = [kit.run(halved(kit, 1, Size(64, 32), windows=w), image)[0] for w in (True, False)]
    assert np.abs(answers[0] - answers[1]).max() > 1e-3
    before = pairs.SerializeToString()
    with pytest.raises(
        DeclinedError,
        match=r"node 'a': Reshape to \(1, 4, 4, 2, 8\) may mean .*8, 2, .* or .*4, 4, .*fit the "
        r"graph; export the network again",
    ):
        rewrite(pairs, to="dynamic")
    assert pairs.SerializeToString() == before


def test_a_map_that_is_halved_may_be_brought_to_one_size(kit):
    model = traced(kit, (HALF, lambda *_: {"s": [1, 4, 4, 4]}), 1, Size(32, 32))
    with pytest.raises(
        DeclinedError, match=r"may mean \(3, 4, 4, 4\) or \(3, 4, 8, 12\) .* fit the"
    ):
        rewrite(model, to="dynamic")


def test_more_readings_than_can_be_tried_are_declined(kit):
    parts = "".join(
        f"a{i} = Reshape (fmap, s) r{i} = ReduceMax <axes = [3], keepdims = 1> (a{i}) "
        f"g{i} = Add (a{i}, r{i}) q{i} = Reshape (g{i}, back) m{i + 1} = Add (m{i}, q{i}) "
        for i in range(8)
    )
    body = f"m0 = Relu (fmap) {parts} made = Relu (m8)"
    shapes = {"s": [1, 4, 4, 2, 8], "back": [1, 4, 8, 8]}
    model = traced(kit, (body, lambda *_: shapes), 1, Size(32, 32))
    with pytest.raises(DeclinedError, match="can be read in more than 64 ways"):
        rewrite(model, to="dynamic")


def test_a_batch_behind_its_channels_is_declined_by_name(kit):
    body = "a = Reshape (fmap, s) b = Relu (a) made = Reshape (b, back)"
    shapes = {"s": [4, 1, 8, 8], "back": [1, 4, 8, 8]}
    with pytest.raises(DeclinedError, match=r"node 'a': Reshape of .* cannot be told") as caught:
        rewrite(traced(kit, (body, lambda *_: shapes), 1, Size(32, 32)), to="dynamic")
    assert caught.value.node == "a"


def test_a_shape_that_is_an_attribute_is_written_there_or_declined(kit):
    def network(target):
        return kit.make(
            f"""conv = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (image, w)
                a = Reshape <shape = {target}> (conv) b = Relu (a)
                scores = Reshape <shape = [1, 4, 8, 8]> (b)""",
            weights={"w": (4, 3, 3, 3)},
            image="1, 3, 8, 8",
            outputs="float[1, 4, 8, 8] scores",
            opset=4,
        )

    model = network([1, 4, 8, 8])
    assert free_baked_shapes(model).nodes == ("a", "scores")
    assert [list(n.attribute[0].ints) for n in model.graph.node if n.op_type == "Reshape"] == [
        [0, 4, 0, 0]
    ] * 2
    with pytest.raises(DeclinedError, match=r"node 'a': opset 4 cannot compute the target"):
        free_baked_shapes(network([1, 2, 2, 8, 8]))


def test_a_side_that_only_a_function_knows_is_declined(kit):
    model = traced(kit, ("a = Reshape (fmap, s) made = Reshape (a, back)",
                         lambda n, h, w: {"s": [n, 4, h * w], "back": [n, 4, h, w]}),
                   1, Size(32, 32))  # fmt: skip
    function = onnx.parser.parse_function(
        """<opset_import: ["" : 17], domain: "own">
           halve (x, shape) => (y) {
               p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
               y = Reshape (p, shape)
           }"""
    )
    model.functions.append(function)
    model.opset_import.append(onnx.helper.make_opsetid("own", 1))
    first = next(n for n in model.graph.node if n.op_type == "Reshape")
    first.op_type, first.domain = "halve", "own"
    for tensor in model.graph.initializer:
        if tensor.name in ("s", "back"):
            values = {"s": [0, 0, -1], "back": [1, 4, 4, 4]}[tensor.name]
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array(values), tensor.name))
    with pytest.raises(DeclinedError, match=r"node 'made': no tensor .* write functions out"):
        rewrite(model, to="dynamic")


def test_dynamic_declines_an_fc_head_and_a_local_window(kit):
    with pytest.raises(DeclinedError, match=r"'fmap' takes its 4×8×8 alone.*--to fcn, adaptive"):
        rewrite(kit.plain(), to="dynamic")
    local = kit.make(
        kit.BACKBONE
        + """local = AveragePool <kernel_shape = [8, 8]> (fmap) flat = Flatten (local)
             scores = Gemm <transB = 1> (flat, w)""",
        weights=kit.BACKBONE_WEIGHTS | {"w": (5, 4)},
    )
    with pytest.raises(DeclinedError, match=r"node 'local': pools over a window .*--to gap"):
        rewrite(local, to="dynamic")
    with pytest.raises(UsageError, match="or give --to cam"):
        rewrite(local, to="dynamic", output="both")


def test_dynamic_twice_changes_nothing_and_the_file_says_what_it_takes(kit):
    once = rewrite(traced(kit, PATTERNS["channel-shuffle"], 1, Size(32, 32)), to="dynamic")
    found = read_metadata(once.model)
    assert (found.head, found.size, found.classes) == ("as-is", Size(32, 32), 5)
    assert found.min_size == Size(3, 3)
    dims = image_input(once.model).type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 3, "height", "width"]
    twice = rewrite(once.model, to="dynamic")
    assert "free already" in twice.reason
    assert twice.model.SerializeToString() == once.model.SerializeToString()


def test_a_graph_without_built_in_shapes_stays_byte_for_byte(kit):
    model = kit.plain()
    before = model.SerializeToString()
    assert free_baked_shapes(model).reason == "no node is given a shape"
    assert model.SerializeToString() == before


@pytest.mark.parametrize("to", ["fcn", "adaptive", "resize"])
def test_an_fc_head_behind_a_shuffle_takes_any_size(kit, to):
    def network(batch, size, head):
        body, shapes = PATTERNS["channel-shuffle"]
        tail = "flat = Flatten (last) scores = Gemm <transB = 1> (flat, w)" if head else ""
        height, width = size.height // 4, size.width // 4
        return kit.make(
            kit.BACKBONE + body + "last = Conv <kernel_shape = [1, 1]> (made, last_w)" + tail,
            weights=kit.BACKBONE_WEIGHTS
            | {"last_w": (4, 4, 1, 1)}
            | ({"w": (5, kit.FLAT)} if head else {}),
            constants=shapes(batch, height, width),
            image=f"{batch}, 3, {size.height}, {size.width}",
            outputs=f"float[{batch}, 5] scores" if head else "float[n, 4, h, w] last",
        )

    original = network(1, Size(32, 32), head=True)
    done = rewrite(original, to=to)
    assert done.applied
    images = kit.images(2, 3, 48, 80)
    (got,) = kit.run(done.model, images)
    if to == "resize":
        assert got.shape == (2, 5)
        return
    (fmap,) = kit.run(network(2, Size(48, 80), head=False), images)
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in original.graph.initializer}
    if to == "fcn":
        window = fmap[:, :, 3:11, 7:15].reshape(2, -1).astype(np.float64)
        np.testing.assert_allclose(got[:, :, 3, 7], window @ weights["w"].T, rtol=0, atol=1e-5)
    else:
        assert got.shape == (2, 5)


def test_an_output_that_loses_its_batch_is_declined(kit):
    model = kit.make(
        kit.BACKBONE + "a = Reshape (fmap, s) scores = Relu (a)",
        weights=kit.BACKBONE_WEIGHTS,
        constants={"s": [4, 64]},
        outputs="float[4, 64] scores",
    )
    with pytest.raises(DeclinedError, match="'scores': no axis follows the batch"):
        rewrite(model, to="dynamic")


@pytest.mark.parametrize("sizes", [(), (Size(48, 40),)], ids=["own-size", "and-others"])
def test_a_graph_whose_layers_stayed_is_proved_at_its_own_size_alone(kit, sizes):
    """The original takes no other size, so that there is nothing to compare with."""
    model = kit.make(
        kit.BACKBONE
        + """groups = Reshape (fmap, shuffle) turned = Transpose <perm = [0, 2, 1, 3, 4]> (groups)
             mixed = Reshape (turned, back) pooled = GlobalAveragePool (mixed)
             flat = Flatten (pooled) scores = Gemm <transB = 1> (flat, w, b)""",
        weights={**kit.BACKBONE_WEIGHTS, "w": (5, 4), "b": (5,)},
        constants={"shuffle": [1, 2, 2, 8, 8], "back": [1, 4, 8, 8]},
    )
    proof = prove_rewrite(model, rewrite(model, to="dynamic").model, sizes)
    assert proof.ok, proof.message
    assert {cell.size for cell in proof.cells} == {Size(32, 32)}


def reshaped(kit, body, image, **options):
    """A graph that has the shape `s` built in and takes some sizes only."""
    return kit.make(body, image=image, outputs="float[n, c, h2, w2] scores", **options)


def test_a_graph_that_refuses_its_training_size_is_refused(kit):
    model = reshaped(
        kit,
        "x = MaxPool <kernel_shape = [4, 4]> (image) scores = Reshape (x, s)",
        "n, 3, h, w",
        constants={"s": [1, 3, 8, 8]},
    )
    with pytest.raises(IllegalSizeError, match="cannot take an image of 3x9") as caught:
        free_baked_shapes(model, Size(3, 9))
    assert (caught.value.node, caught.value.size) == ("x", Size(3, 9))


def test_a_graph_that_refuses_all_other_sizes_is_left_as_it_is_with_the_reason(kit):
    model = reshaped(
        kit,
        "x = Add (image, fixed) scores = Reshape (x, s)",
        "1, 3, 8, 8",
        weights={"fixed": (1, 3, 8, 8)},
        constants={"s": [1, 3, 8, 8]},
    )
    result = free_baked_shapes(model)
    assert not result.applied
    assert result.reason.startswith("node 'x' cannot take an image of 16x24: ")


def test_a_reading_that_fails_at_another_batch_gives_way_to_one_that_holds(kit):
    """The batch of 1 may stand in front or behind; behind, it would be the Conv's channels."""
    model = reshaped(
        kit,
        "a = Reshape (image, s) scores = Conv <kernel_shape = [3, 3]> (a, w)",
        "1, 4, 8, 8",
        weights={"w": (2, 1, 3, 3)},
        constants={"s": [1, 1, 32, 8]},
    )
    assert free_baked_shapes(model, follows="batch").nodes == ("a",)
    assert kit.run(free_axes(model), kit.images(3, 4, 8, 8))[0].shape == (3, 2, 30, 6)
