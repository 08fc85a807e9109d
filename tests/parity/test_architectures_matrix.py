"""Architectures written by hand, as users write them, on one runtime at the sizes of `auto`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from exported import exported
from findings import complaints

import anysize

# The architectures belong to the benchmarks and are not installed.
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from architectures.table import ARCHITECTURES

# Small ones with operators that the heads' own networks lack run in every environment. For each of
# the others an evaluator in Python, or a compiler, takes up to a minute: `pytest -m slow`.
SMALL = ("ferplus", "squeezenet1_1", "spp_net", "pyramid_scene", "group_norm_net")


def case(architecture):
    marks = [] if architecture.name in SMALL else [pytest.mark.slow]
    return pytest.param(architecture, id=architecture.name, marks=marks)


@pytest.mark.parametrize("architecture", [case(each) for each in ARCHITECTURES])
def test_an_architecture_passes_at_the_sizes_of_auto(runtime, recorded, architecture):
    network = architecture.build(is_small=True)
    path = exported(architecture.name, lambda: network, size=architecture.small_size)
    report = anysize.validate(path, network, runtimes=runtime, batches=(1,))
    head = report.model.head
    recorded(report, f"{architecture.name}/{head}")
    found = complaints(report, architecture.name, head)
    assert not found, "\n".join(found)
