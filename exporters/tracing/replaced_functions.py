"""The functions of PyTorch that are others while a module is traced, or looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch.overrides import TorchFunctionMode

__all__ = ["FunctionTable", "ReplacedFunctions"]

# Function → what is called instead, with the same arguments.
FunctionTable = Mapping[Any, Callable[..., Any]]


class ReplacedFunctions(TorchFunctionMode):
    """While active, functions are replaced where they are called.

    One for all, for every call in PyTorch passes through each that is active.

    Args:
        *tables: Which ones; what stands in their place is called with the others as they are.
    """

    def __init__(self, *tables: FunctionTable) -> None:
        super().__init__()
        self._replaced = {func: other for table in tables for func, other in table.items()}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Replace the function where it is called."""
        del types
        return self._replaced.get(func, func)(*args, **(kwargs or {}))
