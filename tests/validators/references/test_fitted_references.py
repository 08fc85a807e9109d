"""The proof of rewrites to adaptive and resize, and of any wrong step in them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from anysize.sizes import Size
from anysize.surgery import load_model, rewrite, save_model
from anysize.validators import Verdict, validate_model
from anysize.validators.proof import prove_rewrite
from anysize.validators.references.composed.pooled import average_to
from anysize.validators.references.composed.resized import interpolate_to

TRAINED, SIZES = Size(8, 8), (Size(17, 22), Size(31, 12), Size(5, 9))
HEADS = ("adaptive", "resize")
RUNTIMES = ("ort-cpu", "onnx-reference")
SIDES = st.integers(1, 33)


@pytest.fixture
def original(tiny):
    return tiny.fc_file(tiny.fc(softmax=True), batch=1, side=8)


def rewritten(original, head, sabotage=None):
    model = rewrite(load_model(original), to=head).model
    if sabotage:
        sabotage(model.graph)
    path = original.with_name(f"{head}.onnx")
    save_model(model, path)
    return path


def edit_constant(reader, position, change):
    """Change the constant that the first such operator of the pooling or resizing reads there."""

    def apply(graph):
        node = next(n for n in graph.node if n.op_type == reader and "ed/" in n.name)
        tensor = next(t for t in graph.initializer if t.name == node.input[position])
        changed = change(numpy_helper.to_array(tensor))
        name = f"{tensor.name}_changed"
        graph.initializer.append(numpy_helper.from_array(changed, name))
        node.input[position] = name

    return apply


def align_corners(graph):
    """Sample at i·(a − 1)/(n − 1): for n = 8 the numerator is i·(a − 1), the denominator 7."""
    counts = {
        t.name: numpy_helper.to_array(t).reshape(-1).tolist()
        for t in graph.initializer
        if "resized" in t.name
    }
    for node in graph.node:
        for position, read in enumerate(node.input):
            if counts.get(read) == [16] and node.op_type in ("Div", "Mul", "Cast"):
                node.input[position] = "seven"
    graph.initializer.append(numpy_helper.from_array(np.array([7], np.int64), "seven"))
    for node in graph.node:
        if node.op_type == "Mul" and counts.get(node.input[0], [0])[:2] == [1, 3]:
            index = np.arange(8, dtype=np.int64)
            if not any(t.name == "places" for t in graph.initializer):
                graph.initializer.append(numpy_helper.from_array(index, "places"))
            node.input[0] = "places"
    for node in graph.node:
        if node.op_type == "Sub" and counts.get(node.input[1]) == [8]:
            node.input[1] = "places"  # i·a − i


SABOTAGES = {
    "adaptive": [
        pytest.param(edit_constant("Mul", 1, lambda i: i + 1), id="bins begin one cell later"),
        pytest.param(edit_constant("Add", 1, lambda r: 0 * r), id="bins end rounded down"),
    ],
    "resize": [
        pytest.param(align_corners, id="align_corners"),
        pytest.param(edit_constant("Sub", 1, lambda n: 0 * n), id="no half-pixel centre"),
        pytest.param(edit_constant("Add", 1, lambda one: 0 * one), id="nearest neighbour"),
    ],
}
WRONG = [
    pytest.param(head, *case.values, id=f"{head}: {case.id}")
    for head, cases in SABOTAGES.items()
    for case in cases
]


@pytest.mark.parametrize("head", HEADS)
def test_the_proof_holds_for_a_right_rewrite(original, head):
    proof = prove_rewrite(original, rewritten(original, head), SIZES)
    assert proof.ok, proof.message
    assert [cell.size for cell in proof.cells] == [TRAINED, TRAINED, *SIZES]
    assert proof.answers == 2 + 2 + (len(SIZES) - 1)  # two images at the first two sizes


@pytest.mark.parametrize(("head", "sabotage"), WRONG)
def test_the_proof_fails_for_a_wrong_rewrite(original, head, sabotage):
    proof = prove_rewrite(original, rewritten(original, head, sabotage), SIZES)
    assert not proof.ok
    assert {cell.verdict for cell in proof.cells if not cell.is_good} == {Verdict.MISMATCH}


@pytest.mark.parametrize("head", HEADS)
def test_validate_uses_the_same_reference(original, head):
    path = rewritten(original, head)
    report = validate_model(path, original, runtimes=RUNTIMES, sizes=(TRAINED, *SIZES))
    assert report.reference.kind == {"adaptive": "pooled", "resize": "resized"}[head]
    assert {cell.verdict for cell in report.cells} == {Verdict.PASS}


@pytest.mark.parametrize(("head", "sabotage"), WRONG)
def test_validate_finds_a_wrong_rewrite(original, head, sabotage):
    path = rewritten(original, head, sabotage)
    report = validate_model(path, original, sizes=SIZES)
    assert Verdict.MISMATCH in {cell.verdict for cell in report.cells}
    assert report.exit_code == 1


@pytest.mark.parametrize("head", HEADS)
def test_a_file_of_the_zoo_is_rewritten_and_proved_against_file_and_module(head, tmp_path):
    import anysize

    fixed, path = tmp_path / "fc.onnx", tmp_path / "any.onnx"
    anysize.export("digits", fixed, head="fc", verify=False)
    done = anysize.rewrite(fixed, path, to=head)
    assert done.proof is not None
    assert done.proof.ok
    assert len(done.proof.cells) == 5
    from anysize.models import resolve

    module = resolve("digits", head="fc").module
    for against in (fixed, module):
        report = anysize.validate(path, against, sizes=[Size(32, 32), Size(45, 70), Size(20, 33)])
        assert report.ok


@given(SIDES, SIDES, st.integers(1, 9), st.integers(1, 9))
def test_the_mean_over_bins_is_pytorchs(height, width, rows, columns):
    x = np.random.default_rng(height * width).standard_normal((1, 2, height, width))
    want = F.adaptive_avg_pool2d(torch.from_numpy(x), (rows, columns)).numpy()
    np.testing.assert_allclose(average_to(x, (rows, columns)), want, rtol=0, atol=1e-13)


@given(SIDES, SIDES, st.integers(1, 33), st.integers(1, 33))
def test_the_resized_image_is_pytorchs(height, width, rows, columns):
    x = np.random.default_rng(height * width).standard_normal((1, 2, height, width))
    want = F.interpolate(torch.from_numpy(x), size=(rows, columns), mode="bilinear").numpy()
    np.testing.assert_allclose(interpolate_to(x, Size(rows, columns)), want, rtol=0, atol=1e-12)
