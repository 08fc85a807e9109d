"""What a trace holds on to of its size, which sizes a module takes, and how its graph is freed."""

from __future__ import annotations

from anysize.exporters.sizes.accepted_sizes import accepted_sizes
from anysize.exporters.sizes.free_shapes import free_shapes
from anysize.exporters.sizes.hard_coded import check_nothing_is_hard_coded, hard_coded_values
from anysize.exporters.sizes.identity_pooling import drop_identity_pooling
from anysize.exporters.sizes.probe import Probe
from anysize.exporters.sizes.whole_map_pooling import pool_whole_maps

__all__ = [
    "Probe",
    "accepted_sizes",
    "check_nothing_is_hard_coded",
    "drop_identity_pooling",
    "free_shapes",
    "hard_coded_values",
    "pool_whole_maps",
]
