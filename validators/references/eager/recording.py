"""What a forward pass computes on the way, by the names of the module's layers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from anysize.validators.references.steps import Recorder

__all__ = ["recording"]

_PLAIN = (torch.float32, torch.float64)


@contextlib.contextmanager
def recording(module: nn.Module, inputs: Sequence[Tensor], folder: Path) -> Iterator[None]:
    """Write down what each call inside `module` makes, and what each layer returns.

    Hooks for all modules tell which layer a call is in; this one is not changed.

    Args:
        module: Its layers give the names.
        inputs: What it is given, which is written down first.
        folder: See `Recorder`.
    """
    mode = _Recording(module, Recorder(folder))
    for tensor in inputs:
        mode.write(tensor, "", "input")
    with contextlib.ExitStack() as stack:
        for hook in (
            register_module_forward_pre_hook(mode.enter),
            register_module_forward_hook(mode.leave, always_call=True),
        ):
            stack.callback(hook.remove)
        stack.enter_context(mode)
        yield


class _Recording(TorchFunctionMode):
    def __init__(self, module: nn.Module, recorder: Recorder) -> None:
        super().__init__()
        self._names = {id(layer): name for name, layer in module.named_modules()}
        self._recorder = recorder
        self._inside = [""]
        self._last: Tensor | None = None

    def enter(self, layer: nn.Module, _inputs: Any) -> None:
        self._inside.append(self._names.get(id(layer), self._inside[-1]))

    def leave(self, layer: nn.Module, _inputs: Any, result: Any) -> None:
        for tensor in tree_leaves(result):  # of a layer whose calls nobody sees: a compiled one
            if tensor is not self._last:
                self.write(tensor, self._inside[-1], type(layer).__name__)
        self._inside.pop()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the call, and write down what it makes."""
        del types
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            self.write(tensor, self._inside[-1], getattr(func, "__name__", "call"))
        return result

    def write(self, tensor: Any, layer: str, operator: str) -> None:
        """Write a tensor down as it is now; those without numbers are left out."""
        with torch._C.DisableTorchFunction():  # noqa: SLF001  (it has no other name)
            if isinstance(tensor, Tensor) and tensor.dtype in _PLAIN and not tensor.is_meta:
                self._last = tensor
                array = tensor.detach().cpu().numpy()
                self._recorder.add(array, layer=layer, operator=operator)
