"""References that are eager modules, whole or cut at their feature map.

What needs PyTorch to be imported is imported at its first use: files without a module need none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anysize.lazy import lazy_names
from anysize.validators.references.eager.module import (
    ModuleFc,
    ModuleReference,
    module_device,
    module_name,
    own_output_names,
    own_training_size,
)

if TYPE_CHECKING:
    from anysize.validators.references.eager.fc import EagerFc, output_ranks
    from anysize.validators.references.eager.one_output import OneOutput
    from anysize.validators.references.eager.path import OnePath

__all__ = [
    "EagerFc",
    "ModuleFc",
    "ModuleReference",
    "OneOutput",
    "OnePath",
    "module_device",
    "module_name",
    "output_ranks",
    "own_output_names",
    "own_training_size",
]

__getattr__ = lazy_names(
    __name__,
    {
        "fc": ("EagerFc", "output_ranks"),
        "one_output": ("OneOutput",),
        "path": ("OnePath",),
    },
)
