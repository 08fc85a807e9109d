"""References that are eager modules, whole or cut at their feature map."""

from __future__ import annotations

from anysize.validators.references.eager.fc import EagerFc, output_ranks
from anysize.validators.references.eager.module import (
    ModuleFc,
    ModuleReference,
    module_device,
    module_name,
    own_output_names,
    own_training_size,
)
from anysize.validators.references.eager.one_output import OneOutput

__all__ = [
    "EagerFc",
    "ModuleFc",
    "ModuleReference",
    "OneOutput",
    "module_device",
    "module_name",
    "output_ranks",
    "own_output_names",
    "own_training_size",
]
