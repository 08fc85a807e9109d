import numpy as np
import onnx
import pytest

from anysize.errors import UnsupportedModelError
from anysize.sizes import Size
from anysize.surgery import FileMetadata, load_model, read_metadata, split_at, write_metadata
from anysize.surgery.graph import Graph
from anysize.surgery.graph.edits import Edits, prune, unique_name


def test_the_two_halves_compute_what_the_whole_computes(kit):
    model = kit.plain()
    before = model.SerializeToString()
    features, head = split_at(model, "fmap")
    images = kit.images(1, 3, 32, 32)
    middle = kit.run(features, images)[0]
    assert np.array_equal(kit.run(head, middle)[0], kit.run(model, images)[0])
    assert {tensor.name for tensor in features.graph.initializer} == {"conv_w", "conv_b"}
    assert {tensor.name for tensor in head.graph.initializer} == {"w1", "b1", "w2", "b2"}
    assert model.SerializeToString() == before


def test_a_head_that_took_its_batch_from_the_image_takes_it_from_the_map(kit):
    model = kit.torch_export("dynamo-all")
    features, head = split_at(model, "avg_pool2d", size=Size(63, 63))
    middle = kit.run(features, kit.images(2, 3, 63, 63))[0]
    assert kit.run(head, np.concatenate([middle] * 3))[0].shape == (6, 5)


def test_a_half_can_be_split_again_and_carries_no_facts_of_the_whole(kit):
    model = kit.fc(
        "flat = Flatten (fmap) h = Gemm <transB = 1> (flat, w, b) scores = Softmax <axis = 1> (h)",
        {"w": (5, 256), "b": (5,)},
    )
    write_metadata(model, FileMetadata(head="fc", size=Size(32, 32)))
    _, head = split_at(model, "fmap")
    assert read_metadata(head) == FileMetadata()
    scores, tail = split_at(head, "h")
    middle = kit.images(2, 4, 8, 8)
    assert np.array_equal(kit.run(tail, kit.run(scores, middle)[0])[0], kit.run(head, middle)[0])


def test_external_weights_come_in_or_stay_external(kit, tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(kit.plain(), path, save_as_external_data=True, location="w", size_threshold=64)
    model = load_model(path)
    features, head = split_at(model, "fmap", source=path)
    images = kit.images(1, 3, 32, 32)
    expected = kit.run(kit.plain(), images)[0]
    assert np.array_equal(kit.run(head, kit.run(features, images)[0])[0], expected)
    _, head = split_at(model, "fmap")
    assert head.graph.initializer[0].data_location == onnx.TensorProto.EXTERNAL


def test_a_path_around_the_tensor_cannot_be_split(kit):
    model = kit.make(
        "a = Relu (image) b = Sigmoid (image) scores = Add (a, b)",
        outputs="float[1, 3, 32, 32] scores",
    )
    with pytest.raises(UnsupportedModelError, match=r"node 'b': reads 'image' past 'a'|'scores'"):
        split_at(model, "a")
    with pytest.raises(UnsupportedModelError, match="no node of the graph makes it"):
        split_at(model, "nothing")


def test_pruning_takes_what_nothing_reads_and_no_more(kit):
    model = kit.make(
        """s = Shape (image) t = Identity (c) dead = Add (s, t) used = Add (c, c)
           scores = Relu (image)""",
        constants={"c": [1]}, outputs="float[1, 3, 32, 32] scores, int64[1] used",
    )  # fmt: skip
    prune(model, ["dead"])
    assert [node.name for node in model.graph.node] == ["used", "scores"]
    assert [tensor.name for tensor in model.graph.initializer] == ["c"]


def test_pruning_takes_the_recorded_shapes_of_what_goes_and_no_others(kit):
    model = kit.make(
        """p, mask = Dropout (image) dead = Relu (p) scores = Relu (image)""",
        outputs="float[1, 3, 32, 32] scores",
    )
    for name, kind in (("p", 1), ("mask", 9), ("dead", 1), ("elsewhere", 1)):
        shape = [1, 3, 32, 32]
        model.graph.value_info.append(onnx.helper.make_tensor_value_info(name, kind, shape))
    prune(model, ["dead"])
    assert [node.name for node in model.graph.node] == ["scores"]
    assert [value.name for value in model.graph.value_info] == ["elsewhere"]


def test_edits_refer_to_nodes_by_their_number_before_any_edit(kit):
    model = kit.plain()
    edits = Edits()
    new = [
        onnx.helper.make_node("Relu", ["conv"], ["x"]),
        onnx.helper.make_node("Relu", ["x"], ["active"]),
    ]
    edits.nodes[1] = new
    edits.nodes[4] = [onnx.helper.make_node("Sigmoid", ["flat"], ["hidden"])]
    edits.apply(Graph(model))
    kinds = [node.op_type for node in model.graph.node]
    assert kinds == ["Conv", "Relu", "Relu", "MaxPool", "Flatten", "Sigmoid", "Relu", "Gemm"]
    names = {tensor.name for tensor in model.graph.initializer}
    assert names == {"conv_w", "conv_b", "w2", "b2"}


def test_names_are_kept_unique(kit):
    assert unique_name(kit.plain(), "conv", ["conv_2"]) == "conv_3"


def test_the_view_knows_makers_readers_and_constants(kit):
    graph = Graph(kit.plain())
    assert graph.producer("fmap") == 2
    assert graph.producer("image") is None
    assert graph.consumers("flat") == (4,)
    assert graph.upstream("fmap") == {0, 1, 2}
    assert graph.downstream("fmap") == {3, 4, 5, 6}
    assert graph.constant("w1").name == "w1"
    assert graph.label(2) == "node 'fmap'"
    graph.node(2).ClearField("name")
    assert graph.label(2) == "node #2 (MaxPool)"
