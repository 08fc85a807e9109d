"""Every spelling of a fully connected head, generated, rewritten, and proved window by window."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from spellings.between import BETWEEN
from spellings.dense import DENSE
from spellings.ends import ENDS, FLOAT, ending
from spellings.flattens import BAKED, FLATTENS, nhwc
from spellings.net import (
    CHANNELS,
    CLASSES,
    FLAT,
    HEIGHT,
    HIDDEN,
    LARGER,
    WIDTH,
    Net,
    backbone,
)
from spellings.spelling import Spelling
from spellings.weights import PLAIN, QUANTISED, WEIGHTS

from anysize.surgery import rewrite
from anysize.surgery.storage.weightless import check
from anysize.validators.proof import prove_rewrite


def assert_proved(model: onnx.ModelProto, *, output: str = "map") -> onnx.ModelProto:
    before = model.SerializeToString()
    done = rewrite(model, output=output)
    assert done.applied, done.reason
    assert model.SerializeToString() == before
    check(done.model)
    kinds = {node.op_type for node in done.model.graph.node}
    assert not kinds & {"Gemm", "MatMul", "Reshape", "Shape"} or output != "map"
    proof = prove_rewrite(model, done.model, LARGER, batch=8)
    assert proof.ok, proof.message
    again = rewrite(done.model)
    assert not again.applied
    assert again.model is done.model
    return done.model


DEFAULT = Spelling()
KERAS = Spelling(flatten="nhwc-reshape", dense="matmul-add")
SINGLE = [
    *(replace(DEFAULT, flatten=name) for name in FLATTENS | BAKED if name != "reshape-allowzero"),
    *(replace(DEFAULT, flatten=name, batch="n") for name in FLATTENS),
    *(replace(DEFAULT, weight=name) for name in WEIGHTS),
    *(replace(KERAS, weight=name) for name in WEIGHTS),
    *(replace(DEFAULT, dense=name) for name in DENSE),
    *(replace(DEFAULT, between=name) for name in BETWEEN),
    *(replace(DEFAULT, end=name) for name in ENDS),
    *(replace(DEFAULT, end=name, opset=11) for name in ENDS),
]


def name_of(spelling: Spelling) -> str:
    changed = [
        str(value) for key, value in vars(spelling).items() if value != getattr(DEFAULT, key)
    ]
    return "+".join(changed) or "default"


@pytest.mark.parametrize("spelling", SINGLE, ids=name_of)
def test_every_spelling_is_rewritten_and_equals_the_original_on_every_window(spelling):
    assert_proved(spelling.build())


# The class of a mean over cells hardly varies from one seeded image to another.
MEANT = [name for name in ENDS if not name.startswith("arg-max") and name != "softmax-top-k"]


@pytest.mark.parametrize("end", MEANT)
def test_both_gives_the_outputs_and_the_map_of_the_scores_before_their_end(end):
    model = Spelling(end=end, opset=13).build()
    rewritten = assert_proved(model, output="both")
    *outputs, dense = rewritten.graph.output
    assert [o.name for o in outputs] == [o.name for o in model.graph.output]
    assert dense.name == "map"
    assert [d.dim_param or d.dim_value for d in dense.type.tensor_type.shape.dim] == [
        "batch", CLASSES, "map_height", "map_width",
    ]  # fmt: skip
    made = next(node for node in rewritten.graph.node if "map" in node.output)
    assert made.op_type == "Conv"


@pytest.mark.parametrize("opset", [11, 17], ids=["opset-11", "opset-17"])
@pytest.mark.parametrize("end", MEANT)
def test_the_mean_of_the_scores_goes_through_the_same_end(end, opset):
    model = Spelling(end=end, opset=opset).build()
    rewritten = assert_proved(model, output="logits")
    assert [o.name for o in rewritten.graph.output] == [o.name for o in model.graph.output]


@pytest.mark.parametrize("flatten", ["flatten", "nhwc-reshape"])
def test_weights_listed_among_the_inputs_are_rewritten_with_their_declaration(flatten):
    spelling = Spelling(flatten=flatten, lists_weights=True, opset=9, between="nothing")
    rewritten = rewrite(spelling.build()).model
    check(rewritten)
    listed = {
        i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in rewritten.graph.input
    }
    for tensor in rewritten.graph.initializer:
        assert listed[tensor.name] == list(tensor.dims)


def two_heads(net: Net) -> None:
    rows = net.add("Flatten", backbone(net))
    for units in (3, 2):  # ages, genders
        net.outputs.append((DENSE["gemm"](net, rows, FLAT, units, PLAIN["initializer"]), FLOAT))


def joined_heads(net: Net) -> None:
    two_heads(net)
    parts = [name for name, _ in net.outputs]
    net.outputs = [(net.add("Concat", *parts, axis=1), FLOAT)]


def parted_head(net: Net) -> None:
    rows = net.add("Flatten", backbone(net))
    scores = DENSE["gemm"](net, rows, FLAT, CLASSES, PLAIN["initializer"])
    for begin, end in ((0, 3), (3, CLASSES)):
        part = net.add("Slice", scores, net.ints(begin), net.ints(end), net.ints(1))
        net.outputs.append((net.add("Softmax", part, axis=-1), FLOAT))


def split_head(net: Net) -> None:
    rows = net.add("Flatten", backbone(net))
    scores = DENSE["gemm"](net, rows, FLAT, CLASSES, PLAIN["initializer"])
    first = net.add("Split", scores, net.ints(3, CLASSES - 3), outputs=2, axis=1)
    net.outputs += [(first, FLOAT), (first[:-1] + "1", FLOAT)]


def shared_trunk(net: Net) -> None:
    rows = FLATTENS["nhwc-reshape"](net, backbone(net))
    trunk = net.add("Relu", DENSE["matmul-add"](net, rows, FLAT, HIDDEN, PLAIN["initializer"]))
    for dense in ("gemm", "matmul-left"):
        scores = DENSE[dense](net, trunk, HIDDEN, CLASSES, PLAIN["initializer"])
        net.outputs.append((scores, FLOAT))


def depths(net: Net) -> None:
    rows = net.add("Flatten", backbone(net))
    embedding = DENSE["gemm"](net, rows, FLAT, HIDDEN, PLAIN["initializer"])
    net.outputs.append((embedding, FLOAT))
    hidden = net.add("Relu", embedding)
    scores = DENSE["gemm"](net, hidden, HIDDEN, CLASSES, PLAIN["initializer"])
    net.outputs.append((scores, FLOAT))


def tails_of_different_scores(net: Net) -> None:
    two_heads(net)
    (ages, _), (genders, _) = net.outputs
    net.outputs = []
    ending("Softmax", axis=1)(net, ages)
    ending()(net, ages)
    ending("LogSoftmax", axis=1)(net, genders)


def shared_weight(net: Net) -> None:
    rows = net.add("Flatten", backbone(net))
    weight = net.store(net.normal(CLASSES, FLAT))
    for x in (rows, net.add("Neg", rows)):
        net.outputs.append((net.add("Gemm", x, weight, transB=1), FLOAT))


def quantised_activations(net: Net) -> None:
    rows = net.add("Flatten", backbone(net))
    hidden = DENSE["gemm"](net, rows, FLAT, HIDDEN, PLAIN["initializer"])
    scale, zero = net.store(np.array(2.0**-6, np.float32)), net.store(np.array(0, np.int8))
    pair = net.add("QuantizeLinear", hidden, scale, zero)
    back = net.add("DequantizeLinear", pair, scale, zero)
    net.outputs.append((DENSE["gemm"](net, back, HIDDEN, CLASSES, PLAIN["initializer"]), FLOAT))


def dense_on_every_position(net: Net) -> None:
    mixed = net.add("MatMul", nhwc(net, backbone(net)), net.store(net.normal(CHANNELS, HIDDEN)))
    rows = net.add("Reshape", net.add("Relu", mixed), net.ints(0, -1))
    features = HIDDEN * HEIGHT * WIDTH
    net.outputs.append((DENSE["gemm"](net, rows, features, CLASSES, PLAIN["initializer"]), FLOAT))


@pytest.mark.parametrize("output", ["map", "logits", "both"])
@pytest.mark.parametrize(
    "build",
    [
        two_heads,
        joined_heads,
        parted_head,
        split_head,
        shared_trunk,
        depths,
        shared_weight,
        tails_of_different_scores,
    ],
)
def test_several_heads_on_one_map_are_each_proved(build, output):
    net = Net()
    build(net)
    assert_proved(net.model(), output=output)


def test_a_dense_layer_on_every_position_is_a_convolution_of_one_cell():
    net = Net()
    dense_on_every_position(net)
    assert_proved(net.model())


def test_quantisation_of_activations_in_the_head_stays():
    net = Net()
    quantised_activations(net)
    model = net.model()
    rewritten = assert_proved(model)
    before = [n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    after = [n for n in rewritten.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert after == before


@pytest.mark.parametrize("weight", QUANTISED)
def test_a_quantised_weight_stays_quantised_with_a_scale_for_each_filter(weight):
    rewritten = rewrite(Spelling(weight=weight).build()).model
    tensors = {tensor.name: tensor for tensor in rewritten.graph.initializer}
    convolutions = [node for node in rewritten.graph.node if node.op_type == "Conv"][1:]
    made = {node.output[0]: node for node in rewritten.graph.node}
    for convolution in convolutions:
        node = made[convolution.input[1]]
        assert node.op_type == "DequantizeLinear"
        scale = tensors[node.input[1]]
        source = made[node.input[0]].input[0] if node.input[0] in made else node.input[0]
        if np.prod(scale.dims) > 1:
            assert list(scale.dims) == [tensors[source].dims[0]]
            assert next(a.i for a in node.attribute if a.name == "axis") == 0


@pytest.mark.parametrize("weight", ["initializer", "constant", "identity", "reshape", "squeeze"])
def test_what_can_stay_in_place_is_not_moved(weight):
    trans_b = Spelling(weight=weight)
    assert rewrite(trans_b.build()).moved == ()


@pytest.mark.parametrize("weight", ["transpose", "initializer"])
def test_what_must_move_says_why(weight):
    moved = rewrite(Spelling(weight=weight, flatten="nhwc-reshape", dense="matmul").build()).moved
    assert moved
    assert all("stores its weight" in reason for reason in moved)


@pytest.mark.parametrize("kind", [np.float64, np.float16], ids=["double", "half"])
def test_other_precisions_are_rewritten_alike(kind):
    from onnx.reference import ReferenceEvaluator

    model = Spelling().build()
    plain = rewrite(model).model
    code = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            tensor.CopyFrom(onnx.numpy_helper.from_array(array.astype(kind), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = code
    rewritten = rewrite(model).model
    check(rewritten)
    images = np.random.default_rng(0).standard_normal((1, 3, 19, 26))
    found = ReferenceEvaluator(rewritten).run(None, {"image": images.astype(kind)})[0]
    expected = ReferenceEvaluator(plain).run(None, {"image": images.astype(np.float32)})[0]
    # Half precision rounds each of a few hundred products to 11 bits.
    tolerance = 1e-5 if kind is np.float64 else 2e-2
    assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()


def test_what_is_not_the_head_stays_byte_for_byte():
    model = Spelling(end="softmax").build()
    model.doc_string, model.graph.doc_string = "a model", "a graph"
    for owner in (model, model.graph, model.graph.node[0], model.graph.node[4]):
        entry = owner.metadata_props.add()
        entry.key, entry.value = "made", "by hand"
    model.graph.node[0].doc_string = "the first convolution"
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 2))
    unused = onnx.numpy_helper.from_array(np.arange(3), "unused")
    model.graph.initializer.append(unused)
    rewritten = rewrite(model).model
    assert list(rewritten.graph.node[:3]) == list(model.graph.node[:3])
    assert rewritten.opset_import == model.opset_import
    assert (rewritten.doc_string, rewritten.graph.doc_string) == ("a model", "a graph")
    assert rewritten.metadata_props[0] == model.metadata_props[0]
    assert rewritten.graph.metadata_props == model.graph.metadata_props
    assert rewritten.graph.node[3].metadata_props == model.graph.node[4].metadata_props
    names = [tensor.name for tensor in model.graph.initializer]
    assert [tensor.name for tensor in rewritten.graph.initializer] == names
    assert rewritten.graph.initializer[-1] == unused


SABOTAGES = {
    "rows-for-columns": lambda array: array.reshape(HIDDEN, CHANNELS, WIDTH, HEIGHT).swapaxes(2, 3),
    "channels-last-kept": lambda array: array.reshape(HIDDEN, HEIGHT, WIDTH, CHANNELS).transpose(
        0, 3, 1, 2
    ),
    "one-filter-off": lambda array: np.roll(array, 1, axis=0),
}


@pytest.mark.parametrize("sabotage", SABOTAGES)
def test_a_wrong_order_of_the_weight_is_seen_by_the_proof(sabotage):
    model = Spelling(flatten="nhwc-reshape").build()
    rewritten = rewrite(model).model
    kernel = next(t for t in rewritten.graph.initializer if list(t.dims) == [6, 4, 4, 3])
    wrong = SABOTAGES[sabotage](onnx.numpy_helper.to_array(kernel))
    kernel.raw_data = np.ascontiguousarray(wrong).tobytes()
    assert not prove_rewrite(model, rewritten, LARGER, batch=2).ok


def fits(spelling: Spelling) -> bool:
    """Leave out what ONNX itself does not have, and weights that no dense layer can hold."""
    if spelling.batch == "n" and spelling.flatten in BAKED:
        return False
    if "alpha" in spelling.dense or "beta" in spelling.dense:
        return not spelling.weight.startswith("cast") and "quantize" not in spelling.weight
    return True


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.filter_too_much],
)
@given(
    st.builds(
        Spelling,
        flatten=st.sampled_from(sorted(FLATTENS)),
        weight=st.sampled_from(sorted(WEIGHTS)),
        dense=st.sampled_from(sorted(DENSE)),
        between=st.sampled_from(sorted(BETWEEN)),
        end=st.sampled_from([e for e in MEANT if "arg-max" not in e]),
        opset=st.sampled_from([17, 20, 21]),
        batch=st.sampled_from([1, "n"]),
    ).filter(fits)
)
def test_any_combination_of_spellings_is_rewritten_right(spelling):
    assert_proved(spelling.build())


@pytest.mark.slow
@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("flatten", FLATTENS)
def test_every_weight_behind_every_flatten_in_every_layer(flatten, weight):
    for dense, opset in itertools.product(DENSE, (17, 21)):
        spelling = Spelling(flatten=flatten, weight=weight, dense=dense, opset=opset, batch="n")
        if fits(spelling):
            assert_proved(spelling.build())
