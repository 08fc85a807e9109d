import os
import random
import shutil

import numpy as np
import onnx
import onnx.external_data_helper
import pytest

from anysize.errors import AnysizeError, ModelFileError
from anysize.surgery import load_model, rewrite
from anysize.surgery.storage.weightless import check


@pytest.fixture
def model_path(kit, tmp_path):
    path = tmp_path / "in.onnx"
    onnx.save(kit.plain(), path)
    return path


@pytest.fixture
def external_path(kit, tmp_path):
    path = tmp_path / "outside.onnx"
    onnx.save(
        kit.plain(), path, save_as_external_data=True, location="weights.bin", size_threshold=64
    )
    return path


def _refused(path, words):
    with pytest.raises(ModelFileError) as caught:
        load_model(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert words in message
    assert "\n" not in message


def test_a_valid_file_loads_unchanged(kit, model_path):
    assert load_model(model_path) == kit.plain()


def test_external_data_is_checked_and_not_loaded(external_path):
    model = load_model(str(external_path))
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "w1")
    assert tensor.data_location == onnx.TensorProto.EXTERNAL
    assert not tensor.raw_data


def test_a_missing_file_is_refused(tmp_path):
    _refused(tmp_path / "none.onnx", "No such file")


def test_a_folder_is_refused(tmp_path):
    _refused(tmp_path, "is a folder, expected an ONNX file")


def test_a_fifo_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    _refused(tmp_path / "pipe.onnx", "is no regular file")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.onnx").write_bytes(b"")
    _refused(tmp_path / "empty.onnx", "is empty")


def test_a_file_beyond_protobuf_s_limit_is_refused_unread(tmp_path):
    with (tmp_path / "big.onnx").open("wb") as stream:
        stream.truncate(1 << 31)  # a hole: nothing is written
    _refused(tmp_path / "big.onnx", "expected at most 2147483647")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(model_path, share):
    data = model_path.read_bytes()
    model_path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelFileError):
        load_model(model_path)


@pytest.mark.parametrize("seed", range(8))
def test_random_bytes_are_refused(tmp_path, seed):
    path = tmp_path / "noise.onnx"
    path.write_bytes(random.Random(seed).randbytes(2000))
    with pytest.raises(ModelFileError):
        load_model(path)


@pytest.mark.parametrize("seed", range(60))
def test_a_mutated_file_loads_or_is_refused_in_one_line(model_path, seed):
    data = bytearray(model_path.read_bytes())
    rng = random.Random(seed)
    for _ in range(rng.randint(1, 6)):
        data[rng.randrange(min(len(data), 900))] = rng.randrange(256)
    model_path.write_bytes(bytes(data))
    try:
        load_model(model_path)
    except ModelFileError as exc:
        message = str(exc)
    else:
        message = ""
    assert "\n" not in message


@pytest.mark.parametrize("seed", range(100, 140))
def test_a_mutated_file_is_rewritten_or_declined_in_one_line(model_path, seed):
    data = bytearray(model_path.read_bytes())
    rng = random.Random(seed)
    data[rng.randrange(900)] = rng.randrange(256)
    model_path.write_bytes(bytes(data))
    try:
        check(rewrite(load_model(model_path)).model)
    except AnysizeError as exc:
        message = str(exc)
    else:
        message = ""
    assert "\n" not in message


def _changed(model_path, change):
    model = onnx.load(model_path)
    change(model)
    model_path.write_bytes(model.SerializeToString())
    return model_path


def _ir_from_the_future(model):
    model.ir_version = onnx.IR_VERSION + 1


def _opset_from_the_future(model):
    model.opset_import[0].version = 999


def _no_opset(model):
    del model.opset_import[:]


def _no_graph(model):
    model.ClearField("graph")


def _cycle(model):
    model.graph.node[0].input[0] = "scores"


def _duplicate_name(model):
    model.graph.node[1].output[0] = "conv"


def _unknown_operator(model):
    model.graph.node[1].op_type = "Reluu"


def _missing_tensor(model):
    model.graph.node[1].input[0] = "nobody"


def _wrong_dims(model):
    model.graph.initializer[0].dims[0] = 5


def _negative_dims(model):
    model.graph.initializer[0].dims[0] = -1


def _unknown_type(model):
    model.graph.initializer[0].data_type = 99


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_ir_from_the_future, "IR version"),
        (_opset_from_the_future, "opset 999, expected 1 to"),
        (_no_opset, "names no ONNX opset"),
        (_no_graph, "holds no ONNX graph"),
        (_cycle, "not a valid ONNX graph"),
        (_duplicate_name, "not a valid ONNX graph"),
        (_unknown_operator, "Reluu"),
        (_missing_tensor, "nobody"),
        (_wrong_dims, "tensor 'conv_w': holds 432 bytes, expected 540"),
        (_negative_dims, "are negative"),
        (_unknown_type, "data type 99"),
    ],
)
def test_an_invalid_graph_is_refused(model_path, change, words):
    _refused(_changed(model_path, change), words)


def _with_entry(path, key, value):
    model = onnx.load(path, load_external_data=False)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "w1")
    for entry in tensor.external_data:
        if entry.key == key:
            entry.value = value
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("../weights.bin", "leaves the model's folder"),
        ("sub/../../weights.bin", "leaves the model's folder"),
        ("/etc/passwd", "leaves the model's folder"),
        ("..\\weights.bin", "leaves the model's folder"),
        ("absent.bin", "is not beside the model"),
        ("", "expected a file name"),
        (".", "expected a file name"),
        ("weights.bin/deeper", "is not beside the model"),
        ("x" * 5000, "is not beside the model"),
    ],
    ids=["up", "down-and-up", "absolute", "backslash", "absent", "empty", "dot", "in-file", "long"],
)
def test_external_data_outside_the_folder_is_refused(external_path, location, words):
    _refused(_with_entry(external_path, "location", location), words)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("length", "99999999", "the file is cut short"),
        ("offset", "99999999", "the file is cut short"),
        ("length", "4", "holds 4 bytes, expected 16384"),
        ("length", "-4", "expected a whole number of bytes"),
        ("offset", "9" * 40, "expected a whole number of bytes"),
    ],
)
def test_external_ranges_that_do_not_fit_are_refused(external_path, key, value, words):
    _refused(_with_entry(external_path, key, value), words)


def test_external_data_behind_a_symbolic_link_is_refused(external_path, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "weights.bin").rename(elsewhere / "weights.bin")
    (tmp_path / "weights.bin").symlink_to(elsewhere / "weights.bin")
    _refused(external_path, "passes through a symbolic link")


def test_external_data_in_a_linked_folder_is_refused(external_path, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(tmp_path / "weights.bin", tmp_path / "elsewhere" / "weights.bin")
    (tmp_path / "folder").symlink_to(tmp_path / "elsewhere")
    _refused(
        _with_entry(external_path, "location", "folder/weights.bin"),
        "passes through a symbolic link",
    )


def test_hard_linked_external_data_is_refused(external_path, tmp_path):
    os.link(tmp_path / "weights.bin", tmp_path / "second.bin")
    _refused(external_path, "is a hard link")


def test_external_data_that_is_a_fifo_is_refused(external_path, tmp_path):
    (tmp_path / "weights.bin").unlink()
    os.mkfifo(tmp_path / "weights.bin")
    _refused(external_path, "is no regular file")


def test_external_data_cut_short_is_refused(external_path, tmp_path):
    data = (tmp_path / "weights.bin").read_bytes()
    (tmp_path / "weights.bin").write_bytes(data[: len(data) // 2])
    _refused(external_path, "the file is cut short")


def test_typed_data_without_raw_bytes_loads(kit, tmp_path):
    model = kit.plain()
    tensor = model.graph.initializer[1]
    values = np.frombuffer(tensor.raw_data, np.float32).tolist()
    tensor.ClearField("raw_data")
    tensor.float_data.extend(values)
    onnx.save(model, tmp_path / "typed.onnx")
    assert load_model(tmp_path / "typed.onnx") == model
