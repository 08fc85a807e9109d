# ruff: noqa: ISC004 - one case a line reads better than parentheses
import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from anysize.sizes import Size
from anysize.surgery import (
    read_metadata,
    rewrite,
    smallest_size,
)
from anysize.surgery.graph import attribute
from anysize.surgery.storage.weightless import check

FLAT = 4 * 8 * 8
TWO = {"w1": (16, FLAT), "b1": (16,), "w2": (5, 16), "b2": (5,)}
ONE = {"w": (5, FLAT), "b": (5,)}
MODES = ("torchscript", "torchscript-batch", "dynamo", "dynamo-batch", "dynamo-all")

# (name, head, weights, options): one line for each spelling that must be understood
SPELLINGS = [
    ("flatten-gemm", "flat = Flatten <axis = 1> (fmap) "
     "scores = Gemm <transB = 1> (flat, w, b)", ONE, {}),
    ("flatten-negative-axis", "flat = Flatten <axis = -3> (fmap) "
     "scores = Gemm <transB = 1> (flat, w, b)", ONE, {}),
    ("reshape-constant", "flat = Reshape (fmap, shape) "
     "scores = Gemm <transB = 1> (flat, w, b)", ONE, {"constants": {"shape": [1, FLAT]}}),
    ("reshape-minus-one-k", "flat = Reshape (fmap, shape) "
     "scores = Gemm <transB = 1> (flat, w, b)", ONE, {"constants": {"shape": [-1, FLAT]}}),
    ("reshape-zero-minus-one", "flat = Reshape (fmap, shape) "
     "scores = Gemm <transB = 1> (flat, w, b)", ONE, {"constants": {"shape": [0, -1]}}),
    ("reshape-one-minus-one", "flat = Reshape (fmap, shape) "
     "scores = Gemm <transB = 1> (flat, w, b)", ONE, {"constants": {"shape": [1, -1]}}),
    ("reshape-allowzero", "flat = Reshape <allowzero = 1> (fmap, shape) "
     "scores = Gemm <transB = 1> (flat, w, b)", ONE, {"constants": {"shape": [-1, FLAT]}}),
    ("shape-gather-concat", "all = Shape (fmap) n = Gather <axis = 0> (all, zero) "
     "n1 = Unsqueeze (n, axes) shape = Concat <axis = 0> (n1, rest) flat = Reshape (fmap, shape) "
     "scores = Gemm <transB = 1> (flat, w, b)", ONE,
     {"constants": {"zero": 0, "axes": [0], "rest": [-1]}}),
    ("shape-of-image-mul", "all = Shape (image) n = Slice (all, from, to) sides = Shape (fmap) "
     "chw = Slice (sides, to, end) k = ReduceProd <keepdims = 1> (chw) "
     "shape = Concat <axis = 0> (n, k) flat = Reshape (fmap, shape) "
     "scores = Gemm <transB = 1> (flat, w, b)", ONE,
     {"constants": {"from": [0], "to": [1], "end": [4]}}),
    ("matmul", "flat = Flatten (fmap) scores = MatMul (flat, w)", {"w": (FLAT, 5)}, {}),
    ("matmul-add", "flat = Flatten (fmap) mm = MatMul (flat, w) scores = Add (mm, b)",
     {"w": (FLAT, 5), "b": (5,)}, {}),
    ("add-matmul", "flat = Flatten (fmap) mm = MatMul (flat, w) scores = Add (b, mm)",
     {"w": (FLAT, 5), "b": (1, 5)}, {}),
    ("gemm-without-trans", "flat = Flatten (fmap) scores = Gemm (flat, w, b)",
     {"w": (FLAT, 5), "b": (5,)}, {}),
    ("gemm-without-bias", "flat = Flatten (fmap) scores = Gemm <transB = 1> (flat, w)",
     {"w": (5, FLAT)}, {}),
    ("gemm-alpha-beta", "flat = Flatten (fmap) "
     "scores = Gemm <transB = 1, alpha = 0.5, beta = 3.0> (flat, w, b)", ONE, {}),
    ("gemm-beta-zero", "flat = Flatten (fmap) "
     "scores = Gemm <transB = 1, beta = 0.0> (flat, w, b)", ONE, {}),
    ("gemm-row-bias", "flat = Flatten (fmap) scores = Gemm <transB = 1> (flat, w, b)",
     {"w": (5, FLAT), "b": (1, 5)}, {}),
    ("gemm-scalar-bias", "flat = Flatten (fmap) scores = Gemm <transB = 1> (flat, w, b)",
     {"w": (5, FLAT), "b": ()}, {}),
    ("weight-behind-transpose", "flat = Flatten (fmap) wt = Transpose <perm = [1, 0]> (w) "
     "scores = MatMul (flat, wt)", {"w": (5, FLAT)}, {}),
    ("weight-behind-identity", "flat = Flatten (fmap) wi = Identity (w) "
     "scores = Gemm <transB = 1> (flat, wi, b)", ONE, {}),
    ("dropout-and-identity", "flat = Flatten (fmap) d = Dropout (flat) i = Identity (d) "
     "scores = Gemm <transB = 1> (i, w, b)", ONE, {}),
    ("relu-on-the-flat-map", "flat = Flatten (fmap) t = Tanh (flat) "
     "scores = Gemm <transB = 1> (t, w, b)", ONE, {}),
    ("identity-pooling", "same = AveragePool <kernel_shape = [1, 1], strides = [1, 1]> (fmap) "
     "flat = Flatten (same) scores = Gemm <transB = 1> (flat, w, b)", ONE, {}),
    ("flattened-twice", "flat = Flatten (fmap) again = Flatten (flat) "
     "scores = Gemm <transB = 1> (again, w, b)", ONE, {}),
    ("batch-norm-between", "flat = Flatten (fmap) h = Gemm <transB = 1> (flat, w1, b1) "
     "n = BatchNormalization (h, scale, shift, mean, var) scores = Gemm <transB = 1> (n, w2, b2)",
     {**TWO, "scale": (16,), "shift": (16,), "mean": (16,), "var": (16,)}, {}),
    ("prelu-mul-add-between", "flat = Flatten (fmap) h = Gemm <transB = 1> (flat, w1, b1) "
     "p = PRelu (h, slope) m = Mul (p, gain) a = Add (offset, m) "
     "scores = Gemm <transB = 1> (a, w2, b2)",
     {**TWO, "slope": (16,), "gain": (1, 16), "offset": (16,)}, {}),
    ("silu-diamond", "flat = Flatten (fmap) h = Gemm <transB = 1> (flat, w1, b1) "
     "s = Sigmoid (h) m = Mul (h, s) scores = Gemm <transB = 1> (m, w2, b2)", TWO, {}),
    ("softmax", "flat = Flatten (fmap) h = Gemm <transB = 1> (flat, w, b) "
     "scores = Softmax <axis = -1> (h)", ONE, {}),
    ("softmax-before-13", "flat = Flatten (fmap) h = Gemm <transB = 1> (flat, w, b) "
     "scores = Softmax (h)", ONE, {"opset": 11}),
    ("log-softmax", "flat = Flatten (fmap) h = Gemm <transB = 1> (flat, w, b) "
     "scores = LogSoftmax <axis = 1> (h)", ONE, {}),
    ("arg-max", "flat = Flatten (fmap) h = Gemm <transB = 1> (flat, w, b) "
     "scores = ArgMax <axis = 1> (h)", ONE, {"outputs": "int64[1, 1] scores"}),
    ("arg-max-without-axis", "flat = Flatten (fmap) h = Gemm <transB = 1> (flat, w, b) "
     "scores = ArgMax <axis = -1, keepdims = 0> (h)", ONE, {"outputs": "int64[1] scores"}),
    ("opset-9", "flat = Flatten (fmap) scores = Gemm <transB = 1> (flat, w, b)", ONE,
     {"opset": 9, "ir_version": 4}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("head", "weights", "options"),
    [pytest.param(*case[1:], id=case[0]) for case in SPELLINGS],
)
def test_every_map_cell_equals_the_original_layers_on_its_window(kit, head, weights, options):
    rewritten = kit.same_on_windows(kit.fc(head, weights, **options))
    kinds = {node.op_type for node in rewritten.graph.node}
    assert not kinds & {"Gemm", "MatMul", "Flatten", "Reshape", "Shape"}


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("mode", MODES)
def test_files_of_torch_onnx_are_rewritten_right(kit, mode, bias):
    size = Size(63, 63) if mode == "dynamo-all" else None
    rewritten = kit.same_on_windows(kit.torch_export(mode, bias), size)
    assert [node.op_type for node in rewritten.graph.node][-5:] == [
        "Conv", "Relu", "Conv", "Relu", "Conv",
    ]  # fmt: skip
    assert not any("Shape" in node.op_type for node in rewritten.graph.node)


def test_a_baked_batch_of_two_becomes_free(kit):
    original = kit.torch_export("dynamo-two")
    images = kit.images(2, 3, 63, 63)
    rewritten = rewrite(original).model
    expected = kit.run(original, images)[0]
    assert np.allclose(kit.run(rewritten, images)[0][..., 0, 0], expected, atol=1e-6)
    assert kit.run(rewritten, kit.images(3, 3, 80, 90))[0].shape[0] == 3


def test_a_wrong_flatten_order_is_seen_by_the_window_comparison(kit):
    original = kit.plain()
    result = rewrite(original)
    weight = next(t for t in result.model.graph.initializer if t.name == "w1")
    swapped = onnx.numpy_helper.to_array(weight).transpose(0, 1, 3, 2)
    weight.raw_data = np.ascontiguousarray(swapped).tobytes()
    error = kit.window_error(original, result.model, "fmap", Size(8, 8), Size(48, 56))
    assert error > 1e-2


def test_a_dropped_bias_is_seen_by_the_window_comparison(kit):
    original = kit.plain()
    result = rewrite(original)
    del result.model.graph.node[-1].input[2:]
    error = kit.window_error(original, result.model, "fmap", Size(8, 8), Size(48, 56))
    assert error > 1e-2


def test_weights_change_by_their_dims_alone(kit):
    original = kit.plain()
    result = rewrite(original)
    assert result.moved == ()
    before = {tensor.name: tensor for tensor in original.graph.initializer}
    for tensor in result.model.graph.initializer:
        assert tensor.raw_data == before[tensor.name].raw_data
    dims = {tensor.name: list(tensor.dims) for tensor in result.model.graph.initializer}
    assert dims["w1"] == [16, 4, 8, 8]
    assert dims["w2"] == [5, 16, 1, 1]
    assert dims["b1"] == [16]


def test_a_weight_stored_input_first_is_copied_and_the_reason_kept(kit):
    original = kit.fc("flat = Flatten (fmap) scores = MatMul (flat, w)", {"w": (FLAT, 5)})
    result = rewrite(original)
    assert result.moved == ("node 'scores' stores its weight as (in, out)",)
    assert "w" not in {tensor.name for tensor in result.model.graph.initializer}


def test_a_shared_weight_is_copied_and_the_other_reader_keeps_its_own(kit):
    original = kit.fc(
        """flat = Flatten (fmap)
           scores = Gemm <transB = 1> (flat, w)
           norm = ReduceSum <keepdims = 0> (w, axes)""",
        {"w": (5, FLAT)},
        constants={"axes": [1]},
        outputs="float[1, 5] scores, float[5] norm",
    )
    del original.graph.output[1]
    norm = original.graph.node[-1]
    result = rewrite(original)
    assert result.moved == ("node 'scores' shares 'w' with another",)
    assert norm in list(result.model.graph.node)
    assert next(list(t.dims) for t in result.model.graph.initializer if t.name == "w") == [5, FLAT]


def test_a_weight_in_a_constant_node_is_reshaped_in_place(kit):
    original = kit.fc("flat = Flatten (fmap) scores = Gemm <transB = 1> (flat, w, b)", ONE)
    weight = next(t for t in original.graph.initializer if t.name == "w")
    constant = onnx.helper.make_node("Constant", [], ["w"], name="w", value=weight)
    original.graph.initializer.remove(weight)
    original.graph.node.insert(0, constant)
    rewritten = kit.same_on_windows(original)
    assert list(attribute(rewritten.graph.node[0], "value").dims) == [5, 4, 8, 8]


def test_initializers_listed_among_the_inputs_are_reshaped_in_both_places(kit):
    original = kit.plain()
    original.ir_version = 3
    for tensor in original.graph.initializer:
        original.graph.input.append(
            onnx.helper.make_tensor_value_info(tensor.name, 1, list(tensor.dims))
        )
    rewritten = rewrite(original).model
    check(rewritten)
    value = next(value for value in rewritten.graph.input if value.name == "w1")
    assert [d.dim_value for d in value.type.tensor_type.shape.dim] == [16, 4, 8, 8]


def test_what_is_not_the_head_stays_byte_for_byte(kit):
    original = kit.plain()
    original.doc_string, original.domain, original.model_version = "about", "org.example", 3
    original.producer_name = "somebody"
    original.graph.doc_string = "the graph"
    original.graph.node[0].doc_string = "first"
    entry = original.metadata_props.add()
    entry.key, entry.value = "author", "me"
    original.graph.node[4].doc_string = "the first layer"
    result = rewrite(original).model
    for name in ("doc_string", "domain", "model_version", "producer_name", "ir_version"):
        assert getattr(result, name) == getattr(original, name)
    assert list(result.opset_import) == list(original.opset_import)
    assert result.graph.doc_string == "the graph"
    assert entry in list(result.metadata_props)
    kept = {node.name: node.SerializeToString() for node in result.graph.node}
    for node in original.graph.node:
        if node.op_type not in ("Flatten", "Gemm"):
            assert kept[node.name] == node.SerializeToString()
    first = next(node for node in result.graph.node if node.name == "hidden")
    assert first.op_type == "Conv"
    assert first.doc_string == "the first layer"
    assert [node.name for node in result.graph.node] == [
        "conv", "active", "fmap", "hidden", "warm", "scores",
    ]  # fmt: skip


def test_names_axes_and_metadata_are_written(kit):
    original = kit.plain()
    result = rewrite(original)
    graph = result.model.graph
    axes = [d.dim_param or d.dim_value for d in graph.input[0].type.tensor_type.shape.dim]
    assert axes == ["batch", 3, "height", "width"]
    assert graph.output[0].name == "scores"
    axes = [d.dim_param or d.dim_value for d in graph.output[0].type.tensor_type.shape.dim]
    assert axes == ["batch", 5, "map_height", "map_width"]
    found = read_metadata(result.model)
    assert (found.head, found.size, found.min_size) == ("fcn", Size(32, 32), Size(31, 31))
    assert (found.classes, found.map_stride, found.max_size) == (5, (4, 4), None)
    # conv 3 s2 p1 then pool 2 s2: 5 pixels from −1; eight cells at stride 4: 28 more
    assert (found.receptive_field, found.map_offset) == ((33, 33), (15.5, 15.5))
    assert smallest_size(result.model) == found.min_size == result.min_size


def test_the_source_file_is_recorded_by_its_hash(kit, tmp_path):
    path = tmp_path / "in.onnx"
    onnx.save(kit.plain(), path)
    found = read_metadata(rewrite(kit.plain(), source=path).model)
    assert found.source_sha256 is not None
    assert len(found.source_sha256) == 64


@pytest.mark.parametrize("output", ["map", "logits", "both"])
def test_rewriting_twice_changes_nothing(kit, output):
    once = rewrite(kit.plain(), output=output).model
    before = once.SerializeToString()
    again = rewrite(once)
    assert not again.applied
    assert "already" in again.reason
    assert again.model is once
    assert once.SerializeToString() == before


def test_in_place_edits_the_model_itself(kit):
    original = kit.plain()
    assert rewrite(original, in_place=True).model is original
    assert original.graph.node[-1].op_type == "Conv"


def test_logits_are_the_mean_over_the_map(kit):
    original = kit.plain()
    dense = rewrite(original).model
    pooled = rewrite(original, output="logits")
    images = kit.images(2, 3, 45, 60)
    expected = kit.run(dense, images)[0].mean(axis=(2, 3))
    found = kit.run(pooled.model, images)
    assert np.allclose(found[0], expected, atol=1e-5)
    trained = kit.images(1, 3, 32, 32)
    assert np.allclose(kit.run(pooled.model, trained)[0], kit.run(original, trained)[0], atol=1e-5)
    assert pooled.map_tensor == "scores_map"


def test_both_puts_the_logits_first_and_adds_the_map(kit):
    result = rewrite(kit.plain(), output="both")
    assert [output.name for output in result.model.graph.output] == ["scores", "map"]
    logits, dense = kit.run(result.model, kit.images(1, 3, 45, 60))
    assert np.allclose(logits, dense.mean(axis=(2, 3)), atol=1e-5)
    assert result.map_tensor == "map"


def test_the_mean_is_taken_before_a_softmax(kit):
    original = kit.fc(
        "flat = Flatten (fmap) h = Gemm <transB = 1> (flat, w, b) scores = Softmax <axis = 1> (h)",
        ONE,
    )
    pooled = rewrite(original, output="logits").model
    images = kit.images(1, 3, 45, 60)
    probabilities = kit.run(pooled, images)[0]
    assert probabilities.shape == (1, 5)
    assert np.isclose(probabilities.sum(), 1.0, atol=1e-6)


def test_two_heads_on_one_map_become_two_maps(kit):
    original = kit.fc(
        """flat = Flatten (fmap)
           scores = Gemm <transB = 1> (flat, w, b)
           age = Gemm <transB = 1> (flat, v)""",
        {**ONE, "v": (2, FLAT)},
        outputs="float[1, 5] scores, float[1, 2] age",
    )
    kit.same_on_windows(original)
    shapes = [a.shape for a in kit.run(rewrite(original).model, kit.images(1, 3, 48, 40))]
    assert shapes == [(1, 5, 5, 3), (1, 2, 5, 3)]


def test_a_second_output_that_is_a_map_already_stays_alone(kit):
    original = kit.plain()
    original.graph.output.append(onnx.helper.make_tensor_value_info("fmap", 1, [1, 4, 8, 8]))
    result = rewrite(original)
    shapes = [a.shape for a in kit.run(result.model, kit.images(1, 3, 48, 40))]
    assert shapes == [(1, 5, 5, 3), (1, 4, 12, 10)]


def test_half_precision_weights_are_reshaped_alike(kit):
    original = kit.plain()
    for tensor in original.graph.initializer:
        half = onnx.numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(onnx.numpy_helper.from_array(half, tensor.name))
    for value in (original.graph.input[0], original.graph.output[0]):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    result = rewrite(original).model
    check(result)
    before = {tensor.name: tensor.raw_data for tensor in original.graph.initializer}
    assert {t.name: t.raw_data for t in result.graph.initializer} == before


def test_a_larger_image_on_the_original_fails_where_the_rewrite_answers(kit):
    original = kit.plain()
    images = kit.images(1, 3, 48, 56)
    with pytest.raises(Exception, match="nvalid"):
        kit.run(original, images)
    assert kit.run(rewrite(original).model, images)[0].shape == (1, 5, 5, 7)


@pytest.mark.parametrize(
    "flatten",
    [
        "rows = Squeeze (top, two) flat = Flatten (rows)",
        """turned = Transpose <perm = [0, 3, 1, 2]> (top) rows = Reshape (turned, behind)
           flat = Flatten (rows)""",
    ],
    ids=["squeezed", "reshaped"],
)
def test_a_map_of_one_row_stays_one_row_where_its_height_is_dropped(kit, flatten):
    """A side of length 1 that a flatten leaves out is the height still, and 8 is the width."""
    model = kit.fc(
        f"""top = MaxPool <kernel_shape = [8, 1]> (fmap) {flatten}
            scores = Gemm <transB = 1> (flat, w)""",
        {"w": (5, 32)},
        constants={"two": [2]} if "two" in flatten else {"behind": [1, 8, 4]},
    )
    result = kit.same_on_windows(model)
    conv = next(node for node in result.graph.node if "scores" in node.output)
    (weight,) = (t for t in result.graph.initializer if t.name == conv.input[1])
    assert list(weight.dims) == [5, 4, 1, 8]
