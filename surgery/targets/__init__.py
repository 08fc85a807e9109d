"""What a file can be rewritten to: one target per file, in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import onnx

from anysize.sizes import Size
from anysize.surgery.targets.adaptive import plan_adaptive
from anysize.surgery.targets.cam import PooledHead, find_pooled_head, plan_cam
from anysize.surgery.targets.dynamic import plan_dynamic
from anysize.surgery.targets.fcn import plan_fcn
from anysize.surgery.targets.gap import plan_gap
from anysize.surgery.targets.plan import NotNeeded, Output, Plan
from anysize.surgery.targets.resize import plan_resize

__all__ = [
    "TARGETS",
    "NotNeeded",
    "Output",
    "Plan",
    "PooledHead",
    "find_pooled_head",
]

# Given a weight-free copy (which a target may normalise), the training size and the kind of
# output: what to do, or why there is nothing to do.
Planner = Callable[[onnx.ModelProto, Size | None, Output], Plan | NotNeeded]

TARGETS: Mapping[str, Planner] = MappingProxyType(
    {
        "fcn": plan_fcn,
        "gap": plan_gap,
        "cam": plan_cam,
        "adaptive": plan_adaptive,
        "resize": plan_resize,
        "dynamic": plan_dynamic,
    }
)
