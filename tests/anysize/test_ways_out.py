"""A message that names a way out names one that the command has, and that leads on."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

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
    """Has no answer in float64."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, images):
        if images.dtype == torch.float64:
            raise TypeError("float32 alone")
        return self.linear(torch.relu(self.conv(images)).mean((2, 3)))


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
