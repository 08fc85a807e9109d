"""One model in a JavaScript host, and where its session says that it has placed the nodes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from anysize.validators.runtimes.javascript.host import JavaScriptHost
from anysize.validators.runtimes.protocol import Provenance, ProviderUse

if TYPE_CHECKING:
    import onnx

__all__ = ["JavaScriptSession", "Provider"]

_VERBOSE: Final = {"logSeverityLevel": 0, "logVerbosityLevel": 1}
# What ONNX Runtime logs: all nodes on one provider, or a heading for each and a line for each node.
_PLACED: Final = re.compile(r"placed on \[(\w+)\]\. Number of nodes: (\d+)")
_NODE: Final = re.compile(r"VerifyEachNodeIsAssignedToAnEp\]\s+(\w+) \((.*)\)\s*$")


@dataclass(frozen=True, slots=True)
class Provider:
    """An execution provider, as JavaScript calls it and as ONNX Runtime does."""

    asked: str
    name: str


class JavaScriptSession:
    """One model, which serves every size.

    Args:
        host: What runs it.
        number: Its number there.
        model_path: The file; its external data is found beside it.
        provider: What shall execute the nodes.
        threads: Threads that one operator may use.
        adapter: What the provider computes on, as the browser calls it; "" for the processor.
    """

    def __init__(
        self,
        host: JavaScriptHost,
        number: int,
        model_path: Path,
        *,
        provider: Provider,
        threads: int,
        adapter: str = "",
    ) -> None:
        import onnx

        self._host = host
        self._number = number
        self._threads = threads
        self.last_run_s = 0.0
        model = onnx.load(model_path, load_external_data=False)
        weights = [{"path": p, "file": f"weights-{n}"} for n, p in enumerate(_places(model))]
        files: dict[str, Path | bytes] = {"model": model_path}
        files |= {one["file"]: model_path.parent / one["path"] for one in weights}
        options = {
            "executionProviders": [provider.asked],
            "intraOpNumThreads": threads,
            **_VERBOSE,
        }
        header, _ = host.ask(
            "load", files, session=number, model="model", weights=weights, options=options
        )
        lines = [*header.get("said", ()), *host.words().splitlines()]
        uses, elsewhere = _placements(lines, provider.name)
        self._uses = tuple(
            replace(use, provider=f"{use.provider} ({adapter})")
            if adapter and use.provider == provider.name
            else use
            for use in uses
        )
        shapes = _names_of_shapes(model)
        self._fallback = tuple(one for name, one in elsewhere if name not in shapes)

    def run(self, inputs: Mapping[str, NDArray[np.generic]]) -> Mapping[str, NDArray[np.generic]]:
        """Compute all outputs, in the graph's order."""
        outputs, self.last_run_s = self._host.run(self._number, inputs)
        return outputs

    def provenance(self) -> Provenance:
        """Tell on which providers the session has placed its nodes, by its own log.

        A node that computes only sizes or indices is counted where it ran, and is no fallback.
        """
        return Provenance(self._uses, self._fallback, threads=self._threads)

    def close(self) -> None:
        """Release the model."""
        self._host.ask("unload", session=self._number)


def _places(model: onnx.ModelProto) -> list[str]:
    """Return the files of external weights, as the model calls them."""
    from anysize.surgery.storage import all_tensors

    entries = (entry for tensor in all_tensors(model) for entry in tensor.external_data)
    return sorted({entry.value for entry in entries if entry.key == "location"})


def _placements(
    lines: list[str], wanted: str
) -> tuple[tuple[ProviderUse, ...], list[tuple[str, str]]]:
    """Read how many nodes each provider has, and which nodes are not where they should be."""
    counts: Counter[str] = Counter()
    elsewhere: list[tuple[str, str]] = []
    provider = ""
    for line in lines:
        if heading := _PLACED.search(line):
            provider = heading[1]
            counts[provider] += int(heading[2])
        elif provider not in ("", wanted) and (node := _NODE.search(line)):
            elsewhere.append((node[2], f"{node[2]} ({node[1]} on {provider})"))
    return tuple(ProviderUse(name, count) for name, count in sorted(counts.items())), elsewhere


def _names_of_shapes(model: onnx.ModelProto) -> set[str]:
    """Return the names of the nodes that make whole numbers alone."""
    import onnx

    typed = onnx.shape_inference.infer_shapes(model).graph
    whole = {onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL}
    kinds = {value.name: value.type.tensor_type.elem_type for value in typed.value_info}
    return {
        node.name
        for node in typed.node
        if node.name and {kinds.get(name) for name in node.output} <= whole
    }
