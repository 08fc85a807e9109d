"""The runtime of this run, chosen by the tox environment through ANYSIZE_RUNTIME."""

from __future__ import annotations

import os

import pytest

from anysize.validators import list_runtimes


@pytest.fixture(scope="session")
def runtime() -> str:
    name = os.environ.get("ANYSIZE_RUNTIME", "ort-cpu")
    (info,) = list_runtimes([name])
    # Asked for by name, a runtime that cannot run is a failure and not a skip.
    assert info.is_available, f"{name}: {info.reason}; {info.install}"
    return name
