"""What a trace holds on to of its size, which sizes a module takes, and how its graph is freed."""

from __future__ import annotations

from anysize.exporters.sizes.acceptance import accepted_sizes
from anysize.exporters.sizes.free_shapes import free_shapes
from anysize.exporters.sizes.identity_pooling import drop_identity_pooling
from anysize.exporters.sizes.probe import Probe
from anysize.exporters.sizes.specialisation import baked_values, check_nothing_is_baked
from anysize.exporters.sizes.whole_map_pooling import pool_whole_maps

__all__ = [
    "Probe",
    "accepted_sizes",
    "baked_values",
    "check_nothing_is_baked",
    "drop_identity_pooling",
    "free_shapes",
    "pool_whole_maps",
]
