"""Heads × opsets × sizes on one runtime: what `tox -e parity-…` proves."""

from __future__ import annotations

import pytest
from exported import exported
from findings import complaints, find

import anysize
from anysize.exporters.opset_range import DEFAULT_OPSET, NEWEST_OPSET, OLDEST_OPSET
from anysize.models import ZOO
from anysize.sizes import Size
from anysize.validators import Verdict

# Networks small enough for a runtime that is written in Python, one at each end of the opsets; the
# large ones are written at the default opset.
OPSETS = {"digits": OLDEST_OPSET, "lenet": NEWEST_OPSET}
NETWORKS = tuple(OPSETS)
HEADS = [(name, head) for name in NETWORKS for head in ZOO[name].heads]
LARGE = [("resnet18", "cam"), ("resnet18", "spp"), ("nin", "gap")]


def verdicts_beside_findings(report, name, head):
    """The verdicts of the cells that no finding covers; those it covers are as it says."""
    found = complaints(report, name, head)
    assert not found, "\n".join(found)
    return {cell.verdict for cell in report.cells if find(cell, report, name, head) is None}


def file(name, head):
    # The operators of regions exist at few opsets.
    opset = DEFAULT_OPSET if head == "roi" else OPSETS.get(name, DEFAULT_OPSET)
    return exported(f"{name}-{head}", lambda: name, head=head, opset=opset)


@pytest.mark.parametrize(("name", "head"), HEADS, ids=map("-".join, HEADS))
def test_a_head_passes_at_the_sizes_of_auto(runtime, recorded, name, head):
    report = anysize.validate(file(name, head), runtimes=runtime, sizes="auto")
    recorded(report, f"{name}/{head}")
    verdicts = verdicts_beside_findings(report, name, head)
    if any(find(cell, report, name, head) for cell in report.cells):
        assert verdicts <= {Verdict.PASS, Verdict.REJECTED}
        return
    assert report.ok
    takes_all = head == "resize"
    assert verdicts == ({Verdict.PASS} if takes_all else {Verdict.PASS, Verdict.REJECTED})


@pytest.mark.slow
@pytest.mark.parametrize(("name", "head"), LARGE, ids=map("-".join, LARGE))
def test_a_large_network_passes_at_its_size_and_at_another(runtime, recorded, name, head):
    if runtime == "onnx-reference" and (name, head) != ("resnet18", "cam"):
        pytest.skip("takes minutes on an evaluator written in Python")
    sizes = [Size(97, 128), ZOO[name].training_size]
    report = anysize.validate(file(name, head), runtimes=runtime, sizes=sizes, batches=(1,))
    recorded(report, f"{name}/{head}")
    assert verdicts_beside_findings(report, name, head) == {Verdict.PASS}
    assert report.ok


@pytest.mark.parametrize("name", NETWORKS)
def test_a_rewritten_file_equals_the_original_layers_on_every_window(
    runtime, recorded, name, tmp_path
):
    original = file(name, "fc")
    rewritten = tmp_path / "any.onnx"
    anysize.rewrite(original, rewritten)
    report = anysize.validate(rewritten, original, runtimes=runtime, sizes="auto")
    recorded(report, f"{name}/rewritten")
    verdicts_beside_findings(report, name, "fcn")
    assert report.ok
    assert report.reference.kind == "windows"


def test_a_file_of_another_head_is_red(runtime):
    """The matrix can fail: digits with its gap head is not digits with its spp head."""
    wrong = anysize.validate(
        file("digits", "gap"), file("digits", "spp"), runtimes=runtime, sizes=[Size(40, 52)]
    )
    assert {cell.verdict for cell in wrong.cells} == {Verdict.MISMATCH}
    assert wrong.exit_code == 1
