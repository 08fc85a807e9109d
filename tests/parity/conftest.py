"""The runtime of this run, chosen by the tox environment through ANYSIZE_RUNTIME."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from anysize.validators import RUNTIMES, list_runtimes

NAME = os.environ.get("ANYSIZE_RUNTIME", "ort-cpu")


# Compiles each file anew, for seconds; a part of the catalogue shows that its cells can be red.
COMPILES = "iree"
PART = 5


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items):
    if NAME == COMPILES:
        sabotages = [item for item in items if "entry" in getattr(item, "fixturenames", ())]
        for place, item in enumerate(sabotages):
            if place % PART:
                item.add_marker(pytest.mark.slow)
    if RUNTIMES[NAME].device == "cuda":
        for item in items:
            if "runtime" in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session")
def runtime() -> str:
    (info,) = list_runtimes([NAME])
    # Asked for by name, a runtime that cannot run is a failure and not a skip.
    assert info.is_available, f"{NAME}: {info.reason}; {info.install}"
    return NAME


@pytest.fixture(scope="session")
def recorded(anysize_record):
    """Put a cell's report into that of the environment, under a name that all of them share."""

    def record(report, name):
        model = dataclasses.replace(report.model, path=name)
        # Another file as the reference lies in a folder of its own in each environment.
        original = Path(report.reference.name).name
        reference = dataclasses.replace(report.reference, name=original, argument=None)
        anysize_record(dataclasses.replace(report, model=model, reference=reference))
        return report

    return record
