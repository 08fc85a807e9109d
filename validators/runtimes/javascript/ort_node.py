"""ONNX Runtime in Node, its CPU provider."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from pathlib import Path
from typing import IO, Final

from anysize.validators.runtimes.javascript.host import HERE, JavaScriptHost
from anysize.validators.runtimes.javascript.packages import find_package
from anysize.validators.runtimes.javascript.session import JavaScriptSession, Provider
from anysize.validators.runtimes.protocol import Availability

__all__ = ["OrtNode"]

_PACKAGE: Final = "onnxruntime-node"
_CPU: Final = Provider("cpu", "CPUExecutionProvider")


class OrtNode:
    """`onnxruntime-node`, asked for the CPU alone."""

    name: Final = "ort-node"
    profile: Final = "strict"
    device: Final = "cpu"

    def __init__(self) -> None:
        self._host: JavaScriptHost | None = None
        self._numbers = itertools.count()

    def availability(self) -> Availability:
        """Tell whether Node starts and finds the package."""
        if shutil.which("node") is None:
            return Availability(is_available=False, reason="node is not installed")
        if find_package(_PACKAGE) is None:
            return Availability(is_available=False, reason=f"{_PACKAGE} is not installed")
        try:
            self.version()
        except Exception as exc:  # Node's own words
            return Availability(is_available=False, reason=f"{_PACKAGE} does not start: {exc}")
        return Availability(is_available=True)

    def version(self) -> str:
        """Return the version of the package."""
        return str(self._started().ask("describe")[0]["version"])

    def load(self, model_path: Path, *, threads: int) -> JavaScriptSession:
        """Load a file; ONNX Runtime's own exception tells what it does not support."""
        number = next(self._numbers)
        return JavaScriptSession(
            self._started(), number, model_path, provider=_CPU, threads=threads
        )

    def _started(self) -> JavaScriptHost:
        if self._host is None:
            self._host = JavaScriptHost(_start)
        return self._host


def _start(base: str, output: IO[bytes]) -> subprocess.Popen[bytes]:
    package = find_package(_PACKAGE)
    assert package is not None
    return subprocess.Popen(  # noqa: S603
        ["node", str(HERE / "node.mjs"), base, str(package)],  # noqa: S607
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env={name: value for name, value in os.environ.items() if name != "NODE_OPTIONS"},
    )
