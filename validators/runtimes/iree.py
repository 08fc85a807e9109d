"""IREE: the graph compiled for this machine's CPU, run by IREE's virtual machine.

The compiler is a program of its own (`iree-compile`), which its Python package starts; neither it
nor the runtime opens a connection.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anysize.validators.runtimes.importable import importable
from anysize.validators.runtimes.protocol import Availability, Provenance, ProviderUse

__all__ = ["Iree", "IreeSession"]

_TARGET: Final = "llvm-cpu"
_DRIVER: Final = "local-sync"  # one thread, and the same order of additions each time
_NOT_THE_GRAPH: Final = ("__init", "$async")
# What the compiler has to say stands between these; behind them is its command line.
_BEFORE_WORDS: Final = "Diagnostics:"
_BEHIND_WORDS: Final = "Invoked with:"


class Iree:
    """IREE's compiler for the CPU, and its runtime on one thread."""

    name: Final = "iree"
    profile: Final = "strict"
    device: Final = "cpu"

    def availability(self) -> Availability:
        """Tell whether compiler and runtime can be imported."""
        return importable("iree.compiler.extras.onnx_importer", "iree.runtime")

    def version(self) -> str:
        """Return the version of the compiler."""
        return metadata.version("iree-base-compiler")

    def load(self, model_path: Path, *, threads: int) -> IreeSession:  # noqa: ARG002
        """Compile a file; the compiler's own words tell what it does not support."""
        return IreeSession(model_path)


class IreeSession:
    """One compiled module, which serves every size.

    Args:
        model_path: The file; its external data is found beside it.
    """

    def __init__(self, model_path: Path) -> None:
        import onnx
        from iree import runtime

        model = onnx.load(model_path)
        filled = {tensor.name for tensor in model.graph.initializer}
        self._inputs = [v.name for v in model.graph.input if v.name not in filled]
        self._outputs = [value.name for value in model.graph.output]
        self._nodes = len(model.graph.node)
        binary = _compile(model)
        del model
        context = runtime.SystemContext(config=runtime.Config(_DRIVER))
        module = runtime.VmModule.copy_buffer(context.instance, binary)
        context.add_vm_module(module)
        (entry,) = (name for name in module.function_names if not name.endswith(_NOT_THE_GRAPH))
        self._context: Any = context
        self._function: Any = context.modules[module.name][entry]

    def run(self, inputs: Mapping[str, NDArray[np.generic]]) -> Mapping[str, NDArray[np.generic]]:
        """Compute all outputs, in the graph's order."""
        answers = self._function(*(np.ascontiguousarray(inputs[name]) for name in self._inputs))
        arrays = answers if isinstance(answers, tuple) else (answers,)
        return {
            name: np.array(array.to_host())
            for name, array in zip(self._outputs, arrays, strict=True)
        }

    def provenance(self) -> Provenance:
        """Tell what it was compiled for: every node is, or the compiler fails."""
        use = ProviderUse(f"IREE {_TARGET} {_DRIVER}", self._nodes)
        return Provenance(providers=(use,), threads=1)

    def close(self) -> None:
        """Release the module."""
        self._function = None
        self._context = None


def _compile(model: Any) -> bytes:
    """Import an ONNX model into MLIR and compile that."""
    import onnx
    from iree.compiler.extras import onnx_importer
    from iree.compiler.ir import Context
    from iree.compiler.tools import CompilerToolError, compile_file

    described = onnx_importer.ModelInfo(onnx.shape_inference.infer_shapes(model, data_prop=True))
    module = described.create_module(context=Context()).operation
    importer = onnx_importer.NodeImporter.define_function(described.main_graph, module)
    importer.import_all()
    module.verify()
    with tempfile.TemporaryDirectory(prefix="anysize-iree-") as folder:
        source = Path(folder) / "graph.mlirbc"
        with source.open("wb") as stream:
            module.write_bytecode(stream)
        try:
            binary = compile_file(
                str(source),
                input_type="onnx",
                target_backends=[_TARGET],
                extra_args=["--iree-llvmcpu-target-cpu=host"],
            )
        except CompilerToolError as exc:
            words = str(exc).rpartition(_BEFORE_WORDS)[2].split(_BEHIND_WORDS, maxsplit=1)[0]
            raise RuntimeError(words) from exc
    assert isinstance(binary, bytes)
    return binary
