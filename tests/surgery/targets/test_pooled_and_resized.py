"""The targets adaptive and resize: the FC layers stay, the map or the image is fitted to them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from anysize.errors import DeclinedError, UsageError
from anysize.sizes import Size
from anysize.surgery import (
    free_axes,
    guard_map_size,
    guard_max_size,
    guard_min_size,
    read_metadata,
    rewrite,
    split_at,
)

RESHAPED = """flat = Reshape (fmap, shape)
              hidden = Gemm <transB = 1> (flat, w1, b1)
              warm = Relu (hidden)
              logits = Gemm <transB = 1> (warm, w2, b2)
              scores = Softmax <axis = 1> (logits)"""
TARGETS = ("adaptive", "resize")
SMALLER, WIDER = (9, 14), (45, 61)


@pytest.fixture
def reshaped(kit):
    """An FC graph whose Reshape([1, 256]) bakes the batch, at any opset and IR version."""

    def make(opset=17, ir_version=8):
        model = kit.fc(
            RESHAPED,
            {"w1": (16, kit.FLAT), "b1": (16,), "w2": (5, 16), "b2": (5,)},
            constants={"shape": [1, kit.FLAT]},
            opset=opset,
            ir_version=max(ir_version, 4),
        )
        if ir_version < 4:  # there every initializer is an input, too
            model.ir_version = ir_version
            model.graph.input.extend(
                onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
                for t in model.graph.initializer
            )
        onnx.checker.check_model(model, full_check=True)
        return model

    return make


def bins(cells, count):
    """Bin i of n over a cells: ⌊i·a/n⌋ to ⌈(i+1)·a/n⌉."""
    return [(i * cells // count, -(-(i + 1) * cells // count)) for i in range(count)]


def pooled(fmap, height, width):
    rows = [fmap[:, :, a:b].mean(2, keepdims=True) for a, b in bins(fmap.shape[2], height)]
    fmap = np.concatenate(rows, axis=2)
    columns = [fmap[..., a:b].mean(3, keepdims=True) for a, b in bins(fmap.shape[3], width)]
    return np.concatenate(columns, axis=3)


def resized(images, *sides):
    for axis, side in zip((2, 3), sides, strict=True):
        cells = images.shape[axis]
        at = np.clip((np.arange(side) + 0.5) * cells / side - 0.5, 0, cells - 1)
        low = np.floor(at).astype(int)
        weight = (at - low).reshape((-1, 1) if axis == 2 else (-1,))
        low, high = images.take(low, axis), images.take(np.minimum(low + 1, cells - 1), axis)
        images = low + (high - low) * weight
    return images


def expected(kit, model, to, images):
    """What the original's own layers answer for the pooled map, or for the resized image."""
    if to == "resize":
        part, items = model, resized(images.astype(np.float64), 32, 32)
    else:
        features, part = split_at(model, "fmap")
        fmap = kit.run(free_axes(features), images)[0]
        items = pooled(fmap.astype(np.float64), 8, 8)
    return np.concatenate([kit.run(part, item[None].astype(np.float32))[0] for item in items])


def assert_right(kit, model, to, size):
    done = rewrite(model, to=to)
    assert done.applied, done.reason
    onnx.checker.check_model(done.model, full_check=True)
    images = kit.images(2, 3, *size)
    (got,) = kit.run(done.model, images)
    want = expected(kit, model, to, images)
    assert np.ptp(want[:, 0]) > 1e-4, "the answer does not vary: it would prove nothing"
    # Scores after a Softmax, of sums of 256 products of numbers near 1.
    np.testing.assert_allclose(got, want, rtol=0, atol=16 * np.finfo(np.float32).eps)
    return done


@pytest.mark.parametrize("size", [SMALLER, WIDER])
@pytest.mark.parametrize("to", TARGETS)
def test_other_sizes_get_the_answer_of_the_original_layers(kit, reshaped, to, size):
    assert_right(kit, reshaped(), to, size)


@pytest.mark.parametrize("opset", [9, 10, 11, 12, 13, 15, 16, 18, 21])
@pytest.mark.parametrize("to", TARGETS)
def test_every_opset_gets_operators_that_it_has(kit, reshaped, to, opset):
    assert_right(kit, reshaped(opset), to, WIDER)


@pytest.mark.parametrize("opset", [7, 8])
def test_a_resize_is_written_for_the_oldest_files_too(kit, reshaped, opset):
    assert_right(kit, reshaped(opset, ir_version=3), "resize", WIDER)
    with pytest.raises(DeclinedError, match=rf"opset {opset}: .* needs opset 9 or later; raise it"):
        rewrite(reshaped(opset, ir_version=3), to="adaptive")


@pytest.mark.parametrize("to", TARGETS)
def test_the_training_size_gives_the_original_bit_by_bit(kit, reshaped, to):
    images = kit.images(1, 3, 32, 32)
    (want,) = kit.run(reshaped(), images)
    np.testing.assert_array_equal(kit.run(rewrite(reshaped(), to=to).model, images)[0], want)


@pytest.mark.parametrize("to", TARGETS)
def test_weights_names_and_other_nodes_stay_byte_for_byte(reshaped, to):
    before, after = reshaped().graph, rewrite(reshaped(), to=to).model.graph
    kept = {tensor.name: tensor for tensor in after.initializer}
    for tensor in before.initializer:
        if tensor.name != "shape":
            assert kept[tensor.name] == tensor
    assert [o.name for o in after.output] == ["scores"]
    nodes = {node.name: node for node in after.node}
    changed = {node.name for node in before.node if nodes[node.name] != node}
    assert changed == {"conv", "flat"}  # the image is guarded or resized, the batch is freed
    assert nodes["flat"].op_type == "Flatten"


@pytest.mark.parametrize("to", TARGETS)
def test_the_file_says_what_it_takes(reshaped, to):
    done = rewrite(reshaped(), to=to)
    found = read_metadata(done.model)
    assert (found.head, found.size, found.classes) == (to, Size(32, 32), 5)
    assert found.min_size == done.min_size == (Size(3, 3) if to == "adaptive" else Size(1, 1))
    assert found.max_size is None
    dims = [
        d.dim_param or d.dim_value for d in done.model.graph.input[0].type.tensor_type.shape.dim
    ]
    assert dims == ["batch", 3, "height", "width"]


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("opset", [9, 13, 17])
def test_rewriting_twice_changes_nothing(reshaped, to, opset):
    once = rewrite(reshaped(opset), to=to)
    for again in TARGETS:
        twice = rewrite(once.model, to=again)
        if again == "resize" != to:  # always resizes, but what resizes already
            assert twice.applied
            continue
        assert not twice.applied
        assert f"the file records head {to}" in twice.reason
    if opset < 11:  # without Range the shapes of large maps cannot be followed
        return
    del once.model.metadata_props[:]  # the shapes say the same
    twice = rewrite(once.model, to="adaptive", size=Size(32, 32))
    assert "yields" in twice.reason
    assert "alike" in twice.reason


@pytest.mark.parametrize("to", TARGETS)
def test_guards_of_the_fc_head_go_and_the_new_smallest_size_is_guarded(kit, reshaped, to):
    model = reshaped()
    guard_map_size(model, "fmap", Size(32, 32))
    guard_min_size(model, Size(31, 31))
    guard_max_size(model, Size(33, 33))
    done = rewrite(model, to=to)
    for size in (SMALLER, WIDER):
        images = kit.images(1, 3, *size)
        want = expected(kit, reshaped(), to, images)
        np.testing.assert_allclose(kit.run(done.model, images)[0], want, rtol=0, atol=2e-6)
    if to == "adaptive":
        with pytest.raises(Exception, match=r"(?i)expand"):
            kit.run(done.model, kit.images(1, 3, 2, 9))
    else:
        assert np.isfinite(kit.run(done.model, kit.images(1, 3, 1, 1))[0]).all()


FC = "flat = Flatten <axis = 1> (fmap) h = Gemm <transB = 1> (flat, w, b) "
# What may stand behind a head that stays: name → (body, further weights, constants, outputs).
BEHIND = {
    "expectation": (
        "p = Softmax (h) m = Mul (p, years) scores = ReduceSum <keepdims = 0> (m, one)",
        {"years": (1, 5)}, {"one": [1]}, "float[1] scores",
    ),
    "running-sum": (
        "p = Softmax (h) scores = CumSum (p, first)", {}, {"first": 1}, "float[1, 5] scores",
    ),
    "one-class": ("scores = Gather <axis = 1> (h, third)", {}, {"third": 2}, "float[1] scores"),
    "rule": (
        "k = Greater (h, zero) p = Sigmoid (h) scores = Where (k, p, zero)",
        {"zero": ()}, {}, "float[1, 5] scores",
    ),
    "built-in-batch": (
        (
            "r = Reshape (h, pair) m = ReduceMax <axes = [2], keepdims = 0> (r) "
            "s = Reshape (m, row) scores = CumSum (s, first)"
        ),
        {}, {"pair": [1, 5, 1], "row": [1, 5], "first": 1}, "float[1, 5] scores",
    ),
}  # fmt: skip


@pytest.mark.parametrize("size", [SMALLER, WIDER])
@pytest.mark.parametrize("case", BEHIND)
def test_what_stands_behind_layers_that_stay_does_not_matter(kit, case, size):
    body, weights, constants, outputs = BEHIND[case]
    model = kit.fc(
        FC + body,
        {"w": (5, kit.FLAT), "b": (5,), **weights},
        constants=constants,
        outputs=outputs,
    )
    with pytest.raises(DeclinedError, match="--to adaptive keeps the layers as they are"):
        rewrite(model)
    images = kit.images(2, 3, *size)
    got = kit.run(rewrite(model, to="adaptive").model, images)[0]
    want = expected(kit, model, "adaptive", images)
    assert got.shape == want.shape
    assert np.ptp(got) > 1e-3
    np.testing.assert_allclose(got, want, rtol=0, atol=64 * np.finfo(np.float32).eps)


def test_a_map_that_is_read_beside_the_head_is_not_pooled_for_the_head_alone(kit):
    body = FC + "p = GlobalAveragePool (fmap) f = Flatten (p) g = MatMul (f, v) scores = Add (h, g)"
    model = kit.fc(body, {"w": (5, kit.FLAT), "b": (5,), "v": (4, 5)})
    with pytest.raises(DeclinedError, match="node 'p': reads the map 'fmap' beside the head"):
        rewrite(model, to="adaptive")


def test_a_bound_on_an_any_size_file_outlives_its_resize(kit):
    model = kit.make(
        kit.BACKBONE + "p = GlobalAveragePool (fmap) scores = Flatten <axis = 1> (p)",
        weights=kit.BACKBONE_WEIGHTS,
        image="batch, 3, h, w",
        outputs="float[batch, 4] scores",
    )
    guard_min_size(model, Size(3, 3))
    guard_max_size(model, Size(64, 64))
    entry = model.metadata_props.add()
    entry.key, entry.value = "anysize.max_size", "64x64"
    done = rewrite(model, to="resize", size=Size(32, 32))
    assert read_metadata(done.model).max_size == Size(64, 64)
    images = kit.images(1, 3, 1, 64)
    small = resized(images.astype(np.float64), 32, 32).astype(np.float32)
    want = kit.run(model, small)[0]
    np.testing.assert_allclose(kit.run(done.model, images)[0], want, rtol=0, atol=4e-6)
    with pytest.raises(Exception, match=r"(?i)expand"):
        kit.run(done.model, kit.images(1, 3, 1, 65))


def test_every_head_on_one_map_reads_the_pooled_map(kit):
    model = kit.fc(
        """flat = Flatten <axis = 1> (fmap)
           age = Gemm <transB = 1> (flat, w1)
           again = Flatten <axis = 1> (fmap)
           scores = Gemm <transB = 1> (again, w2)""",
        {"w1": (3, kit.FLAT), "w2": (5, kit.FLAT)},
        outputs="float[1, 3] age, float[1, 5] scores",
    )
    done = rewrite(model, to="adaptive")
    features, part = split_at(model, "fmap")
    images = kit.images(1, 3, *WIDER)
    fmap = pooled(kit.run(free_axes(features), images)[0], 8, 8)
    for got, want in zip(kit.run(done.model, images), kit.run(part, fmap), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


def test_a_resized_output_of_rank_four_keeps_its_sides(kit):
    model = kit.make(
        kit.BACKBONE + "p = GlobalAveragePool (fmap) scores = Conv (p, w)",
        weights=kit.BACKBONE_WEIGHTS | {"w": (5, 4, 1, 1)},
        outputs="float[1, 5, 1, 1] scores",
    )
    (output,) = rewrite(model, to="resize").model.graph.output
    assert [d.dim_param or d.dim_value for d in output.type.tensor_type.shape.dim] == [
        "batch", 5, 1, 1,
    ]  # fmt: skip


@pytest.mark.parametrize("output", ["logits", "both"])
@pytest.mark.parametrize("to", TARGETS)
def test_there_is_no_map_to_choose(reshaped, to, output):
    with pytest.raises(
        UsageError, match=rf"rewrite to {to}, output '{output}'.*leave --output out"
    ):
        rewrite(reshaped(), to=to, output=output)


def test_resize_wants_the_training_size(kit):
    model = kit.make(
        kit.BACKBONE + "p = GlobalAveragePool (fmap) scores = Flatten <axis = 1> (p)",
        weights=kit.BACKBONE_WEIGHTS,
        image="batch, 3, h, w",
        outputs="float[batch, 4] scores",
    )
    with pytest.raises(DeclinedError, match="training size is not known; give --size"):
        rewrite(model, to="resize")
