"""Files made to exhaust or to fool: refused in one line, in bounded time and memory."""

from __future__ import annotations

import contextlib
import time

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from anysize.errors import ModelFileError
from anysize.surgery import IllegalSizeError, find_head, load_model, rewrite, save_model
from anysize.surgery.storage import structure
from anysize.surgery.storage.node_count import MAX_NODES, check_node_count
from anysize.surgery.storage.tensors import HELD, PERMUTED_KEY, PLACE_KEY, Place, place_of
from anysize.surgery.storage.wire import tag, varint


@pytest.fixture
def refused(tmp_path):
    def refuse(data, words):
        path = tmp_path / "in.onnx"
        path.write_bytes(data if isinstance(data, bytes) else data.SerializeToString())
        start = time.perf_counter()
        for weights in ("loaded", "in_file"):
            with pytest.raises(ModelFileError) as caught:
                load_model(path, weights=weights)
        assert time.perf_counter() - start < 10
        message = str(caught.value)
        assert words in message
        assert len(message) < 1000
        assert message.isprintable()

    return refuse


def with_graph(model, more):
    """Serialise a model with bytes appended to its graph."""
    graph = model.graph.SerializeToString() + more
    model.ClearField("graph")
    return model.SerializeToString() + tag(7) + varint(len(graph)) + graph


def test_functions_that_double_are_counted_and_not_written_out(kit, refused):
    model = kit.plain()
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    model.opset_import.append(opsets[1])
    for place in range(40):
        call = "Relu" if place == 0 else f"F{place - 1}"
        domain = "" if place == 0 else "f"
        nodes = [
            helper.make_node(call, ["x"], ["z"], domain=domain),
            helper.make_node(call, ["z"], ["y"], domain=domain),
        ]
        model.functions.append(helper.make_function("f", f"F{place}", ["x"], ["y"], nodes, opsets))
    model.graph.node.insert(3, helper.make_node("F39", ["fmap"], ["calm"], domain="f"))
    model.graph.node[4].input[0] = "calm"
    refused(model, f"comes to more than {MAX_NODES} nodes")


def test_nodes_of_subgraphs_and_functions_count(kit):
    model = kit.plain()
    body = helper.make_graph([helper.make_node("Relu", ["a"], ["b"])] * MAX_NODES, "g", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["d"], then_branch=body))
    with pytest.raises(ModelFileError, match="comes to more than"):
        check_node_count(model)


def test_a_million_empty_nodes_are_never_built(kit, refused, monkeypatch):
    monkeypatch.setattr(structure, "MAX_FIELDS", 20_000)
    refused(with_graph(kit.plain(), b"\x0a\x00" * 1_000_000), "holds more than 20000 fields")


def test_empty_messages_within_a_node_count_too(kit, refused, monkeypatch):
    monkeypatch.setattr(structure, "MAX_FIELDS", 20_000)
    node = b"\x2a\x00" * 25_000  # attributes, all in one node below the size of a weight
    refused(with_graph(kit.plain(), b"\x0a" + varint(len(node)) + node), "holds more than 20000")


def test_text_without_end_is_refused(kit, refused, monkeypatch):
    monkeypatch.setattr(structure, "MAX_STRUCTURE_BYTES", 1 << 20)
    model = kit.plain()
    model.doc_string = "x" * (1 << 21)
    refused(model, "MiB beside its weights")


@pytest.mark.parametrize("depth", [45, 5000])
def test_types_within_types_are_refused(kit, refused, depth):
    kind = b"\x0a\x02\x08\x01"
    for _ in range(depth):
        element = b"\x0a" + varint(len(kind)) + kind
        kind = b"\x22" + varint(len(element)) + element
    value = b"\x0a\x01s\x12" + varint(len(kind)) + kind
    refused(with_graph(kit.plain(), b"\x5a" + varint(len(value)) + value), "nests more than 24")


def test_numbers_without_end_are_refused(kit, refused):
    refused(b"\x08" + b"\xff" * 11 + b"\x01" + kit.plain().SerializeToString(), "has no end")
    refused(kit.plain().SerializeToString() + tag(7) + varint(2**62), "has no end")
    refused(b"\x0b" + kit.plain().SerializeToString(), "wire type 3")


def test_opsets_by_the_thousand_are_refused(kit, refused):
    model = kit.plain()
    model.opset_import.extend(helper.make_opsetid(f"d{place}", 1) for place in range(1000))
    refused(model, "expected a handful")


def test_typed_data_that_do_not_fill_the_dims_are_refused(kit, refused):
    model = kit.plain()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.float_data.extend([1.0, 2.0])
    refused(model, "holds 2 numbers, expected 108")


def test_names_that_are_no_text_are_refused(kit, refused):
    refused(kit.plain().SerializeToString().replace(b"fmap", b"\xff\xfe\x80p"), "utf-8")


def test_names_that_steer_a_terminal_are_quoted_harmlessly(kit, refused):
    model = kit.plain()
    model.graph.node[3].op_type = "Flat\n\x1b]0;title\x07"
    refused(model, "No Op registered")


def test_a_name_of_megabytes_does_not_fill_the_screen(kit, tmp_path):
    model = kit.plain()
    tensor = model.graph.initializer[0]
    tensor.name = "x" * 2**21
    tensor.raw_data = tensor.raw_data[:-4]
    path = tmp_path / "long.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match=r"xxx … .*holds .* bytes") as caught:
        load_model(path)
    assert len(str(caught.value)) < 2100


@pytest.mark.parametrize("node", ["Concat <axis = 1>", "Concat <axis = 0>"])
def test_a_tensor_that_doubles_thirty_times_is_refused(kit, node):
    doubled = " ".join(f"d{place + 1} = {node} (d{place}, d{place})" for place in range(30))
    model = kit.fc(
        f"""sides = Shape (fmap) d0 = {"Identity (fmap)" if "1" in node else "Identity (sides)"}
            {doubled} flat = Flatten (fmap) scores = Gemm <transB = 1> (flat, w, b)""",
        {"w": (5, kit.FLAT), "b": (5,)},
    )
    with pytest.raises(IllegalSizeError, match="more than any layer of a classifier"):
        find_head(model)


@pytest.mark.parametrize(
    "node",
    [
        "Expand (one, many)", "Tile (one, many)", "ConstantOfShape (many)", "Pad (one, pads)",
        "Range (zero, most, step)", "OneHot (one, most, values)",
    ],
)  # fmt: skip
def test_constants_of_a_million_million_elements_are_never_made(kit, node):
    model = kit.fc(
        f"large = {node} flat = Flatten (fmap) scores = Gemm <transB = 1> (flat, w, b)",
        {"w": (5, kit.FLAT), "b": (5,)},
        constants={
            "one": [1], "many": [10**12], "pads": [0, 10**12], "zero": 0, "most": 10**12,
            "step": 1, "values": [0, 1],
        },
    )  # fmt: skip
    start = time.perf_counter()
    with contextlib.suppress(IllegalSizeError):
        rewrite(model)
    assert time.perf_counter() - start < 5


LARGE = {"w": (64, 256), "b": (64,), "w2": (5, 64), "b2": (5,)}


def large(kit):
    return kit.fc(
        """flat = Flatten (fmap) hidden = Gemm <transB = 1> (flat, w, b)
           scores = Gemm <transB = 1> (hidden, w2, b2)""",
        LARGE,
    )


def test_large_weights_stay_in_the_file_and_come_back(kit, tmp_path):
    model = large(kit)
    model.graph.node.insert(
        0, helper.make_node("Constant", [], ["unused"], value=numpy_helper.from_array(
            np.arange(20_000, dtype=np.float32)))
    )  # fmt: skip
    model.graph.initializer[2].data_location = onnx.TensorProto.DEFAULT  # stated, as onnx does
    path, out = tmp_path / "a b ü.onnx", tmp_path / "out.onnx"
    path.write_bytes(model.SerializeToString())
    lazy = load_model(path, weights="in_file")
    assert [t.name for t in lazy.graph.initializer if place_of(t) is Place.OWN_FILE] == ["w"]
    assert lazy.ByteSize() < 6000
    assert load_model(path) == model
    save_model(lazy, out, source=path)
    assert out.read_bytes() == path.read_bytes()
    save_model(lazy, out, source=path, external_data="always")
    again = onnx.load(out)
    assert [t.raw_data for t in again.graph.initializer] == [
        t.raw_data for t in model.graph.initializer
    ]


def test_a_rewrite_never_reads_the_weights_of_a_layer(kit, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    path, out = tmp_path / "in.onnx", tmp_path / "elsewhere" / "out.onnx"
    (tmp_path / "real.onnx").write_bytes(large(kit).SerializeToString())
    path.symlink_to(tmp_path / "real.onnx")  # a cache of models is full of links
    done = rewrite(load_model(path, weights="in_file"), source=path)
    save_model(done.model, out, source=path)
    assert load_model(out) == rewrite(load_model(path), source=path).model


@pytest.mark.parametrize("claim", ["default", "stated", HELD])
def test_a_file_cannot_claim_to_have_been_located(kit, refused, claim):
    model = large(kit)
    tensor = model.graph.initializer[1]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    for key, value in (
        ("location", "x"),
        ("offset", "0"),
        ("length", "16"),
        (PLACE_KEY, claim),
    ):
        tensor.external_data.add(key=key, value=value)
    refused(model, "is not ours")


def test_a_file_cannot_say_how_to_turn_a_weight(kit, refused):
    model = large(kit)
    tensor = model.graph.initializer[1]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "x"), (PERMUTED_KEY, "{}")):
        tensor.external_data.add(key=key, value=value)
    refused(model, "is not ours")


def test_a_weight_given_twice_is_refused(kit, refused):
    model = large(kit)
    weight = model.graph.initializer[2]
    index = next(i for i, t in enumerate(model.graph.initializer) if t.name == "w")
    weight = model.graph.initializer[index]
    twice = weight.SerializeToString() + b"\x4a" + varint(len(weight.raw_data)) + weight.raw_data
    del model.graph.initializer[index]
    refused(with_graph(model, b"\x2a" + varint(len(twice)) + twice), "more than once")


@pytest.mark.parametrize("weight", ["w1", "b2"], ids=["large", "small"])
def test_two_weights_of_one_name_are_refused(kit, refused, weight):
    model = kit.plain()
    twin = next(t for t in model.graph.initializer if t.name == weight)
    model.graph.initializer.append(twin)
    refused(model.SerializeToString(), f"2 initializers called '{weight}'")


def test_external_data_with_a_hole_are_refused(kit, tmp_path, refused):
    model = large(kit)
    onnx.save(model, tmp_path / "in.onnx", save_as_external_data=True, location="w.bin")
    data = (tmp_path / "w.bin").read_bytes()
    with (tmp_path / "w.bin").open("wb") as stream:
        stream.truncate(len(data))
    with pytest.raises(ModelFileError, match="has a hole at byte 0, where nothing was written"):
        load_model(tmp_path / "in.onnx")


def test_ranges_that_overlap_are_copied_once(kit, tmp_path):
    model = large(kit)
    path, out = tmp_path / "in.onnx", tmp_path / "out.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    lazy = onnx.load(path, load_external_data=False)
    weight = next(tensor for tensor in lazy.graph.initializer if tensor.name == "w")
    for place in range(200):
        twin = lazy.graph.initializer.add()
        twin.CopyFrom(weight)
        twin.name = f"twin{place}"
        twin.dims[0] = 60
        del twin.external_data[:]
        for key, value in (("location", "w.bin"), ("offset", 4 * place), ("length", 60 * 1024)):
            twin.external_data.add(key=key, value=str(value))
    path.write_bytes(lazy.SerializeToString())
    save_model(load_model(path), out, source=path)
    size_bytes = (tmp_path / "w.bin").stat().st_size
    assert (tmp_path / "out.onnx.data").stat().st_size <= size_bytes + 4096
    copied, original = onnx.load(out).graph.initializer, onnx.load(path).graph.initializer
    assert [tensor.raw_data for tensor in copied] == [tensor.raw_data for tensor in original]
