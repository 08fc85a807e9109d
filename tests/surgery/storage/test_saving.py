import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from anysize.errors import ModelFileError, UsageError
from anysize.surgery import load_model, rewrite, save_model
from anysize.surgery.storage import saving


def _arrays(path):
    model = onnx.load(path)  # onnx's own reader is the judge
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}


def _same(path, other):
    found, expected = _arrays(path), _arrays(other)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert np.array_equal(found[name], array)


@pytest.fixture
def inline(kit, tmp_path):
    onnx.save(kit.plain(), tmp_path / "inline.onnx")
    return tmp_path / "inline.onnx"


@pytest.fixture
def outside(kit, tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    onnx.save(
        kit.plain(), folder / "m.onnx", save_as_external_data=True, location="w.bin",
        size_threshold=0,
    )  # fmt: skip
    return folder / "m.onnx"


def test_an_inline_model_is_written_in_one_file_byte_for_byte(inline, tmp_path):
    save_model(load_model(inline), tmp_path / "out.onnx", source=inline)
    assert (tmp_path / "out.onnx").read_bytes() == inline.read_bytes()
    assert not (tmp_path / "out.onnx.data").exists()


def test_external_weights_are_copied_beside_the_output(outside, tmp_path):
    save_model(load_model(outside), tmp_path / "out.onnx", source=outside)
    assert (tmp_path / "out.onnx.data").exists()
    _same(tmp_path / "out.onnx", outside)
    load_model(tmp_path / "out.onnx")


def test_rewritten_external_weights_run(kit, outside, tmp_path):
    import onnxruntime

    result = rewrite(load_model(outside), source=outside)
    save_model(result.model, tmp_path / "out.onnx", source=outside)
    session = onnxruntime.InferenceSession(
        tmp_path / "out.onnx", providers=["CPUExecutionProvider"]
    )
    images = kit.images(1, 3, 40, 48)
    expected = kit.run(rewrite(kit.plain()).model, images)[0]
    assert np.array_equal(session.run(None, {"image": images})[0], expected)


def test_an_external_weight_that_must_be_transposed_is_read_from_the_source(kit, tmp_path):
    model = kit.fc("flat = Flatten (fmap) scores = MatMul (flat, w)", {"w": (256, 5)})
    path = tmp_path / "m.onnx"
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    onnx.save(copy, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    with pytest.raises(UsageError, match="say which file"):
        save_model(load_model(path), tmp_path / "x.onnx")
    result = rewrite(load_model(path), source=path)
    save_model(result.model, tmp_path / "out.onnx", source=path)
    images = kit.images(1, 3, 40, 48)
    found = kit.run(onnx.load(tmp_path / "out.onnx"), images)[0]
    assert np.allclose(found, kit.run(rewrite(model).model, images)[0], atol=1e-6)


def test_never_brings_external_weights_in(outside, tmp_path):
    save_model(load_model(outside), tmp_path / "out.onnx", source=outside, external_data="never")
    assert not (tmp_path / "out.onnx.data").exists()
    _same(tmp_path / "out.onnx", outside)


def test_whoever_saves_is_told_where_weights_are_and_of_no_empty_file(inline, tmp_path):
    beside = save_model(load_model(inline), tmp_path / "out.onnx", external_data="always")
    assert beside == ("out.onnx.data",)
    assert save_model(load_model(inline), tmp_path / "out.onnx", external_data="never") == ()
    small = onnx.helper.make_graph([], "small", [], [])
    model = onnx.helper.make_model(small)
    assert save_model(model, tmp_path / "small.onnx", external_data="always") == ()


def test_always_moves_inline_weights_out(inline, tmp_path):
    model = load_model(inline)
    before = model.SerializeToString()
    save_model(model, tmp_path / "out.onnx", external_data="always")
    assert model.SerializeToString() == before
    assert (tmp_path / "out.onnx").stat().st_size < 3000
    _same(tmp_path / "out.onnx", inline)


def test_weights_move_out_by_themselves_above_the_limit(inline, tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "INLINE_LIMIT_BYTES", 4096)
    save_model(load_model(inline), tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx.data").exists()
    _same(tmp_path / "out.onnx", inline)
    with pytest.raises(UsageError, match="expected at most 4096 in one file"):
        save_model(load_model(inline), tmp_path / "never.onnx", external_data="never")
    assert not (tmp_path / "never.onnx").exists()


def test_the_source_itself_can_be_the_output(outside, inline):
    expected = _arrays(outside)
    save_model(load_model(outside), outside, source=outside)
    found = _arrays(outside)
    assert all(np.array_equal(found[name], array) for name, array in expected.items())
    save_model(load_model(outside), outside, source=outside)  # now from m.onnx.data onto itself
    found = _arrays(outside)
    assert all(np.array_equal(found[name], array) for name, array in expected.items())
    before = inline.read_bytes()
    save_model(load_model(inline), inline, source=inline)
    assert inline.read_bytes() == before


def test_weights_that_another_file_needs_are_not_overwritten(kit, tmp_path):
    onnx.save(
        kit.plain(), tmp_path / "a.onnx", save_as_external_data=True, location="b.onnx.data",
        size_threshold=0,
    )  # fmt: skip
    before = (tmp_path / "b.onnx.data").read_bytes()
    with pytest.raises(UsageError, match=r"would overwrite a file that .*a.onnx needs"):
        save_model(load_model(tmp_path / "a.onnx"), tmp_path / "b.onnx", source=tmp_path / "a.onnx")
    assert (tmp_path / "b.onnx.data").read_bytes() == before


def test_a_failure_leaves_the_old_files_and_no_partial_ones(outside, tmp_path):
    model = load_model(outside)
    (tmp_path / "out.onnx").write_bytes(b"old")
    data = outside.with_name("w.bin")
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(ModelFileError, match="cut short"):
        save_model(model, tmp_path / "out.onnx", source=outside)
    assert (tmp_path / "out.onnx").read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.onnx", "source"]


def test_copying_falls_back_where_the_kernel_cannot(outside, tmp_path, monkeypatch):
    def refuse(*_args, **_options):
        raise OSError

    monkeypatch.setattr("os.copy_file_range", refuse)
    save_model(load_model(outside), tmp_path / "out.onnx", source=outside)
    _same(tmp_path / "out.onnx", outside)


def test_tensors_that_share_bytes_share_them_in_the_copy(outside, tmp_path):
    model = load_model(outside)
    twin = model.graph.initializer.add()
    twin.CopyFrom(next(t for t in model.graph.initializer if t.name == "w1"))
    twin.name = "twin"
    save_model(model, tmp_path / "out.onnx", source=outside)
    assert (tmp_path / "out.onnx.data").stat().st_size < outside.with_name(
        "w.bin"
    ).stat().st_size + 999


def test_an_unknown_mode_and_a_missing_folder_are_usage_errors(kit, tmp_path):
    with pytest.raises(UsageError, match="expected auto, always or never"):
        save_model(kit.plain(), tmp_path / "out.onnx", external_data="sometimes")
    with pytest.raises(UsageError, match="does not exist"):
        save_model(kit.plain(), tmp_path / "none" / "out.onnx")
