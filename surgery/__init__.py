"""ONNX → ONNX: find the head, rewrite it, free the axes, save without loading weights."""

from anysize.surgery.axes import free_axes
from anysize.surgery.loading import load_model
from anysize.surgery.metadata import FileMetadata, read_metadata, write_metadata
from anysize.surgery.saving import save_model
from anysize.surgery.size_guard import guard_min_size

__all__ = [
    "FileMetadata",
    "free_axes",
    "guard_min_size",
    "load_model",
    "read_metadata",
    "save_model",
    "write_metadata",
]
