"""References: what a graph under test is compared with."""

from __future__ import annotations

from anysize.validators.references.choose import choose_reference
from anysize.validators.references.composed import WindowsReference
from anysize.validators.references.eager import module_device, own_output_names, own_training_size
from anysize.validators.references.layout import output_layout
from anysize.validators.references.protocol import (
    FcOriginal,
    NumberType,
    Perturbed,
    Precision,
    Recorded,
    Reference,
    Rejected,
)
from anysize.validators.references.rounded import rounded_copy
from anysize.validators.references.steps import Step, read_steps

__all__ = [
    "FcOriginal",
    "NumberType",
    "Perturbed",
    "Precision",
    "Recorded",
    "Reference",
    "Rejected",
    "Step",
    "WindowsReference",
    "choose_reference",
    "module_device",
    "output_layout",
    "own_output_names",
    "own_training_size",
    "read_steps",
    "rounded_copy",
]
