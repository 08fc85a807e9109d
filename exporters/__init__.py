"""PyTorch → ONNX: one call into torch.onnx, and the lowerings that it lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anysize.exporters.export import Exported, ExportSpec, export_module
    from anysize.exporters.inputs import ROIS, InputSpec
    from anysize.exporters.outputs import output_names

__all__ = ["ROIS", "ExportSpec", "Exported", "InputSpec", "export_module", "output_names"]


def __getattr__(name: str) -> object:
    # torch is loaded by the first export, not by the first import.
    if name in __all__:
        from anysize.exporters import export, inputs, outputs

        home = next(part for part in (inputs, outputs, export) if name in part.__all__)
        return getattr(home, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
