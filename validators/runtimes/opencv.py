"""OpenCV's dnn module on the CPU, by its engine for dynamic shapes.

OpenCV 5 tries this engine first and then, in silence, the classic one, which holds on to the sizes
of the file. Here it is asked for by name, so that what it cannot load is told in its own words.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anysize.validators.runtimes.importable import importable
from anysize.validators.runtimes.overheard import overheard
from anysize.validators.runtimes.protocol import Availability, Provenance, ProviderUse

__all__ = ["OpenCv", "OpenCvSession"]

_ENGINE: Final = "ENGINE_NEW"
# What it warns of before it takes the classic engine all the same, and no error tells.
_OTHER_ENGINE: Final = "Trying the older parser."
# Where in its own sources an error was raised.
_PLACE: Final = re.compile(r"OpenCV\([\d.\w-]+\) \S+:\d+: ")


class OpenCv:
    """The dnn module of `opencv-python-headless`, 5.0 or later."""

    name: Final = "opencv"
    profile: Final = "strict"
    device: Final = "cpu"

    def availability(self) -> Availability:
        """Tell whether cv2 can be imported, and has the engine."""
        found = importable("cv2")
        if found.is_available and not hasattr(importlib.import_module("cv2").dnn, _ENGINE):
            reason = f"OpenCV {self.version()} takes one size of image; expected 5.0 or later"
            return Availability(is_available=False, reason=reason)
        return found

    def version(self) -> str:
        """Return the version of OpenCV."""
        return str(importlib.import_module("cv2").__version__)

    def load(self, model_path: Path, *, threads: int) -> OpenCvSession:
        """Load a file; OpenCV's own exception tells what it does not support."""
        return OpenCvSession(model_path, threads=threads)


class OpenCvSession:
    """One network, whose input gets a blob of another shape in each run.

    Args:
        model_path: The file; its external data is found beside it.
        threads: Threads that one inference may use.
    """

    def __init__(self, model_path: Path, *, threads: int) -> None:
        import onnx

        described = onnx.load(model_path, load_external_data=False).graph
        self._outputs = [value.name for value in described.output]
        self._cv: Any = importlib.import_module("cv2")
        self._cv.setNumThreads(threads)
        engine = getattr(self._cv.dnn, _ENGINE)
        with overheard() as said:
            try:
                self._net: Any = self._cv.dnn.readNetFromONNX(str(model_path), engine)
            except self._cv.error as exc:
                raise _readable(exc) from exc
            said.seek(0)
            words = said.read().decode(errors="replace")
        if _OTHER_ENGINE in words or self._net.empty():
            raise RuntimeError(words.rpartition(_OTHER_ENGINE)[2] or "OpenCV made nothing of it")

    def run(self, inputs: Mapping[str, NDArray[np.generic]]) -> Mapping[str, NDArray[np.generic]]:
        """Compute all outputs, in the graph's order."""
        try:
            for name, array in inputs.items():
                self._net.setInput(np.ascontiguousarray(array), name)
            answers = self._net.forward(self._outputs)
        except self._cv.error as exc:
            raise _readable(exc) from exc
        # The arrays are views of the network's buffers, which the next run overwrites.
        return {n: np.array(answer) for n, answer in zip(self._outputs, answers, strict=True)}

    def provenance(self) -> Provenance:
        """Tell how many layers the engine made of the graph: it computes on the CPU alone."""
        use = ProviderUse("OpenCV dnn CPU", len(self._net.getLayerNames()))
        return Provenance(providers=(use,), threads=int(self._cv.getNumThreads()))

    def close(self) -> None:
        """Release the network."""
        self._net = None


def _readable(exc: Exception) -> RuntimeError:
    return RuntimeError(_PLACE.sub("", str(exc)))
