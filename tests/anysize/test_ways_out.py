"""A message that names a way out names one that the command has, and that leads on."""

from __future__ import annotations

import re
import warnings

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import nn

import anysize
import anysize.validators
from anysize.errors import NotRunError, SourceError
from anysize.sizes import Size
from anysize.validators import RewriteProof, Verdict
from anysize.validators.judging import VERDICTS
from anysize.validators.report import Cell
from anysize.words import WITHOUT_ARBITER


def classifier(path, *, other="", size=16):
    """Conv → ReLU → Flatten → Gemm on images of one size."""
    random = np.random.default_rng(0)
    side = size // 4
    tensors = {
        "w": random.normal(size=(4, 3, 4, 4)),
        "m": random.normal(size=(5, 4 * side * side)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], strides=[4, 4]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Flatten", ["b"], ["c"]),
        helper.make_node("Gemm", ["c", "m"], ["y"], transB=1),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, size, size])]
    if other:
        inputs.append(helper.make_tensor_value_info(other, TensorProto.FLOAT, ["n", 5]))
        nodes[-1].output[0] = "z"
        nodes.append(helper.make_node("Add", ["z", other], ["y"]))
    graph = helper.make_graph(
        nodes,
        "g",
        inputs,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in tensors.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def test_no_verify_is_offered_only_where_it_writes_the_file(run, tmp_path):
    """What the rewrite declines it declines without a proof, too."""
    out = tmp_path / "out.onnx"
    refused = 0
    for other, to in (("facts", "resize"), ("facts", "fcn"), ("facts", "dynamic")):
        path = classifier(tmp_path / "in.onnx", other=other)
        done = run("rewrite", path, "-o", out, "--to", to)
        if done.code == 0:
            continue
        refused += 1
        again = run("rewrite", path, "-o", out, "--to", to, "--verify", "off")
        assert ("--verify off" in done.err) is (again.code == 0), done.err
    assert refused


@pytest.mark.parametrize("error", [SourceError, NotRunError])
def test_rewrite_names_no_option_of_validate(run, tmp_path, monkeypatch, error):
    def fail(*_, **__):
        raise error(f"reference in.onnx: cannot be evaluated in float64{WITHOUT_ARBITER}")

    monkeypatch.setattr(anysize.validators, "prove_rewrite", fail)
    path, out = classifier(tmp_path / "in.onnx"), tmp_path / "out.onnx"
    done = run("rewrite", path, "-o", out)
    assert done.code == 3
    assert "cannot be evaluated in float64" in done.err
    assert "--arbiter" not in done.err
    assert "--verify off writes the file without a proof" in done.err
    assert run("rewrite", path, "-o", out, "--verify", "off").code == 0


class OnlyFloat32(nn.Module):
    """Has no answer in float64, which has to confirm what fills its mask."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, images):
        if images.dtype == torch.float64:
            raise TypeError("float32 alone")
        scores = self.linear(torch.relu(self.conv(images)).mean((2, 3)))
        return nn.functional.pad(scores, (0, 1), value=-1e9)


def test_export_names_no_option_of_validate(run, tmp_path):
    out = tmp_path / "out.onnx"
    words = ("export", f"{__name__}:OnlyFloat32", "--size", "16x16", "-o", out)
    done = run(*words)
    assert done.code == 2
    assert "runs in float32 but not in float64" in done.err
    assert "--arbiter" not in done.err
    assert "--verify off writes the file without a proof" in done.err
    assert run(*words, "--verify", "off").code == 0
    words = ("--reference", f"{__name__}:OnlyFloat32", "--sizes", "16x16")
    assert "give --arbiter none" in run("validate", out, *words).err
    assert run("validate", out, *words, "--arbiter", "none").code == 0


def test_a_proof_that_cannot_be_had_says_where_and_not_how_much_is_equal(
    run, tmp_path, monkeypatch
):
    """Not 'the original itself does not run: 14 answers equal the original's'."""
    cells = (
        Cell("ort-cpu", Size(16, 16), 2, Verdict.PASS),
        Cell("ort-cpu", Size(20, 24), 1, Verdict.REJECTED, "original: Add: 5 by 6"),
    )
    monkeypatch.setattr(
        anysize.validators, "prove_rewrite", lambda *_, **__: RewriteProof(cells, 14)
    )
    path = classifier(tmp_path / "in.onnx")
    done = run("rewrite", path, "-o", tmp_path / "out.onnx")
    assert done.code == 3
    assert "at 20x24 batch 1 the original's own layers do not run: original: Add" in done.err
    assert "14 answers" not in done.err
    assert not (tmp_path / "out.onnx").exists()


def test_a_runtime_that_cannot_load_a_graph_is_not_blamed_on_the_opset_alone():
    advice = VERDICTS[Verdict.UNSUPPORTED].advice
    assert advice.startswith("leave this runtime out")
    assert "where that is an opset" in advice


@pytest.mark.parametrize("verdict", [Verdict.CRASHED, Verdict.TIMEOUT])
def test_the_reference_may_be_meant(verdict):
    assert "reference" in VERDICTS[verdict].text


class Signals(nn.Module):
    """Has one side."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv1d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, signals):
        return self.linear(torch.relu(self.conv(signals)).mean(2))


class Videos(nn.Module):
    """Has three sides."""

    channels = 3

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv3d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, videos):
        return self.linear(torch.relu(self.conv(videos)).mean((2, 3, 4)))


@pytest.mark.parametrize(("name", "layer"), [("Signals", "Conv1d"), ("Videos", "Conv3d")])
def test_a_module_of_signals_or_videos_is_told_that_images_have_two_sides(
    run, tmp_path, name, layer
):
    """Neither another size nor another number of channels would help it."""
    done = run("export", f"{__name__}:{name}", "-o", tmp_path / "out.onnx")
    assert done.code == 2
    assert f"its first convolution is a {layer}" in done.err
    assert "an image has two: (batch, channels, height, width)" in done.err
    assert "--size" not in done.err
    assert "attribute" not in done.err


def spatial(path, sides):
    """Conv → GlobalAveragePool → Flatten → Gemm over so many sides."""
    kernel = numpy_helper.from_array(np.ones((4, 3, *[3] * sides), np.float32), "w")
    matrix = numpy_helper.from_array(np.ones((4, 5), np.float32), "m")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("GlobalAveragePool", ["a"], ["b"]),
        helper.make_node("Flatten", ["b"], ["c"]),
        helper.make_node("Gemm", ["c", "m"], ["y"]),
    ]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, *[8] * sides])
    scores = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])
    graph = helper.make_graph(nodes, "g", [image], [scores], [kernel, matrix])
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


@pytest.mark.parametrize("sides", [1, 3], ids=["signals", "videos"])
@pytest.mark.parametrize("verb", ["inspect", "rewrite", "validate"])
def test_a_file_of_signals_or_videos_is_told_that_images_have_two_sides(run, tmp_path, verb, sides):
    path = spatial(tmp_path / "in.onnx", sides)
    more = {"rewrite": ["-o", tmp_path / "out.onnx"], "validate": ["--reference", path]}
    done = run(verb, path, *more.get(verb, ()))
    assert done.code == 2
    (line,) = done.errors
    shape = "(n, 3, 8)" if sides == 1 else "(n, 3, 8, 8, 8)"
    assert f"got 'x' {shape}, expected an image, which has two sides" in line
    assert "--size" not in line


class Grey(nn.Module):
    """Three channels are made of one."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, images):
        return self.linear(torch.relu(self.conv(images.repeat(1, 3, 1, 1))).mean((2, 3)))


class Plain(nn.Module):
    """Has no convolution that would tell."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 5)

    def forward(self, images):
        return self.linear(images.mean((2, 3)))


def channels_of(module, channels):
    module.channels = channels
    return module


def grey_of_one():
    return channels_of(Grey(), 1)


def grey_of_three():
    return channels_of(Grey(), 3)


def plain_of_four():
    return channels_of(Plain(), 4)


@pytest.mark.parametrize(("before", "after"), [("Grey", "grey_of_one"), ("Plain", "plain_of_four")])
def test_channels_are_asked_for_where_they_lead_on(run, tmp_path, before, after):
    words = ("--size", "16x16", "--no-verify", "-o", tmp_path / "out.onnx")
    done = run("export", f"{__name__}:{before}", *words)
    assert done.code == 2
    assert "attribute `channels`" in done.err
    assert "--size HEIGHTxWIDTH" not in done.err
    assert run("export", f"{__name__}:{after}", *words).code == 0


def test_channels_that_the_module_has_are_not_asked_for_again(run, tmp_path):
    words = ("--size", "16x16", "-o", tmp_path / "out.onnx")
    done = run("export", f"{__name__}:grey_of_three", *words)
    assert done.code == 2
    assert "its attribute `channels` says that its images have 3" in done.err
    assert "give" not in done.err


class Fixed(nn.Module):
    """Takes 16×16 alone."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4 * 14 * 14, 5)

    def forward(self, images):
        return self.linear(torch.relu(self.conv(images)).flatten(1))


def test_another_size_is_offered_where_it_leads_on(run, tmp_path):
    words = ("export", f"{__name__}:Fixed", "--no-verify", "-o", tmp_path / "out.onnx")
    done = run(*words)
    assert done.code == 2
    assert "if it was trained at another size, give --size HEIGHTxWIDTH" in done.err
    assert "attribute" not in done.err
    assert run(*words, "--size", "16x16").code == 0


def test_the_bounds_that_are_named_are_taken(run, tmp_path):
    words = ("export", "lenet", "--head", "gap", "--no-verify", "-o", tmp_path / "out.onnx")
    done = run(*words, "--min-size", "2x2")
    assert done.code == 2
    (named,) = re.findall(r"give (--min-size \S+) or more", done.err)
    assert run(*words, *named.split()).code == 0


@pytest.mark.parametrize(
    "words",
    [
        "reference x: out of memory at [2, 3]; give smaller --sizes or --batches (bad_alloc)",
        "reference x: takes one image; give --batches 1",
        "reference x: cannot be followed; give --reference ORIGINAL.onnx",
        "input 'i': is int64; give arrays with --inputs FILE.npz",
        f"reference x: runs not in float64{WITHOUT_ARBITER}",
    ],
    ids=["sizes", "batch", "reference", "inputs", "arbiter"],
)
@pytest.mark.parametrize("verb", ["export", "rewrite", "rewrite against a module"])
def test_a_proof_names_no_way_out_that_only_validate_has(run, tmp_path, monkeypatch, verb, words):
    def fail(*_, **__):
        raise SourceError(words)

    monkeypatch.setattr(anysize.validators, "prove_rewrite", fail)
    monkeypatch.setattr(anysize.validators, "validate_model", fail)
    path, out = classifier(tmp_path / "in.onnx"), tmp_path / "out.onnx"
    if verb == "export":
        done = run("export", f"{__name__}:Fixed", "--size", "16x16", "-o", out)
    else:
        against = () if verb == "rewrite" else ("--reference", f"{__name__}:Fixed")
        done = run("rewrite", path, "-o", out, *against)
    assert done.code in (2, 3)
    assert words.partition(";")[0] in done.err
    assert not re.search("--(arbiter|batch|inputs|reference|sizes)", done.err)


def net(*layers):
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), *layers).eval()


HEADS = {
    "fc": net(nn.Flatten(), nn.Linear(8 * 49, 6), nn.ReLU(), nn.Linear(6, 5)),
    "gap": net(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)),
    "window": net(nn.AvgPool2d(7), nn.Flatten(), nn.Linear(8, 5)),
    "nin": net(nn.Conv2d(8, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    "map": net(nn.Conv2d(8, 5, 1)),
    "norm": net(nn.Flatten(), nn.LayerNorm(8 * 49), nn.Linear(8 * 49, 5)),
    "softmax": net(nn.Flatten(), nn.Linear(8 * 49, 5), nn.Softmax(1)),
    "sum": net(nn.Flatten(), nn.Softmax(1), nn.Linear(8 * 49, 5)),
}


def exported(module, path):
    """Write it as PyTorch does, at one size."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.zeros(1, 3, 16, 16),), path, dynamo=False)


@pytest.mark.parametrize("name", HEADS)
def test_the_target_that_a_refusal_names_is_one_that_is_written(run, tmp_path, name):
    path, out = tmp_path / "in.onnx", tmp_path / "out.onnx"
    exported(HEADS[name], path)
    for to in ("auto", "fcn", "cam", "gap", "adaptive", "resize", "dynamic"):
        done = run("rewrite", path, "-o", out, "--to", to, "--no-verify")
        if done.code == 0:
            continue
        (listed,) = re.findall(r"--to ([\w, ]+)", done.errors[-1])[:1] or ("",)
        for way in re.findall(r"\b(?:fcn|cam|gap|adaptive|resize|dynamic)\b", listed):
            again = run("rewrite", path, "-o", out, "--to", way, "--no-verify")
            assert again.code == 0, (to, way, done.errors, again.errors)


@pytest.mark.parametrize("name", HEADS)
def test_the_rewrites_that_inspect_recommends_are_written(run, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    exported(HEADS[name], "in.onnx")
    lines = anysize.inspect("in.onnx").advice
    assert lines[-1] == "anysize validate in.onnx --reference SOURCE"
    for line in lines[:-1]:
        assert line.startswith("anysize rewrite in.onnx "), line
        done = run(*line.split()[1:], "--no-verify")
        assert done.code == 0, (line, done.err)


def test_the_verbs_that_a_file_without_a_map_is_sent_to_give_it_one(run, tmp_path):
    path, out = tmp_path / "in.onnx", tmp_path / "out.onnx"
    image = tmp_path / "image.png"
    Image.new("RGB", (20, 20)).save(image)
    exported(HEADS["fc"], path)
    done = run("heatmap", path, image, "-o", tmp_path / "map.png")
    assert done.code == 2
    assert f"write one that does: anysize rewrite {path} --to fcn -o map.onnx" in done.err
    assert run("rewrite", path, "--to", "fcn", "-o", out, "--no-verify").code == 0
    assert run("heatmap", out, image, "-o", tmp_path / "map.png").code == 0
    words = ("export", f"{__name__}:fc_of_16", "--size", "16x16", "--head", "fcn", "-o", out)
    assert run(*words, "--no-verify").code == 0
    assert run("heatmap", out, image, "-o", tmp_path / "map.png").code == 0


def fc_of_16():
    return HEADS["fc"]


def norm_of_16():
    return HEADS["norm"]


def gap_of_16():
    return HEADS["gap"]


@pytest.mark.parametrize(
    ("source", "head"),
    [("norm_of_16", "fcn"), ("norm_of_16", "cam"), ("gap_of_16", "fcn"), ("gap_of_16", "adaptive")],
)
def test_an_export_names_heads_that_it_has_and_that_lead_on(run, tmp_path, source, head):
    """The words of a rewrite, which says `--to`, are not an export's."""
    words = ("export", f"{__name__}:{source}", "--size", "16x16", "--no-verify")
    words = (*words, "-o", tmp_path / "out.onnx")
    done = run(*words, "--head", head)
    assert not re.search("--(to|keep|reference)", done.err)
    named = re.findall(r"--head ([\w-]+)(?:, or (\w+))?", done.errors[-1]) if done.code else []
    for way in {way for found in named for way in found} - {head, ""}:
        again = run(*words, "--head", way)
        assert again.code == 0, (done.err, way, again.err)
    assert named or done.code == 0


def test_the_head_that_a_note_offers_for_any_size_is_exported(run, tmp_path):
    path, out = tmp_path / "fixed.onnx", tmp_path / "out.onnx"
    words = ("export", f"{__name__}:Fixed", "--size", "16x16", "--no-verify")
    done = run(*words, "-o", path)
    assert "For any size: --head fcn, or anysize rewrite --to fcn" in done.err
    assert run(*words, "--head", "fcn", "-o", out).code == 0
    assert run("rewrite", path, "--to", "fcn", "-o", out, "--no-verify").code == 0
    done = run("export", "lenet", "--head", "fc", "--no-verify", "-o", path)
    (heads,) = re.findall("For any size: --head ([a-z, ]+)", done.err)
    for head in heads.strip().split(", "):
        assert run("export", "lenet", "--head", head, "--no-verify", "-o", out).code == 0
