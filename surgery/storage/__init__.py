"""Where a model's bytes lie: read without trust, and written without a copy in memory."""

from __future__ import annotations

from anysize.surgery.storage.attached import attached, mapped_array
from anysize.surgery.storage.loading import load_model, model_files
from anysize.surgery.storage.payloads import HeldWeights, WeightPlace, load_tensor, locate
from anysize.surgery.storage.permuted import Permutation, can_permute, permute_later
from anysize.surgery.storage.saving import save_model
from anysize.surgery.storage.tensors import (
    DATA_FIELDS,
    LARGE_BYTES,
    SMALL_ELEMENTS,
    Place,
    all_tensors,
    element_count,
    is_loaded,
    place_of,
    small_array,
)
from anysize.surgery.storage.weight_files import staged_model
from anysize.surgery.storage.weightless import (
    check,
    copy_fields,
    inferred_values,
    weight_free,
)

__all__ = [
    "DATA_FIELDS",
    "LARGE_BYTES",
    "SMALL_ELEMENTS",
    "HeldWeights",
    "Permutation",
    "Place",
    "WeightPlace",
    "all_tensors",
    "attached",
    "can_permute",
    "check",
    "copy_fields",
    "element_count",
    "inferred_values",
    "is_loaded",
    "load_model",
    "load_tensor",
    "locate",
    "mapped_array",
    "model_files",
    "permute_later",
    "place_of",
    "save_model",
    "small_array",
    "staged_model",
    "weight_free",
]
