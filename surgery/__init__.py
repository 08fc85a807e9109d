"""ONNX → ONNX: find the head, rewrite it, free the axes, save without loading weights."""

from anysize.surgery.axes import fixed_axes, free_axes
from anysize.surgery.geometry import MapGeometry, map_geometry
from anysize.surgery.graph import image_input, static_size
from anysize.surgery.graphsurgeon import from_graphsurgeon, to_graphsurgeon
from anysize.surgery.heads import AnySizeAlreadyError, Head, find_head, find_heads
from anysize.surgery.metadata import MODULE_OBJECT, FileMetadata, read_metadata, write_metadata
from anysize.surgery.passes import (
    PassResult,
    free_baked_shapes,
    free_numbers,
    local_pool_to_global,
    reduce_mean_to_global_pool,
    reshape_to_flatten,
)
from anysize.surgery.rewrite import Rewrite, rewrite
from anysize.surgery.shapes import (
    IllegalSizeError,
    infer_shapes,
    legal_interval,
    legal_sizes,
    multiply_adds,
    smallest_size,
    trained_size,
)
from anysize.surgery.size_guard import (
    drop_guards,
    guard_map_size,
    guard_max_size,
    guard_min_size,
    guard_steps,
    without_guards,
)
from anysize.surgery.split import keep_outputs, split_at
from anysize.surgery.storage import HeldWeights, load_model, model_files, save_model, staged_model
from anysize.surgery.targets import TARGETS, PooledHead, find_pooled_head, find_target

__all__ = [
    "MODULE_OBJECT",
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
    "drop_guards",
    "find_head",
    "find_heads",
    "find_pooled_head",
    "find_target",
    "fixed_axes",
    "free_axes",
    "free_baked_shapes",
    "free_numbers",
    "from_graphsurgeon",
    "guard_map_size",
    "guard_max_size",
    "guard_min_size",
    "guard_steps",
    "image_input",
    "infer_shapes",
    "keep_outputs",
    "legal_interval",
    "legal_sizes",
    "load_model",
    "local_pool_to_global",
    "map_geometry",
    "model_files",
    "multiply_adds",
    "read_metadata",
    "reduce_mean_to_global_pool",
    "reshape_to_flatten",
    "rewrite",
    "save_model",
    "smallest_size",
    "split_at",
    "staged_model",
    "static_size",
    "to_graphsurgeon",
    "trained_size",
    "without_guards",
    "write_metadata",
]
