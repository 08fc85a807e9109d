"""What a trace holds on to of its size, which sizes a module takes, and how its graph is freed."""

from __future__ import annotations

from anysize.exporters.sizes.accepted_sizes import accepted_sizes
from anysize.exporters.sizes.free_shapes import free_shapes
from anysize.exporters.sizes.hard_coded import (
    HardCodedValue,
    hard_coded_values,
    refuse_hard_coded,
    refuse_random,
    still_hard_coded,
)
from anysize.exporters.sizes.identity_pooling import drop_identity_pooling
from anysize.exporters.sizes.one_path import OnePath
from anysize.exporters.sizes.output_axes import declare_outputs
from anysize.exporters.sizes.paths import alike_sizes
from anysize.exporters.sizes.probe import STEPS, Probe
from anysize.exporters.sizes.whole_map_pooling import pool_whole_maps

__all__ = [
    "STEPS",
    "HardCodedValue",
    "OnePath",
    "Probe",
    "accepted_sizes",
    "alike_sizes",
    "declare_outputs",
    "drop_identity_pooling",
    "free_shapes",
    "hard_coded_values",
    "pool_whole_maps",
    "refuse_hard_coded",
    "refuse_random",
    "still_hard_coded",
]
