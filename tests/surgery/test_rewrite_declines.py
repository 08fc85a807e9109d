# ruff: noqa: ISC004 - one case a line reads better than parentheses
import onnx
import pytest

from anysize.errors import DeclinedError, UsageError
from anysize.sizes import Size
from anysize.surgery import FileMetadata, IllegalSizeError, find_head, rewrite, write_metadata

FLAT = 4 * 8 * 8
ONE = {"w": (5, FLAT), "b": (5,)}
FC = "flat = Flatten (fmap) h = Gemm <transB = 1> (flat, w, b) "

# (name, head, weights, options, words of the message, node)
DECLINES = [
    ("weight-computed", "flat = Flatten (fmap) m = ReduceMean <axes = [0], keepdims = 1> (flat) "
     "v = Gemm <transA = 1> (m, one) scores = Gemm (flat, v)", {"one": (1, 5)}, {},
     "is computed, expected a constant", "scores"),
    ("bias-for-each-image", "flat = Flatten (fmap) scores = Gemm <transB = 1> (flat, w, b)",
     {"w": (5, FLAT), "b": (2, 5)}, {"image": "2, 3, 32, 32", "outputs": "float[2, 5] scores"},
     "bias has shape [2, 5], expected 5 elements", "scores"),
    ("softmax-over-the-batch", FC + "scores = Softmax <axis = 0> (h)", ONE, {},
     "along axis 0, expected the classes", "scores"),
    ("arg-max-over-the-batch", FC + "scores = ArgMax (h)", ONE,
     {"outputs": "int64[1, 5] scores"}, "along axis 0, expected the classes", "scores"),
    ("unknown-operator", FC + "scores = CumSum (h, axis)", ONE, {"constants": {"axis": 1}},
     "CumSum in the fully connected head has no form", "scores"),
    ("batch-norm-on-the-flat-map",
     "flat = Flatten (fmap) n = BatchNormalization (flat, s, t, mean, var) "
     "scores = Gemm <transB = 1> (n, w, b)",
     {**ONE, "s": (FLAT,), "t": (FLAT,), "mean": (FLAT,), "var": (FLAT,)}, {},
     "tells the positions of the map apart", "n"),
    ("gain-on-the-flat-map", "flat = Flatten (fmap) n = Mul (flat, gain) "
     "scores = Gemm <transB = 1> (n, w, b)", {**ONE, "gain": (FLAT,)}, {},
     "tells the positions of the map apart", "n"),
    ("two-maps", "flat = Flatten (fmap) pooled = MaxPool <kernel_shape = [1, 1]> (active) "
     "other = Flatten (pooled) a = Gemm <transB = 1> (flat, w, b) "
     "c = Gemm <transB = 1> (other, v) scores = Add (a, c)", {**ONE, "v": (5, 1024)}, {},
     "the head flattens 'fmap' and 'pooled', expected one feature map", "other"),
    ("reader-outside", "flat = Flatten (fmap) scores = Gemm <transB = 1> (flat, w, b) "
     "other = CumSum (scores, k)", ONE, {"constants": {"k": 1}},
     "reads 'scores' inside the fully connected head", "other"),
    ("nothing-connected", "scores = Flatten (fmap)", {}, {"outputs": f"float[1, {FLAT}] scores"},
     "has no fully connected layer behind it", ""),
    ("no-image-dependence", "scores = Gemm <transB = 1> (v, w)", {"v": (1, 7), "w": (5, 7)}, {},
     "multiplies two constants", "scores"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("head", "weights", "options", "words", "node"),
    [pytest.param(*case[1:], id=case[0]) for case in DECLINES],
)
def test_declines_in_one_line_that_names_the_node(kit, head, weights, options, words, node):
    model = kit.fc(head, weights, **options)
    before = model.SerializeToString()
    with pytest.raises(DeclinedError) as caught:
        rewrite(model, in_place=True)
    message = str(caught.value)
    assert words in message
    assert "\n" not in message
    assert caught.value.node == node
    assert not node or f"node {node!r}" in message
    assert model.SerializeToString() == before


def _symbolic(model):
    for axis, name in ((2, "h"), (3, "w")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    return model


def test_declines_when_the_map_size_is_ambiguous(kit):
    model = _symbolic(kit.plain())
    with pytest.raises(DeclinedError) as caught:
        find_head(model)
    assert str(caught.value) == (
        "node 'hidden': weight has 256 inputs, which is 4×8×8 or 4×4×16 or 4×16×4; "
        "give --size to say which"
    )
    head = find_head(model, Size(32, 32))
    assert (head.channels, head.map_size) == (4, Size(8, 8))


def test_the_size_decides_between_maps_of_equally_many_cells(kit):
    # 4×16 cells and 8×8 cells fill the same weight; only the size tells them apart.
    original = _symbolic(kit.plain())
    assert find_head(original, Size(16, 64)).map_size == Size(4, 16)
    kit.same_on_windows(original, Size(16, 64))
    kit.same_on_windows(original, Size(32, 32))


def test_the_size_recorded_in_the_file_is_a_source(kit):
    model = _symbolic(kit.plain())
    entry = model.metadata_props.add()
    entry.key, entry.value = "anysize.size", "32x32"
    assert find_head(model).map_size == Size(8, 8)


def test_a_size_that_does_not_fit_the_weight_is_illegal(kit):
    with pytest.raises(IllegalSizeError, match=r"node 'hidden' cannot take .* 48x48.*expected 256"):
        rewrite(_symbolic(kit.plain()), size=Size(48, 48))


def test_another_domain_s_operator_is_declined_by_name(kit):
    model = kit.plain()
    model.graph.node[-1].op_type = "FusedGemm"
    model.graph.node[-1].domain = "com.microsoft"
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(DeclinedError, match=r"node 'scores': com\.microsoft\.FusedGemm .*fusion"):
        rewrite(model)


def test_a_baked_batch_in_the_backbone_is_declined_by_name(kit):
    model = kit.make(
        kit.BACKBONE.replace("fmap", "pool")
        + """first = Slice (pool, zero, one, zero) fmap = Relu (first)
             flat = Flatten (fmap) scores = Gemm <transB = 1> (flat, w, b)""",
        weights={**kit.BACKBONE_WEIGHTS, **ONE},
        constants={"zero": [0], "one": [1]},
    )
    with pytest.raises(DeclinedError, match=r"node 'first'.*batch of the original") as caught:
        rewrite(model)
    assert caught.value.node == "first"


def test_an_output_without_axes_is_declined_by_name(kit):
    model = kit.make("most = ReduceMax <keepdims = 0> (image)", outputs="float most")
    with pytest.raises(DeclinedError, match=r"node 'most': the batch .* is built in there"):
        rewrite(model, to="dynamic")


def test_a_baked_height_in_the_backbone_is_declined_by_name(kit):
    model = kit.make(
        kit.BACKBONE.replace("fmap", "pool")
        + """fmap = Add (pool, place)
             flat = Flatten (fmap) scores = Gemm <transB = 1> (flat, w, b)""",
        weights={**kit.BACKBONE_WEIGHTS, **ONE, "place": (1, 4, 8, 8)},
    )
    with pytest.raises(DeclinedError, match=r"node 'fmap' .*must be built in there") as caught:
        rewrite(model)
    assert caught.value.node == "fmap"


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("p = GlobalAveragePool (fmap) f = Flatten (p) scores = Gemm <transB = 1> (f, w)",
         {"w": (5, 4)}),
        ("p = GlobalAveragePool (fmap) f = Reshape (p, s) scores = Gemm <transB = 1> (f, w)",
         {"w": (5, 4)}),
        ("c = Conv (fmap, w) p = GlobalAveragePool (c) scores = Flatten (p)",
         {"w": (5, 4, 1, 1)}),
    ],
    ids=["gap", "gap-reshape", "nin"],
)  # fmt: skip
def test_a_graph_that_pools_globally_is_left_as_it_is(kit, body, weights):
    model = kit.fc(body, weights, constants={"s": [1, 4]} if "(p, s)" in body else None)
    result = rewrite(model)
    assert not result.applied
    assert "takes any size already" in result.reason
    assert result.model is model


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"to": "crf"}, "rewrite to 'crf': expected fcn"),
        ({"output": "maps"}, "expected map, logits"),
    ],
    ids=["target", "output"],
)
def test_targets_and_outputs_that_are_not_offered_are_usage_errors(kit, options, words):
    with pytest.raises(UsageError, match=words):
        rewrite(kit.plain(), **options)


def test_a_training_size_outside_what_the_file_records_is_refused(kit):
    model = kit.plain()
    write_metadata(model, FileMetadata(min_size=Size(31, 31), max_size=Size(34, 34)))
    with pytest.raises(UsageError, match="says that it takes 31x31 to 34x34"):
        rewrite(model, size=Size(40, 40))
    assert rewrite(model, size=Size(33, 32)).applied
