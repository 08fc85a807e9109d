"""References: what a graph under test is compared with."""

from __future__ import annotations

from anysize.validators.references.choose import choose_reference
from anysize.validators.references.composed.windows import Layout, WindowsReference
from anysize.validators.references.eager.module import (
    module_device,
    own_output_names,
    own_training_size,
)
from anysize.validators.references.protocol import FcOriginal, Precision, Reference, Rejected

__all__ = [
    "FcOriginal",
    "Layout",
    "Precision",
    "Reference",
    "Rejected",
    "WindowsReference",
    "choose_reference",
    "module_device",
    "own_output_names",
    "own_training_size",
]
