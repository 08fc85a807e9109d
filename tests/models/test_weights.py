import pickle
import zipfile

import pytest
import safetensors.torch
import torch

from anysize.errors import WeightsError
from anysize.models import build, load_weights


@pytest.fixture
def checkpoint():
    return build("lenet", seed=9).state_dict()


def save(path, tensors):
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path


def refusal(path, **arguments):
    with pytest.raises(WeightsError) as caught:
        build("lenet", weights=path, **arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("head", ["fc", "fcn", "adaptive", "resize"])
def test_fc_checkpoint_loads_into_every_head_of_the_same_bytes(tmp_path, checkpoint, head, suffix):
    module = build("lenet", head=head, weights=save(tmp_path / f"lenet{suffix}", checkpoint))
    for key, tensor in module.state_dict().items():
        assert torch.equal(tensor.flatten(), checkpoint[key].flatten())


def test_gap_checkpoint_loads_into_cam(tmp_path):
    gap = build("resnet18", classes=3, seed=2)
    path = save(tmp_path / "gap.pth", gap.state_dict())
    cam = build("resnet18", head="cam", weights=path)
    x = torch.rand(1, 3, 64, 80)
    with torch.no_grad():
        torch.testing.assert_close(cam(x)[0], gap(x))


def test_classes_come_from_the_checkpoints_last_layer(tmp_path):
    path = save(tmp_path / "ten.safetensors", build("lenet", classes=4).state_dict())
    assert build("lenet", weights=path).classes == 4
    message = refusal(path, classes=7)
    assert "classifier.4.weight got (4, 84), expected (7, 84)" in message


def test_fine_tuned_fc_checkpoint_does_not_pass_for_a_gap_head(tmp_path, checkpoint):
    message = refusal(save(tmp_path / "fc.pth", checkpoint), head="gap")
    assert "classifier.0.weight" in message


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_wrapped_and_prefixed_state_dict_loads(tmp_path, checkpoint, wrapper):
    parallel = {f"module.{key}": tensor for key, tensor in checkpoint.items()}
    path = save(tmp_path / "wrapped.pth", {"epoch": 3, wrapper: parallel})
    module = build("lenet", weights=path)
    assert torch.equal(module.state_dict()["features.0.bias"], checkpoint["features.0.bias"])


def test_legacy_torch_file_loads(tmp_path, checkpoint):
    path = tmp_path / "old.pth"
    torch.save(checkpoint, path, _use_new_zipfile_serialization=False)
    assert build("lenet", weights=path).classes == 10


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_other_floating_types_become_float32(tmp_path, checkpoint, dtype):
    converted = {key: tensor.to(dtype) for key, tensor in checkpoint.items()}
    module = build("lenet", weights=save(tmp_path / "half.safetensors", converted))
    for key, tensor in module.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, converted[key].float())


def test_batch_norm_counter_may_be_missing(tmp_path):
    tensors = build("resnet18", classes=2).state_dict()
    kept = {key: value for key, value in tensors.items() if "num_batches" not in key}
    assert build("resnet18", weights=save(tmp_path / "r.safetensors", kept)).classes == 2


def test_load_weights_serves_any_module(tmp_path):
    module = torch.nn.Linear(3, 2)
    weights = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
    load_weights(module, save(tmp_path / "linear.safetensors", weights))
    assert module(torch.ones(1, 3)).tolist() == [[3.0, 3.0]]


def test_first_problems_are_named_and_the_rest_counted(tmp_path, checkpoint):
    renamed = {f"net.{key}": tensor for key, tensor in checkpoint.items()}
    message = refusal(save(tmp_path / "renamed.pth", renamed))
    assert "features.0.weight is missing, expected (6, 1, 5, 5)" in message
    assert message.endswith("; and 17 more")


def test_unexpected_key_is_named(tmp_path, checkpoint):
    checkpoint["extra.weight"] = torch.zeros(2)
    message = refusal(save(tmp_path / "extra.pth", checkpoint))
    assert message.endswith("do not fit: extra.weight (2) is unexpected")


def test_hostile_key_stays_on_one_short_line(tmp_path, checkpoint):
    checkpoint["a\n\x1b[31m" + 5000 * "b"] = torch.zeros(2)
    assert len(refusal(save(tmp_path / "key.pth", checkpoint))) < 600


def test_misshapen_weight_is_named_with_got_and_expected(tmp_path, checkpoint):
    checkpoint["features.3.weight"] = torch.zeros(16, 3, 5, 5)
    message = refusal(save(tmp_path / "shape.pth", checkpoint))
    assert "features.3.weight got (16, 3, 5, 5), expected (16, 6, 5, 5)" in message


def test_map_that_the_checkpoint_was_trained_on_is_named(tmp_path, checkpoint):
    checkpoint["classifier.0.weight"] = torch.zeros(120, 16 * 36)
    message = refusal(save(tmp_path / "larger.pth", checkpoint), head="fcn")
    assert "trained on a 6x6 map" in message


def test_refused_checkpoint_leaves_the_module_as_it_was(tmp_path, checkpoint):
    module = build("lenet", seed=1)
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    del checkpoint["classifier.4.bias"]
    with pytest.raises(WeightsError, match=r"classifier\.4\.bias is missing"):
        load_weights(module, save(tmp_path / "short.pth", checkpoint))
    assert all(torch.equal(tensor, before[key]) for key, tensor in module.state_dict().items())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(6, dtype=torch.int64), "features.0.bias is int64, expected floating-point"),
        (torch.full((6,), float("nan")), "features.0.bias holds NaN"),
        (torch.tensor([1.0, 2, 3, 4, 5, float("inf")]), "features.0.bias holds NaN or infinite"),
        (torch.zeros(6).to_sparse(), "features.0.bias is not a plain dense tensor"),
        (torch.zeros(6, device="meta"), "features.0.bias is not a plain dense tensor"),
        (torch.zeros(1).expand(10**12), "features.0.bias got (1000000000000), expected (6)"),
    ],
    ids=["integers", "nan", "inf", "sparse", "meta", "expanded"],
)
def test_tensor_that_cannot_be_weights_is_named(tmp_path, checkpoint, value, message):
    checkpoint["features.0.bias"] = value
    assert message in refusal(save(tmp_path / "odd.pth", checkpoint))


def test_missing_file_folder_and_empty_file_are_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "none.pth")
    assert "is a folder" in refusal(tmp_path)
    (tmp_path / "empty.pth").touch()
    assert "neither safetensors nor a torch file" in refusal(tmp_path / "empty.pth")


def test_something_else_is_refused(tmp_path):
    (tmp_path / "x.pth").write_text("hello, I am a text")
    assert "neither safetensors nor a torch file" in refusal(tmp_path / "x.pth")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.txt", "hello")
    assert "damaged torch file" in refusal(tmp_path / "x.zip")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.99])
def test_truncated_file_is_refused(tmp_path, checkpoint, suffix, share):
    path = save(tmp_path / f"cut{suffix}", checkpoint)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refusal(path)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("way", ["zip", "legacy", "bare"])
def test_pickle_that_runs_code_is_refused_and_runs_nothing(tmp_path, checkpoint, way):
    path, witness = tmp_path / "bomb.pth", tmp_path / "witness"
    content = {**checkpoint, "features.0.bias": Bomb(witness)}
    if way == "bare":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=way == "zip")
    assert "more than tensors" in refusal(path)
    assert not witness.exists()


def test_the_bomb_would_go_off_elsewhere(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "witness"))).close()
    assert (tmp_path / "witness").exists()


def test_compressed_archive_is_refused_before_it_unpacks(tmp_path, checkpoint):
    plain, bomb = save(tmp_path / "plain.pth", checkpoint), tmp_path / "zip.pth"
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(bomb, "w") as target:
        for name in source.namelist():
            content = source.read(name) if name.endswith(".pkl") else bytes(10**7)
            target.writestr(name, content, zipfile.ZIP_DEFLATED)
    assert "torch files are not compressed" in refusal(bomb)


@pytest.mark.parametrize(
    ("content", "message"),
    [([1, 2], "got list"), ({}, "got nothing"), ({"a": 3}, "'a' is a int"), (torch.ones(2), "got")],
    ids=["list", "empty", "number", "tensor"],
)
def test_file_without_a_state_dict_is_refused(tmp_path, content, message):
    assert message in refusal(save(tmp_path / "odd.pth", content))


def test_whole_module_is_refused_with_the_way_out(tmp_path):
    path = tmp_path / "module.pth"
    torch.save(build("lenet"), path)
    assert "save module.state_dict()" in refusal(path)


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model", "net", "ema"])
def test_the_entry_that_weights_are_taken_from_is_named(tmp_path, checkpoint, wrapper):
    path = save(tmp_path / "w.pth", {"epoch": 3, wrapper: checkpoint, "optimizer": {"lr": 1}})
    module = build("lenet")
    assert load_weights(module, path) == (f"weights {path}: taken from its entry [{wrapper!r}]",)
    assert torch.equal(module.state_dict()["features.0.bias"], checkpoint["features.0.bias"])


def test_an_average_is_never_taken_in_silence_nor_left_in_silence(tmp_path, checkpoint):
    average = {key: tensor + 1 for key, tensor in checkpoint.items()}
    path = save(tmp_path / "w.pth", {"ema": average, "model": {"state_dict": checkpoint}})
    module = build("lenet")
    (note,) = load_weights(module, path)
    assert note.endswith(
        "entry ['model']['state_dict']; 'ema' has other weights, which are not used"
    )
    assert torch.equal(module.state_dict()["features.0.bias"], checkpoint["features.0.bias"])


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "_orig_mod.", "_orig_mod.module.", "model._orig_mod."]
)
def test_what_wrappers_put_before_every_key_is_taken_off(tmp_path, checkpoint, prefix):
    prefixed = {f"{prefix}{key}": tensor for key, tensor in checkpoint.items()}
    module = build("lenet", weights=save(tmp_path / "w.safetensors", prefixed))
    assert torch.equal(module.state_dict()["features.0.bias"], checkpoint["features.0.bias"])


def test_a_prefix_that_the_module_has_itself_stays(tmp_path):
    module = torch.nn.Sequential()
    module.add_module("module", torch.nn.Linear(2, 1))
    weights = {"module.weight": torch.ones(1, 2), "module.bias": torch.zeros(1)}
    load_weights(module, save(tmp_path / "w.safetensors", weights))
    assert module(torch.ones(1, 2)).item() == 2.0
