"""What holds for every test."""

from __future__ import annotations

import os

# Many tests use ONNX Runtime themselves, whose wheels report that from 1.29 on, unless this is set
# before the import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
