"""The runtime of this run, chosen by the tox environment through ANYSIZE_RUNTIME."""

from __future__ import annotations

import os

import pytest

from anysize.validators import RUNTIMES, list_runtimes

NAME = os.environ.get("ANYSIZE_RUNTIME", "ort-cpu")


def pytest_collection_modifyitems(items):
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
