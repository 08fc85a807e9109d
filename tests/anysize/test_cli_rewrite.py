"""`anysize rewrite`: files of others become any-size files, proved, whole or not at all."""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest

import anysize
from anysize.surgery import load_model, read_metadata, save_model
from anysize.validators.proof import prove_rewrite

MODES = ("torchscript", "dynamo")


@pytest.fixture(scope="module", params=MODES)
def pair(request, small_exports, tmp_path_factory):
    """A file as torch.onnx writes it, and its rewrite."""
    original = small_exports[request.param]
    rewritten = tmp_path_factory.mktemp("pair") / "any.onnx"
    anysize.rewrite(original, rewritten)
    return original, rewritten


def edit_weights(source, target, edit):
    """Write `source` with one initializer changed: `edit(name, array)` returns it or None."""
    model = onnx.load(source)
    edited = 0
    for tensor in model.graph.initializer:
        changed = edit(tensor.name, onnx.numpy_helper.to_array(tensor))
        if changed is not None:
            tensor.CopyFrom(onnx.numpy_helper.from_array(changed, tensor.name))
            edited += 1
    assert edited == 1
    onnx.save(model, target)


def test_the_rewrite_keeps_names_and_is_a_valid_graph_without_a_flatten(pair):
    _, rewritten = pair
    model = onnx.load(rewritten)
    onnx.checker.check_model(model, full_check=True)
    assert [i.name for i in model.graph.input] == ["image"]
    assert [o.name for o in model.graph.output] == ["scores"]
    operators = [node.op_type for node in model.graph.node]
    assert operators.count("Conv") == 5
    assert not {"Gemm", "MatMul", "Flatten", "Reshape"} & set(operators)


def test_the_rewrite_records_where_it_comes_from(pair):
    import hashlib

    original, rewritten = pair
    metadata = read_metadata(load_model(rewritten))
    assert metadata.source_sha256 == hashlib.sha256(original.read_bytes()).hexdigest()
    assert (metadata.head, str(metadata.size), str(metadata.min_size)) == ("fcn", "32x32", "25x25")
    assert metadata.max_size is None


def test_validate_proves_every_window_of_the_rewrite_against_the_original(pair, run):
    original, rewritten = pair
    done = run("validate", rewritten, "--reference", original, "--sizes", "32x32,57x80,24x32")
    assert (done.code, done.errors) == (0, [])
    assert "6 of 6 cells good, 4 passed" in done.out


def flatten_rows_first(name, array):
    """What a file would hold had its FC weights been read as height, width, channels."""
    if array.ndim == 4 and array.shape[2:] == (3, 3) and array.shape[0] == 20:
        wrong = array.reshape(20, 3, 3, 12).transpose(0, 3, 1, 2)
        return np.ascontiguousarray(wrong)
    return None


def without_bias(name, array):
    return np.zeros_like(array) if array.shape == (20,) else None


@pytest.mark.parametrize("sabotage", [flatten_rows_first, without_bias])
def test_validate_finds_a_wrong_rewrite(pair, run, tmp_path, sabotage):
    original, rewritten = pair
    wrong = tmp_path / "wrong.onnx"
    edit_weights(rewritten, wrong, sabotage)
    done = run("validate", wrong, "--reference", original, "--sizes", "32x32,40x44")
    assert done.code == 1
    assert "mismatch" in done.out
    assert "0 passed" in done.out


def test_rewrite_writes_nothing_where_its_own_proof_fails(
    small_exports, run, tmp_path, monkeypatch
):
    from anysize import surgery

    def sabotaged(model, path, **options):
        bias = next(t for t in model.graph.initializer if list(t.dims) == [20])
        bias.CopyFrom(onnx.numpy_helper.from_array(np.zeros(20, np.float32), bias.name))
        save_model(model, path, **options)

    monkeypatch.setattr(surgery, "save_model", sabotaged)
    done = run("rewrite", small_exports["dynamo"], "-o", tmp_path / "any.onnx")
    assert done.code == 1
    assert "the rewrite is wrong and was not written" in done.errors[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("output", ["map", "logits", "both"])
def test_every_kind_of_output_validates(small_exports, run, tmp_path, output):
    any_size = tmp_path / "any.onnx"
    done = run("rewrite", small_exports["dynamo"], "-o", any_size, "--output", output)
    assert (done.code, done.errors) == (0, [])
    sizes = ("--sizes", "32x32,50x41,24x24")
    done = run("validate", any_size, "--reference", small_exports["dynamo"], *sizes)
    assert done.code == 0, done.out


def test_a_file_that_takes_any_size_is_copied_with_a_note(rewritten_digits, run, tmp_path):
    copy = tmp_path / "copy.onnx"
    done = run("rewrite", rewritten_digits, "-o", copy)
    assert (done.code, done.errors) == (0, [])
    assert "nothing to rewrite, copied as it is" in done.out
    assert "takes any size already" in done.err
    assert onnx.load(copy) == onnx.load(rewritten_digits)


def test_an_adaptive_head_is_left_as_it_is(run, tmp_path):
    path = tmp_path / "adaptive.onnx"
    anysize.export("lenet", path, head="adaptive", verify=False)
    done = run("rewrite", path, "-o", tmp_path / "copy.onnx")
    assert done.code == 0
    assert "nothing to rewrite" in done.out


def test_rewrite_in_place_with_external_data_keeps_the_file_whole(run, tmp_path):
    path = tmp_path / "lenet.onnx"
    anysize.export("lenet", path, head="fc", external_data="always", verify=False)
    original = tmp_path / "original"
    original.mkdir()
    for file in ("lenet.onnx", "lenet.onnx.data"):
        shutil.copy(tmp_path / file, original / file)
    assert run("rewrite", path, "-o", path).code == 0
    assert run("validate", path, "--sizes", "32x32,40x45").code == 0
    reference = ("--reference", original / "lenet.onnx")
    assert run("validate", path, *reference, "--sizes", "32x32,40x45").code == 0
    (weights,) = tmp_path.glob("lenet.onnx.*data")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lenet.onnx", weights.name, "original"]


def test_rewrite_never_overwrites_the_weights_of_its_input(run, tmp_path):
    path = tmp_path / "in.onnx"
    anysize.export("lenet", path, head="fc", external_data="always", verify=False)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "out.onnx.data"
    path.write_bytes(model.SerializeToString())
    weights = (tmp_path / "in.onnx.data").rename(tmp_path / "out.onnx.data")
    before = weights.read_bytes()
    for output in ("out.onnx", "out.onnx.data"):
        done = run("rewrite", path, "-o", tmp_path / output)
        assert done.code == 2
        assert "would overwrite the input" in done.errors[0]
    assert weights.read_bytes() == before


def test_a_head_that_pools_globally_gets_its_class_map(digits_files, run, tmp_path):
    cam = tmp_path / "cam.onnx"
    done = run("rewrite", digits_files["gap"], "-o", cam, "--to", "cam", "--output", "both")
    assert (done.code, done.errors) == (0, [])
    assert "head cam, " in done.out
    done = run("validate", cam, "--reference", digits_files["gap"], "--sizes", "32x32,40x50")
    assert (done.code, done.errors) == (0, [])


def test_what_onnx_runtime_cannot_load_is_not_written_without_a_word(run, tmp_path):
    model = onnx.parser.parse_model("""<ir_version: 3, opset_import: ["": 6]>
        net (float[1, 1, 8, 8] image, float[4, 1, 3, 3] k, float[5, 144] w, float[5] b)
            => (float[1, 5] scores) {
            map = Conv (image, k) rows = Flatten (map)
            scores = Gemm <transB = 1, broadcast = 1> (rows, w, b)
        }""")
    rng = np.random.default_rng(0)
    for name, dims in {"k": (4, 1, 3, 3), "w": (5, 144), "b": (5,)}.items():
        values = rng.standard_normal(dims).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    source, target = tmp_path / "old.onnx", tmp_path / "any.onnx"
    onnx.save(model, source)
    done = run("rewrite", source, "-o", target)
    assert done.code == 3
    assert "cannot be proved: " in done.errors[0]
    assert "--verify off writes the file without a proof" in done.errors[0]
    assert not target.exists()
    assert run("rewrite", source, "-o", target, "--no-verify").code == 0


@pytest.mark.parametrize("tails", [("ArgMax",), ("Softmax",), ("Softmax", "ArgMax")], ids="-".join)
def test_labels_and_sure_probabilities_are_proved_by_the_scores_before_them(
    digits_files, run, tmp_path, tails
):
    # A trained network answers noise with one label, and is sure of it.
    model = onnx.load(digits_files["fc"])
    graph, tensor = model.graph, model.graph.output[0].name
    for tail in tails:
        attributes = {"axis": 1} | ({"keepdims": 0} if tail == "ArgMax" else {})
        graph.node.append(onnx.helper.make_node(tail, [tensor], [tail], **attributes))
        tensor = tail
    kind, shape = onnx.TensorProto.FLOAT, ("batch", 11)
    if tails[-1] == "ArgMax":
        kind, shape = onnx.TensorProto.INT64, ("batch",)
    del graph.output[:]
    graph.output.append(onnx.helper.make_tensor_value_info(tensor, kind, shape))
    del model.metadata_props[:]
    source, target = tmp_path / "tail.onnx", tmp_path / "any.onnx"
    onnx.save(model, source)
    done = run("rewrite", source, "-o", target, "--size", "32x32", "--output", "logits")
    assert (done.code, done.errors) == (0, [])

    wrong = tmp_path / "wrong.onnx"
    edit_weights(target, wrong, lambda name, a: 0 * a if name == "classifier.2.bias" else None)
    sizes = (anysize.Size(40, 48),)
    proof = prove_rewrite(source, wrong, sizes, training=anysize.Size(32, 32), scores=True)
    assert {cell.verdict for cell in proof.cells} == {"mismatch"}
