"""ONNX → ONNX: find the head, rewrite it, free the axes, save without loading weights."""

from anysize.surgery.axes import free_axes
from anysize.surgery.geometry import MapGeometry, map_geometry
from anysize.surgery.graph import image_input, static_size
from anysize.surgery.heads.find import AnySizeAlreadyError, Head, find_head, find_heads
from anysize.surgery.metadata import FileMetadata, read_metadata, write_metadata
from anysize.surgery.passes import (
    PassResult,
    free_baked_shapes,
    local_pool_to_global,
    reduce_mean_to_global_pool,
    reshape_to_flatten,
)
from anysize.surgery.rewrite import Rewrite, rewrite
from anysize.surgery.shapes.intervals import legal_interval, smallest_size, trained_size
from anysize.surgery.shapes.walk import IllegalSizeError, infer_shapes
from anysize.surgery.size_guard import guard_map_size, guard_max_size, guard_min_size
from anysize.surgery.split import split_at
from anysize.surgery.storage.loading import load_model, model_files
from anysize.surgery.storage.payloads import HeldWeights
from anysize.surgery.storage.saving import save_model
from anysize.surgery.targets import TARGETS
from anysize.surgery.targets.cam import PooledHead, find_pooled_head

__all__ = [
    "TARGETS",
    "AnySizeAlreadyError",
    "FileMetadata",
    "Head",
    "HeldWeights",
    "IllegalSizeError",
    "MapGeometry",
    "PassResult",
    "PooledHead",
    "Rewrite",
    "find_head",
    "find_heads",
    "find_pooled_head",
    "free_axes",
    "free_baked_shapes",
    "guard_map_size",
    "guard_max_size",
    "guard_min_size",
    "image_input",
    "infer_shapes",
    "legal_interval",
    "load_model",
    "local_pool_to_global",
    "map_geometry",
    "model_files",
    "read_metadata",
    "reduce_mean_to_global_pool",
    "reshape_to_flatten",
    "rewrite",
    "save_model",
    "smallest_size",
    "split_at",
    "static_size",
    "trained_size",
    "write_metadata",
]
