"""Normalisations: small rewrites that give every exporter's graphs one spelling."""

from __future__ import annotations

from anysize.surgery.passes.drop_zero_states import drop_zero_states
from anysize.surgery.passes.free_baked_shapes import free_baked_shapes, is_given_shapes
from anysize.surgery.passes.free_numbers import free_numbers
from anysize.surgery.passes.local_pool_to_global import (
    GLOBAL_POOLS,
    local_pool_to_global,
    whole_map_pools,
)
from anysize.surgery.passes.reduce_mean_to_global_pool import reduce_mean_to_global_pool
from anysize.surgery.passes.reshape_to_flatten import reshape_to_flatten
from anysize.surgery.passes.result import PassResult
from anysize.surgery.passes.same_padding import keep_same_padding

__all__ = [
    "GLOBAL_POOLS",
    "PassResult",
    "drop_zero_states",
    "free_baked_shapes",
    "free_numbers",
    "is_given_shapes",
    "keep_same_padding",
    "local_pool_to_global",
    "reduce_mean_to_global_pool",
    "reshape_to_flatten",
    "whole_map_pools",
]
