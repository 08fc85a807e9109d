"""Architectures written by hand, as users write them, on one runtime at the sizes of `auto`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from findings import complaints

import anysize

# The architectures belong to the benchmarks and are not installed.
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from architectures.table import ARCHITECTURES

# Take seconds for an image on an evaluator that is written in Python.
LARGE = ("arcface", "age_gender", "googlenet_bn")
# Some sizes pass and others do not, which the table of findings has no word for.
BEYOND_THE_BUDGET = {
    ("tract", "efficientnet_b0"): "tract 0.23.9: error up to 1.4 × the budget at half of the sizes"
}


def case(architecture):
    marks = [pytest.mark.slow] if architecture.name in LARGE else []
    return pytest.param(architecture, id=architecture.name, marks=marks)


@pytest.mark.parametrize("architecture", [case(each) for each in ARCHITECTURES])
def test_an_architecture_passes_at_the_sizes_of_auto(runtime, architecture, tmp_path):
    reason = BEYOND_THE_BUDGET.get((runtime, architecture.name))
    if reason:
        pytest.skip(reason)
    network = architecture.build(is_small=True)
    path = tmp_path / "network.onnx"
    result = anysize.export(network, path, size=architecture.small_size, verify=False)
    report = anysize.validate(path, network, runtimes=runtime, batches=(1,))
    found = complaints(report, architecture.name, result.head)
    assert not found, "\n".join(found)
