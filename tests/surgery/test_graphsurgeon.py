"""Graphs of onnx-graphsurgeon: a round trip keeps all of a model, and a rewrite fits between."""

from __future__ import annotations

import sys

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from anysize.errors import DeclinedError, UnsupportedModelError, UsageError
from anysize.sizes import Size
from anysize.surgery import (
    FileMetadata,
    from_graphsurgeon,
    load_model,
    map_geometry,
    read_metadata,
    rewrite,
    save_model,
    to_graphsurgeon,
    write_metadata,
)

gs = pytest.importorskip("onnx_graphsurgeon", reason="needs the extra graphsurgeon")
LAZY = type(gs.import_onnx(onnx.parser.parse_model(
    '<ir_version: 8, opset_import: ["" : 17]> g (float[1] x) => (float[1] y) '
    "<float[1] w = {1}> { y = Add (x, w) }"
)).tensors()["w"]._values)  # fmt: skip


@pytest.fixture
def documented(kit):
    """A classifier in which every message says something that graphsurgeon has no place for."""
    model = kit.plain()
    model.model_version, model.domain, model.doc_string = 7, "org.example", "a classifier"
    model.producer_name, model.producer_version = "somebody", "2"
    model.opset_import.append(onnx.helper.make_opsetid("org.example", 3))
    model.metadata_props.add(key="licence", value="mine")
    graph = model.graph
    graph.doc_string = "the graph"
    graph.metadata_props.add(key="traced", value="yes")
    graph.quantization_annotation.add(tensor_name="fmap")
    for message in (graph.node[0], graph.initializer[0], graph.input[0], graph.output[0]):
        message.doc_string = f"what {message.name} is"
        message.metadata_props.add(key="of", value=message.name)
    hidden = onnx.helper.make_tensor_value_info("hidden", 1, [1, 16])
    hidden.doc_string = "features"
    graph.value_info.append(hidden)
    write_metadata(model, FileMetadata(head="fc", class_names=tuple("abcde")))
    return model


def ordered(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose initializers stand in the order of their names; graphsurgeon has its own."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tensors = sorted(copy.graph.initializer, key=lambda tensor: tensor.name)
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(tensors)
    return copy


def round_trip(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return from_graphsurgeon(to_graphsurgeon(copy))


def test_a_round_trip_keeps_everything_bit_for_bit(documented):
    assert ordered(round_trip(documented)) == ordered(documented)


def test_a_round_trip_through_graphsurgeon_alone_does_not(documented):
    lost = gs.export_onnx(gs.import_onnx(documented))
    assert not lost.metadata_props
    assert (lost.model_version, lost.domain, lost.doc_string) == (0, "", "")
    assert not lost.graph.node[0].doc_string


def test_what_was_kept_moves_with_its_node_and_goes_with_it(documented):
    graph = to_graphsurgeon(documented)
    first = graph.nodes[0]
    first.name = "renamed"
    graph.nodes.insert(0, gs.Node("Identity", inputs=[graph.inputs[0]], outputs=[]))
    graph.nodes[0].outputs.append(gs.Variable("same"))
    first.inputs[0] = graph.nodes[0].outputs[0]
    nodes = from_graphsurgeon(graph).graph.node
    assert [(node.name, node.doc_string) for node in nodes[:2]] == [
        ("", ""),
        ("renamed", "what conv is"),
    ]
    graph.outputs = [graph.tensors()["conv"]]
    graph.outputs[0].dtype = np.float32
    graph.cleanup()
    model = from_graphsurgeon(graph)
    assert not model.graph.quantization_annotation, "its tensor is gone"
    assert model.metadata_props


def test_weights_are_read_when_they_are_asked_for_and_not_before(documented):
    graph = to_graphsurgeon(documented)
    weights = [tensor for tensor in graph.tensors().values() if isinstance(tensor, gs.Constant)]
    model = from_graphsurgeon(graph)
    assert weights
    assert all(isinstance(tensor._values, LAZY) for tensor in weights)
    for tensor in weights:
        assert tensor.values.dtype == np.float32
    assert ordered(from_graphsurgeon(graph)) == ordered(model), "a doc string was lost"


def test_external_weights_stay_where_they_are(kit, tmp_path):
    model = kit.plain()
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    loaded = load_model(tmp_path / "m.onnx")
    again = round_trip(loaded)
    assert ordered(again) == ordered(loaded)
    assert all(tensor.external_data for tensor in again.graph.initializer)


def test_weights_left_in_their_file_are_loaded_from_there(kit, tmp_path):
    model = kit.fc("flat = Flatten (fmap) scores = Gemm <transB = 1> (flat, w)", {"w": (500, 256)},
                   outputs="float[1, 500] scores")  # fmt: skip
    save_model(model, tmp_path / "m.onnx")
    loaded = load_model(tmp_path / "m.onnx", weights="in_file")
    graph = to_graphsurgeon(loaded, tmp_path)
    want = onnx.numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == "w"))
    assert np.array_equal(graph.tensors()["w"].values, want)


def test_a_subgraph_and_a_function_keep_what_they_say():
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 17, "own" : 1]>
           net (float[1, 3] x, bool yes) => (float[1, 3] y) {
               y = If (yes) <
                   then_branch = a () => (float[1, 3] p) { p = own.twice (x) },
                   else_branch = b () => (float[1, 3] q) { q = Neg (x) }>
           }
           <opset_import: ["" : 17], domain: "own"> twice (v) => (w) { w = Add (v, v) }"""
    )
    branches = [one.g for one in model.graph.node[0].attribute]
    for place, branch in enumerate(branches):
        branch.node[0].doc_string = f"branch {place}"
        branch.metadata_props.add(key="branch", value=str(place))
    model.functions[0].node[0].doc_string = "a sum"
    model.functions[0].metadata_props.add(key="from", value="us")
    assert round_trip(model) == model


def test_an_attribute_that_graphsurgeon_does_not_know_is_kept(documented):
    attribute = documented.graph.node[0].attribute.add(name="kinds")
    attribute.type = onnx.AttributeProto.TYPE_PROTO
    attribute.tp.tensor_type.elem_type = 1
    assert ordered(round_trip(documented)) == ordered(documented)


@pytest.mark.parametrize("ir_version", [3, 8])
def test_initializers_listed_among_the_inputs_stay_there(kit, ir_version):
    model = kit.plain()
    model.ir_version = ir_version
    for tensor in sorted(model.graph.initializer, key=lambda tensor: tensor.name):
        model.graph.input.append(
            onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        )
    names = {value.name for value in model.graph.input}
    again = round_trip(model)
    assert {value.name for value in again.graph.input} == names
    onnx.checker.check_model(again)


def test_a_graph_of_graphsurgeon_s_own_making_lists_what_ir_3_wants(kit):
    graph = gs.import_onnx(kit.plain())
    graph.ir_version = 3
    onnx.checker.check_model(from_graphsurgeon(graph))


def test_a_rewrite_stands_between_two_steps_of_ones_own(kit):
    """Pixels of 0 to 255 in front of it, a Softmax behind it: each written by graphsurgeon."""
    graph = to_graphsurgeon(kit.plain())
    image, first = graph.inputs[0], graph.nodes[0]
    scaled = gs.Variable("scaled", np.float32, image.shape)
    scale = gs.Constant("scale", np.array(1 / 255, np.float32))
    graph.nodes.insert(0, gs.Node("Mul", "normalise", inputs=[image, scale], outputs=[scaled]))
    first.inputs[0] = scaled
    before = from_graphsurgeon(graph)

    done = rewrite(graph)
    assert done.applied
    assert isinstance(done.model, gs.Graph)
    assert ordered(from_graphsurgeon(graph)) == ordered(before), "the graph was modified"
    assert read_metadata(from_graphsurgeon(done.model)).head == "fcn"

    scores = done.model.outputs[0]
    likely = gs.Variable("likely", np.float32, scores.shape)
    done.model.nodes.append(
        gs.Node("Softmax", inputs=[scores], outputs=[likely], attrs={"axis": 1})
    )
    done.model.outputs = [likely]
    model = from_graphsurgeon(done.model)
    onnx.checker.check_model(model, full_check=True)
    assert map_geometry(model, "likely") == done.geometry
    images = 255 * kit.images(1, 3, 52, 69)
    (dense,) = kit.run(rewrite(before).model, images)
    (got,) = kit.run(model, images)
    exponents = np.exp(dense - dense.max(1, keepdims=True))
    np.testing.assert_allclose(got, exponents / exponents.sum(1, keepdims=True), atol=1e-6)


def test_weights_that_must_move_do_so_from_where_they_are(kit, tmp_path):
    """A weight stored input first is turned: in the graph it is an array like any other."""
    head = "flat = Flatten (fmap) scores = MatMul (flat, w)"
    model = kit.fc(head, {"w": (kit.FLAT, 5)})
    want = onnx.numpy_helper.to_array(model.graph.initializer[-1]).T.reshape(5, 4, 8, 8)
    path = tmp_path / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    graph = gs.import_onnx(onnx.load(path, load_external_data=False))
    with pytest.raises(DeclinedError, match=r"its bytes must move .*say which file"):
        rewrite(graph)
    done = rewrite(graph, source=path)
    weight = next(t for t in done.model.tensors().values() if t.name.startswith("w"))
    assert np.array_equal(weight.values, want)


def test_a_graph_that_takes_any_size_is_handed_back(kit):
    once = rewrite(gs.import_onnx(kit.plain())).model
    twice = rewrite(once)
    assert not twice.applied
    assert "any size already" in twice.reason
    assert twice.model is once


def test_options_reach_the_rewrite(kit):
    done = rewrite(gs.import_onnx(kit.plain()), to="resize", size=Size(32, 32))
    assert read_metadata(from_graphsurgeon(done.model)).head == "resize"


def test_what_graphsurgeon_cannot_do_is_one_error_of_ours(kit):
    graph = gs.import_onnx(kit.plain())
    graph.outputs[0].dtype = None
    with pytest.raises(UnsupportedModelError, match="onnx-graphsurgeon cannot export the graph"):
        from_graphsurgeon(graph)
    model = kit.plain()
    model.graph.node[0].attribute.add(name="odd", type=3).s = b"\xff"
    with pytest.raises(UnsupportedModelError, match="onnx-graphsurgeon cannot import the graph"):
        to_graphsurgeon(model)


def test_without_graphsurgeon_the_error_says_what_installs_it(kit, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx_graphsurgeon", None)
    with pytest.raises(UsageError, match=r"pip install 'anysize\[graphsurgeon\]'"):
        to_graphsurgeon(kit.plain())
    assert rewrite(kit.plain()).applied, "nothing else needs it"
