"""MNN on the CPU in float32, converted by its bare converter and asked for direct arithmetic.

`MNN.tools.mnnconvert` runs `pip install` at import and reports each use to a log service; the
extension `_tools` beneath it converts and does nothing else. It keeps weights for a moment in a
file of one name in the working folder (MNN 3.6): two that convert there at once take each other's,
and answer something else, so each converts in a folder of its own.

By default MNN 3.6 computes 3×3 convolutions by Winograd's algorithm with tiles of up to 6×6, which
loses two digits (1e-5 to 1e-4 of the largest output, where the strict budget is some 4e-6). With
the hint below it takes the small tiles, and is as close as the others.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from anysize.validators.runtimes.importable import importable
from anysize.validators.runtimes.overheard import overheard
from anysize.validators.runtimes.protocol import Availability, Provenance, ProviderUse

__all__ = ["Mnn", "MnnSession"]

_CPU: Final = 0
_WINOGRAD_MEMORY_LEVEL: Final = 3  # MNN's Interpreter::HintMode
_SMALL_TILES: Final = 0
_SAID_BYTES: Final = 4096
# Time and line in front of what the converter says, and what it says of every file.
_STAMP: Final = re.compile(r"^\[[\d:]+\] :\d+: ")
_CHATTER: Final = ("Start to ", "ONNX Model ", "inputTensors ", "outputTensors", "MNN use ")


class Mnn:
    """MNN's module interface, CPU backend, precision high."""

    name: Final = "mnn"
    profile: Final = "strict"
    device: Final = "cpu"

    def availability(self) -> Availability:
        """Tell whether MNN and its converter can be imported."""
        return importable("MNN", "_tools")

    def version(self) -> str:
        """Return the version of MNN."""
        return metadata.version("MNN")

    def load(self, model_path: Path, *, threads: int) -> MnnSession:
        """Convert and load a file; what MNN prints tells what it does not support."""
        return MnnSession(model_path, threads=threads)


class MnnSession:
    """One module, which MNN resizes to the inputs of each run.

    Args:
        model_path: The file; its external data is found beside it.
        threads: Threads that one inference may use.
    """

    def __init__(self, model_path: Path, *, threads: int) -> None:
        import MNN
        import onnx

        described = onnx.load(model_path, load_external_data=False).graph
        filled = {tensor.name for tensor in described.initializer}
        self._inputs = [v.name for v in described.input if v.name not in filled]
        self._outputs = [value.name for value in described.output]
        self._nodes = len(described.node)
        self._threads = threads
        with tempfile.TemporaryDirectory(prefix="anysize-mnn-") as folder, overheard() as said:
            converted = Path(folder) / "graph.mnn"
            _convert(model_path, converted)
            if not converted.exists():
                raise RuntimeError(_last_words(said) or "MNN's converter wrote nothing")
            settings = {"backend": _CPU, "numThread": threads, "precision": "high"}
            self._manager: Any = MNN.nn.create_runtime_manager((settings,))
            self._manager.set_hint(_WINOGRAD_MEMORY_LEVEL, _SMALL_TILES)
            self._module: Any = MNN.nn.load_module_from_file(
                str(converted), self._inputs, self._outputs, runtime_manager=self._manager
            )
            if self._module is None:
                raise RuntimeError(_last_words(said) or "MNN cannot load what it converted")

    def run(self, inputs: Mapping[str, NDArray[np.generic]]) -> Mapping[str, NDArray[np.generic]]:
        """Compute all outputs, in the graph's order."""
        from MNN import expr

        variables = []
        for name in self._inputs:
            array = np.ascontiguousarray(inputs[name])
            variable = expr.placeholder(list(array.shape), expr.NCHW, expr.float)
            variable.write(array)
            variables.append(variable)
        with overheard() as said:
            answers = self._module.onForward(variables)
            if not answers:  # it prints what went wrong and returns nothing
                raise RuntimeError(_last_words(said) or "MNN returned no output")
            arrays = [np.array(expr.convert(answer, expr.NCHW).read()) for answer in answers]
        return dict(zip(self._outputs, arrays, strict=True))

    def provenance(self) -> Provenance:
        """Tell what it was asked for: MNN has no other backend here to fall back on."""
        use = ProviderUse("MNN CPU", self._nodes)
        return Provenance(providers=(use,), threads=self._threads)

    def close(self) -> None:
        """Release the module."""
        self._module = None
        self._manager = None


def _convert(source: Path, target: Path) -> None:
    converter = importlib.import_module("_tools")
    # The business code is stored in the file and sent nowhere.
    files = ("--modelFile", str(source.absolute()), "--MNNModel", str(target.absolute()))
    with contextlib.chdir(target.parent):
        converter.mnnconvert(["mnnconvert", "-f", "ONNX", *files, "--bizCode", "anysize"])


def _last_words(said: IO[bytes]) -> str:
    said.seek(max(0, said.seek(0, os.SEEK_END) - _SAID_BYTES))
    lines = said.read().decode(errors="replace").splitlines()
    words = [_STAMP.sub("", line.strip()) for line in lines if line.strip()]
    return "; ".join(line for line in words if not line.startswith(_CHATTER))
