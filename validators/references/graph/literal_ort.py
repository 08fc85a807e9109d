"""The worker in which ONNX Runtime computes as the reference.

An original is somebody's file like any other: what crashes ONNX Runtime, or keeps it busy for ever,
must not do so here.
"""

from __future__ import annotations

from typing import Final

from anysize.validators.worker import SharedWorker

__all__ = ["WORKER"]

# Every reference of this process has its sessions here; it ends when the process does.
WORKER: Final = SharedWorker("anysize.validators.runtimes.literal_ort:LiteralOrt")
