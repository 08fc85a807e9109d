"""PyTorch → ONNX: one call into torch.onnx, and the lowerings that it lacks.

torch is loaded by the first export, not by the first import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anysize.lazy import lazy_names

if TYPE_CHECKING:
    from anysize.exporters.axes import asked_axes
    from anysize.exporters.bounds import narrowed
    from anysize.exporters.export import Exported, export_module
    from anysize.exporters.inputs import ROIS, InputSpec, described, input_shape, named_inputs
    from anysize.exporters.opset_range import DEFAULT_OPSET, check_opset
    from anysize.exporters.outputs import image_channels, output_names
    from anysize.exporters.sides import refuse_other_sides
    from anysize.exporters.spec import ExportSpec

__all__ = [
    "DEFAULT_OPSET",
    "ROIS",
    "ExportSpec",
    "Exported",
    "InputSpec",
    "asked_axes",
    "check_opset",
    "described",
    "export_module",
    "image_channels",
    "input_shape",
    "named_inputs",
    "narrowed",
    "output_names",
    "refuse_other_sides",
]

__getattr__ = lazy_names(
    __name__,
    {
        "axes": ("asked_axes",),
        "bounds": ("narrowed",),
        "export": ("Exported", "export_module"),
        "inputs": ("ROIS", "InputSpec", "described", "input_shape", "named_inputs"),
        "opset_range": ("DEFAULT_OPSET", "check_opset"),
        "outputs": ("image_channels", "output_names"),
        "sides": ("refuse_other_sides",),
        "spec": ("ExportSpec",),
    },
)
