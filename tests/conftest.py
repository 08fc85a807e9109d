"""What holds for every test."""

from __future__ import annotations

import gc
import os

# Many tests use ONNX Runtime themselves, whose wheels report that from 1.29 on, unless this is set
# before the import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def pytest_collection_finish() -> None:
    """Leave what has been imported, half a million objects, out of each garbage collection."""
    gc.freeze()
