"""`anysize export`: every head, proved before it appears, whole or not at all."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest

from anysize.surgery import load_model, read_metadata

ANY_SIZE = ("fcn", "gap", "cam", "spp", "adaptive", "resize")


@pytest.mark.parametrize("head", ["fc", *ANY_SIZE])
def test_every_head_is_exported_and_validates(head, run, tmp_path):
    path = tmp_path / "lenet.onnx"
    done = run("export", "lenet", "--head", head, "-o", path)
    assert (done.code, done.errors) == (0, [])
    assert f"head {head}, " in done.out
    assert "verified on ort-cpu" in done.out
    onnx.checker.check_model(path, full_check=True)
    assert [p.name for p in tmp_path.iterdir()] == ["lenet.onnx"]

    done = run("validate", path, "--sizes", "32x32,35x33,64x48", "--json", "-")
    assert done.code == 0
    verdicts = {cell["size"]: cell["verdict"] for cell in json.loads(done.out)["cells"]}
    outside = "rejected" if head == "fc" else "pass"
    assert verdicts == {"32x32": "pass", "35x33": "pass", "64x48": outside}


def test_axes_are_named_and_metadata_recorded(digits_files):
    model = load_model(digits_files["fcn"])
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 1, "height", "width"]
    metadata = read_metadata(model)
    assert (metadata.model, metadata.head, metadata.classes) == ("digits", "fcn", 11)
    assert metadata.weights_sha256 is not None
    assert metadata.map_stride == (4, 4)


def test_an_fc_export_says_its_interval_and_the_heads_for_any_size(run, tmp_path):
    done = run("export", "lenet", "--head", "fc", "-o", tmp_path / "fc.onnx", "--no-verify")
    assert done.code == 0
    assert "takes only 32x32 to 35x35" in done.err
    assert "--head fcn, gap, cam, spp, roi, adaptive, resize" in done.err
    assert "not verified" in done.out


def test_weights_may_lie_beside_the_file(run, tmp_path):
    path = tmp_path / "lenet.onnx"
    assert run("export", "lenet", "-o", path, "--external-data", "always").code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lenet.onnx", "lenet.onnx.data"]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"input": np.zeros((2, 1, 32, 32), np.float32)})
    assert logits.shape == (2, 10)


def test_a_wrong_export_is_not_written(run, tmp_path, monkeypatch):
    from anysize import surgery
    from anysize.surgery import save_model

    def sabotaged(model, path, **options):
        tensor = next(t for t in model.graph.initializer if len(t.dims) == 4)
        values = onnx.numpy_helper.to_array(tensor) * np.float32(1.01)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        save_model(model, path, **options)

    monkeypatch.setattr(surgery, "save_model", sabotaged)
    done = run("export", "lenet", "-o", tmp_path / "lenet.onnx")
    assert done.code == 1
    assert "the exported graph is wrong and was not written" in done.errors[0]
    assert "mismatch" in done.errors[0]
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_exported_and_must_be_given_again_to_validate(run, tmp_path):
    from safetensors.torch import save_file

    from anysize.models import build

    weights, path = tmp_path / "lenet.safetensors", tmp_path / "lenet.onnx"
    save_file(build("lenet", head="fc", seed=7).state_dict(), weights)
    options = ("--head", "fcn", "--weights", weights, "--no-verify")
    assert run("export", "lenet", "-o", path, *options).code == 0

    sizes = ("--sizes", "32x32,40x36")
    assert run("validate", path, "--weights", weights, *sizes).code == 0
    done = run("validate", path, *sizes)
    assert done.code == 2
    assert "give that file with --weights" in done.errors[0]
    other = tmp_path / "other.safetensors"
    save_file(build("lenet", head="fc", seed=8).state_dict(), other)
    done = run("validate", path, "--weights", other, *sizes)
    assert done.code == 2
    assert "SHA-256" in done.errors[0]


def test_a_module_that_prints_does_not_soil_stdout(run, small_folder, tmp_path, monkeypatch):
    noisy = (small_folder / "small_net.py").read_text() + (
        "\nimport os\nprint('noise')\nos.system('echo noise of a child')\n"
    )
    (tmp_path / "noisy_net.py").write_text(noisy)
    monkeypatch.chdir(tmp_path)
    done = run("export", "noisy_net:make", "-o", "net.onnx", "--size", "32x32", "--no-verify")
    assert done.code == 0
    assert len(done.out.splitlines()) == 1
    assert "noise" in done.err
    words = ("--reference", "noisy_net:make", "--sizes", "32x32,30x31", "--json", "-")
    done = run("validate", "net.onnx", *words)
    assert done.code == 0
    assert json.loads(done.out)["reference"]["name"] == "noisy_net:make"


def test_export_takes_a_module_as_well(tmp_path):
    from torch import nn

    import anysize

    module = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ).eval()
    done = anysize.export(module, tmp_path / "net.onnx", size="20x24")
    assert done.report is not None
    assert done.report.ok
    assert str(done.sizes) == "3x3 and up"
    with pytest.raises(anysize.AnysizeError, match="training mode"):
        anysize.export(module.train(), tmp_path / "net.onnx", size="20x24")
