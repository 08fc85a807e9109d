# ruff: noqa: ISC004 - one case a line reads better than parentheses
"""Each reason for which the finding of a head declines, by a graph that gives it."""

import onnx
import onnx.parser
import pytest

from anysize.errors import DeclinedError
from anysize.surgery import find_head, rewrite
from anysize.surgery.graph import Graph
from anysize.surgery.heads.layout import Layout
from anysize.surgery.heads.readers import ReadContext, read_layer

FLAT = 4 * 8 * 8
ONE = {"w": (5, FLAT), "b": (5,)}
FC = "flat = Flatten (fmap) h = Gemm <transB = 1> (flat, w, b) "
QUANTISED = "q = QuantizeLinear <axis = 1> (w, s) v = DequantizeLinear <axis = 1> (q, s) "

# name → (head, weights, options, words)
CASES = {
    "two-constants": ("scores = Gemm <transB = 1> (v, w)", {"v": (1, 7), "w": (5, 7)}, {},
                      "multiplies two constants"),
    "bias-computed": ("flat = Flatten (fmap) r = RandomNormal <shape = [5]> () "
                      "scores = Gemm <transB = 1> (flat, w, r)", ONE, {},
                      "bias 'r' is computed, expected a constant"),
    "second-output": (FC + "scores, mask = Dropout (h)", ONE,
                      {"outputs": "float[1, 5] scores, bool[1, 5] mask"},
                      "its second output 'mask' is used"),
    "training": (FC + "scores, m, v = BatchNormalization <training_mode = 1> (h, b, b, b, b)", ONE,
                 {}, "is in training mode"),
    "not-spatial": (FC + "scores = BatchNormalization <spatial = 0> (h, b, b, b, b)", ONE,
                    {"opset": 8, "ir_version": 4}, "(spatial is 0)"),
    "axes-differ": (FC + "t = Transpose (h) scores = Add (t, h)", ONE,
                    {"outputs": "float[5, 5] scores"}, "whose axes lie differently"),
    "axes-added": (FC + "scores = Add (h, c)", {**ONE, "c": (1, 1, 1, 1, 1)},
                   {"outputs": "float[1, 1, 1, 1, 5] scores"}, "adds axes to 'h'"),
    "odd-constant": (FC + "t = Transpose (h) scores = Mul (t, c)", {**ONE, "c": (5, 2)},
                     {"outputs": "float[5, 2] scores"}, "expected one element or one for each"),
    "some-features": ("t = Transpose <perm = [0, 2, 3, 1]> (fmap) r = Reshape (t, s) "
                      "scores = MatMul (r, w)", {"w": (32, 5)},
                      {"constants": {"s": [0, 8, 32]}, "outputs": "float[1, 8, 5] scores"},
                      "sums over axis 2 of (N, H, W×C)"),
    "no-flatten": ("scores = MatMul (fmap, w)", {"w": (8, 5)},
                   {"outputs": "float[1, 4, 8, 5] scores"}, "layer without a flatten"),
    "vector": ("flat = Flatten (fmap) scores = MatMul (flat, w)", {"w": (FLAT,)},
               {"outputs": "float[1] scores"}, "of shape [256], expected a matrix"),
    "stack-from-the-left": ("flat = Flatten (fmap) u = Unsqueeze (flat, two) "
                            "scores = MatMul (w, u)", {"w": (5, FLAT)},
                            {"constants": {"two": [2]}, "outputs": "float[1, 5, 1] scores"},
                            "stack of matrices from the left"),
    "features-torn": ("flat = Flatten (fmap) r = Reshape (flat, s) scores = MatMul (r, w)",
                      {"w": (32, 5)},
                      {"constants": {"s": [0, 8, 32]}, "outputs": "float[1, 8, 5] scores"},
                      "expected the features of an image to stay together"),
    "scales-along-inputs": (QUANTISED + "flat = Flatten (fmap) scores = Gemm <transB = 1> "
                            "(flat, v, b)", {**ONE, "s": (FLAT,)}, {},
                            "quantised with scales along its inputs"),
    "activation-scales": (FC + "q = QuantizeLinear (h, b) scores = DequantizeLinear (q, b)", ONE,
                          {}, "more than one scale for an activation"),
    "alpha-on-quantised": ("q = QuantizeLinear (w, s) v = DequantizeLinear (q, s) "
                           "flat = Flatten (fmap) scores = Gemm <transB = 1, alpha = 0.5> "
                           "(flat, v, b)", {**ONE, "s": ()}, {}, "which is quantised or cast"),
    "reduced-over-the-batch": (FC + "scores = ReduceMax <axes = [0]> (h)", ONE, {},
                               "ReduceMax is over axes [0], expected the features"),
    "reduced-over-all": (FC + "m = ReduceMax <keepdims = 1> (h) scores = Sub (h, m)", ONE, {},
                         "ReduceMax is over all axes, expected the features"),
    "reduced-output": (FC + "scores = ReduceL2 <axes = [1], keepdims = 0> (h)", ONE,
                       {"outputs": "float[1] scores"}, "without an axis for the features"),
    "norm-of-a-map-of-one-cell": (FC + "u = Unsqueeze (h, sides) n = LayerNormalization <axis = 1> "
                                  "(u, s) scores = Flatten (n)", {**ONE, "s": (5, 1, 1)},
                                  {"constants": {"sides": [2, 3]}},
                                  "LayerNormalization is along axis 1, expected the classes"),
    "norm-of-the-map": ("flat = Flatten (fmap) m = ReduceL2 <axes = [1]> (flat) "
                        "u = Div (flat, m) scores = Gemm <transB = 1> (u, w, b)", ONE, {},
                        "works on the 256 flattened features"),
    "selected-images": (FC + "scores = Concat <axis = 0> (h, h)", ONE,
                        {"outputs": "float[2, 5] scores"},
                        "Concat is along axis 0, expected the features"),
    "selected-by-the-image": (FC + "i = Shape <start = 1, end = 2> (image) "
                              "scores = Gather <axis = 1> (h, i)", ONE,
                              {"outputs": "float[1, 1] scores"},
                              "reads what is computed, expected constants"),
    "selected-differently": (FC + "m = ReduceMax <axes = [1]> (h) t = Transpose (m) "
                             "scores = Concat <axis = 1> (h, t)", ONE,
                             {"outputs": "float[1, 6] scores"}, "whose axes lie differently"),
    "selected-positions": ("flat = Flatten (fmap) two = Concat <axis = 1> (flat, flat) "
                           "scores = Gemm <transB = 1> (two, w, b)",
                           {"w": (5, 2 * FLAT), "b": (5,)}, {}, "works on the 256 flattened"),
    "selected-alone": (FC + "i = Squeeze (one) scores = Gather <axis = 1> (h, i)", ONE,
                       {"constants": {"one": [1]}, "outputs": "float[1] scores"},
                       "makes a shape that cannot be followed"),
    "joined-with-any-size": ("flat = Flatten (fmap) h = Gemm <transB = 1> (flat, w, b) "
                             "p = GlobalAveragePool (fmap) f = Flatten (p) g = MatMul (f, v) "
                             "scores = Add (h, g)", {**ONE, "v": (4, 5)}, {},
                             "joins it with what takes any size"),
    "repeated": (FC + "m = ReduceMax <axes = [1]> (h) scores = Expand (m, five)", ONE,
                 {"constants": {"five": [1, 5]}}, "repeats [1, 1] to [1, 5], expected"),
    "subgraph": ("flat = Flatten (fmap) yes = Constant <value_int = 1> () "
                 "ok = Cast <to = 9> (yes) scores = If (ok) <then_branch = one () => (float[1, 5] "
                 "a) { a = Gemm <transB = 1> (flat, w, b) }, else_branch = two () => (float[1, 5] "
                 "c) { c = Gemm <transB = 1> (flat, w, b) }>", ONE, {},
                 "lies in a subgraph of If"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_declines_in_one_line(kit, case):
    head, weights, options, words = CASES[case]
    model = kit.fc(head, weights, **options)
    before = model.SerializeToString()
    with pytest.raises(DeclinedError) as caught:
        rewrite(model, in_place=True)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert model.SerializeToString() == before


def test_a_head_in_a_function_of_the_file_is_declined_by_its_name(kit):
    model = kit.plain()
    function = onnx.parser.parse_function(
        '<domain: "own", opset_import: ["" : 17]> classify (x, w) => (y) '
        "{ y = Gemm <transB = 1> (x, w) }"
    )
    model.functions.append(function)
    model.opset_import.append(onnx.helper.make_opsetid("own", 1))
    last = model.graph.node[-1]
    last.op_type, last.domain = "classify", "own"
    del last.input[2:], last.attribute[:]
    with pytest.raises(DeclinedError, match=r"function 'classify'; .*inline_local_functions"):
        find_head(model)


def test_a_graph_without_outputs_has_no_head(kit):
    model = kit.plain()
    del model.graph.output[:]
    with pytest.raises(DeclinedError, match="the graph has no fully connected head"):
        find_head(model)


def test_scores_with_a_further_axis_cannot_be_averaged(kit):
    model = kit.fc(
        "flat = Flatten (fmap) u = Unsqueeze (flat, one) scores = MatMul (u, w)",
        {"w": (FLAT, 5)},
        constants={"one": [1]},
        outputs="float[1, 1, 5] scores",
    )
    with pytest.raises(DeclinedError, match=r"\[1, 1, 5\], expected \(batch, classes\)"):
        rewrite(model, output="logits")


def test_an_output_made_of_constants_has_no_head(kit):
    with pytest.raises(DeclinedError, match="output 'scores' does not depend on the image"):
        find_head(kit.make("scores = Add (b, b)", weights={"b": (1, 5)}))


def test_an_output_made_of_constants_beside_a_head_has_no_batch(kit):
    head = "sum = Add (b, b) " + FC + "scores = Relu (h)"
    model = kit.fc(head, ONE, outputs="float[1, 5] scores, float[5] sum")
    with pytest.raises(DeclinedError, match=r"output 'sum' does not .* leave it out"):
        rewrite(model)


def test_a_layer_that_does_not_fit_the_map_is_declined_by_its_reader(kit):
    graph = Graph(kit.plain())
    context = ReadContext(graph, {"flat": Layout(("N", "CHW"), 1, 4, 4, 4)})
    index = next(i for i, node in enumerate(graph.nodes) if node.op_type == "Gemm")
    with pytest.raises(DeclinedError, match="weight has 256 inputs, expected 64"):
        read_layer(context, index)


POOLED = "p = GlobalAveragePool (fmap) f = Flatten (p) "
BRANCHES = (
    "yes = Constant <value_int = 1> () ok = Cast <to = 9> (yes) scores = If (ok) "
    "<then_branch = one () => (float[1, 3, 32, 32] a) { a = Relu (image) }, "
    "else_branch = two () => (float[1, 3, 32, 32] c) { c = Neg (image) }>"
)
MAP = {"outputs": "float[1, 3, 32, 32] scores"}
# name → (body, weights, options, target, words)
TARGETED = {
    "cam-read-twice": (POOLED + "a = Gemm <transB = 1> (f, v) s = ReduceSum <keepdims = 1> (f) "
                       "scores = Gemm <transB = 1> (f, v, s)", {"v": (5, 4)}, {}, "cam",
                       "bias 's' is computed"),
    "cam-shared": (POOLED + "scores = Gemm <transB = 1> (f, v)", {"v": (5, 4)},
                   {"outputs": "float[1, 5] scores, float[1, 4] f"}, "cam",
                   "a class map is made of one"),
    "cam-from-nothing": ("scores = Identity (c)", {"c": (1, 5)}, {}, "cam", "no linear layer"),
    "cam-without-image": ("r = RandomNormal <shape = [1, 4]> () scores = Gemm <transB = 1> (r, v)",
                          {"v": (5, 4)}, {}, "cam", "expected one on a global average"),
    "path-without-flatten": ("m = Identity (image) scores = Relu (m)", {}, MAP, "fcn",
                             "without a flatten"),
    "resize-inside": (BRANCHES, {}, MAP, "resize", "inside a subgraph"),
    "cam-on-the-image": ("scores = MatMul (image, v)", {"v": (32, 5)},
                         {"outputs": "float[1, 3, 32, 5] scores"}, "cam",
                         "reads 'image', expected a global average"),
    "gap-on-fc": (FC + "scores = Relu (h)", ONE, {}, "gap", "give --to fcn, adaptive or resize"),
}  # fmt: skip


@pytest.mark.parametrize("case", TARGETED)
def test_a_target_declines_what_it_cannot_take(kit, case):
    body, weights, options, target, words = TARGETED[case]
    model = kit.fc(body, weights, **options)
    with pytest.raises(DeclinedError) as caught:
        rewrite(model, to=target, in_place=True)
    assert words in str(caught.value)


def test_a_type_that_the_opset_s_convolution_lacks_is_declined(kit):
    model = kit.plain()
    for tensor in model.graph.initializer:
        tensor.data_type = onnx.TensorProto.INT32
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.INT32
    with pytest.raises(DeclinedError, match="the rewritten graph would be invalid"):
        rewrite(model)


def test_a_graph_that_does_not_read_its_image_cannot_resize_it(kit):
    model = kit.make("scores = Identity (c)", weights={"c": (1, 5)})
    with pytest.raises(DeclinedError, match="nothing reads the image"):
        rewrite(model, to="resize")


def test_regions_of_a_map_are_taken_as_they_are(kit):
    model = kit.fc(
        "r = MaxRoiPool <pooled_shape = [2, 2]> (fmap, rois) flat = Flatten (r) "
        "scores = Gemm <transB = 1> (flat, w)",
        {"rois": (1, 5), "w": (5, 16)},
    )
    done = rewrite(model)
    assert not done.applied
    assert "flattens regions of a map" in done.reason


def test_symbolic_sizes_without_a_layer_ask_for_the_size(kit):
    model = kit.fc("scores = Flatten (fmap)", outputs=f"float[1, {FLAT}] scores")
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = "n"
    with pytest.raises(DeclinedError, match="training size is not recorded; give --size"):
        find_head(model)


def test_external_weights_that_must_move_need_their_file(kit, tmp_path):
    path = tmp_path / "m.onnx"
    model = kit.fc("flat = Flatten (fmap) scores = MatMul (flat, w)", {"w": (FLAT, 5)})
    onnx.save(model, path, save_as_external_data=True, location="w", size_threshold=64)
    with pytest.raises(DeclinedError, match=r"its bytes must move .* say which file"):
        rewrite(onnx.load(path, load_external_data=False))
