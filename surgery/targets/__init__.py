"""What a file can be rewritten to: one target per file, in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from anysize.sizes import Size
from anysize.surgery.graph import Graph
from anysize.surgery.targets.adaptive import to_adaptive
from anysize.surgery.targets.auto import find_target
from anysize.surgery.targets.cam import PooledHead, find_pooled_head, to_cam
from anysize.surgery.targets.dynamic import to_dynamic
from anysize.surgery.targets.fcn import to_fcn
from anysize.surgery.targets.gap import to_gap
from anysize.surgery.targets.plan import NotNeeded, Output, Rewritten
from anysize.surgery.targets.resize import to_resize

__all__ = [
    "TARGETS",
    "NotNeeded",
    "Output",
    "PooledHead",
    "Rewritten",
    "Target",
    "find_pooled_head",
    "find_target",
]

# Rewrites a weight-free trial copy, given the training size (None: what the file says) and the
# kind of output; what it did to the copy is then done to the model.
Target = Callable[[Graph, Size | None, Output], Rewritten | NotNeeded]

TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        "fcn": to_fcn,
        "gap": to_gap,
        "cam": to_cam,
        "adaptive": to_adaptive,
        "resize": to_resize,
        "dynamic": to_dynamic,
    }
)
