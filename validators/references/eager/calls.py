"""The calls that one forward pass makes, seen from outside: no tracing, no export.

A `TorchFunctionMode` sees every function and method of PyTorch that a module's own code calls, and
may answer in its place. The pass runs on the meta device as far as nobody needs numbers: shapes and
data flow are what is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["Call", "CallMode", "Recording", "Stopped", "record"]

# Returns nothing and changes its first argument.
_CHANGES_ITS_ARGUMENT = "__setitem__"


@dataclass(frozen=True, slots=True)
class Call:
    """One call that makes tensors.

    Attributes:
        name: Name of the function or method.
        inputs: Numbers of the values that it reads, of those that come from the image.
        outputs: Numbers of the values that it makes.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def is_in_place_only(self) -> bool:
        """Whether it returns nothing, so that nothing else can be handed out in its place."""
        return self.name == _CHANGES_ITS_ARGUMENT


@dataclass(frozen=True, slots=True)
class Recording:
    """The calls of one pass, in order; value 0 is the image.

    Attributes:
        calls: All that make tensors. A tensor that is changed in place becomes a new value.
        shapes: Shapes of the values, by number.
        outputs: Values that the module returns.
    """

    calls: tuple[Call, ...]
    shapes: Mapping[int, tuple[int, ...]]
    outputs: tuple[int, ...]


class Stopped(BaseException):
    """Ends a pass early; no module catches it by accident.

    Attributes:
        value: What the pass was run for.
    """

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value


class CallMode(TorchFunctionMode):
    """Runs a pass and shows each call that makes tensors to `visit`.

    Args:
        visit: Given the place of the call, its name and what it made; returns what the module is
            to get instead, or the same.
    """

    def __init__(self, visit: Callable[[int, str, Any], Any]) -> None:
        super().__init__()
        self._visit = visit
        self._place = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the call, on the meta device where one of its tensors is there."""
        del types
        arguments = (args, kwargs or {})
        if any(tensor.is_meta for tensor in _tensors(arguments)):
            arguments = tree_map(_to_meta, arguments)
        result = func(*arguments[0], **arguments[1])
        name = getattr(func, "__name__", str(func))
        if name != _CHANGES_ITS_ARGUMENT and not _tensors(result):
            return result
        place, self._place = self._place, self._place + 1
        return self.visit(place, name, args, kwargs, result)

    def visit(self, place: int, name: str, args: Any, kwargs: Any, result: Any) -> Any:
        """Let a subclass look at the arguments, too."""
        del args, kwargs
        return self._visit(place, name, result)


class _Recorder(CallMode):
    def __init__(self, image: Tensor) -> None:
        super().__init__(lambda _place, _name, result: result)
        self.calls: list[Call] = []
        self.shapes: dict[int, tuple[int, ...]] = {0: tuple(image.shape)}
        # Tensors are kept, so that none gets the identity of one that is gone.
        self._alive: list[Any] = [image]
        self._numbers = {id(image): 0}

    def number(self, tensor: Tensor) -> int | None:
        return self._numbers.get(id(tensor))

    def visit(self, place: int, name: str, args: Any, kwargs: Any, result: Any) -> Any:
        del place
        found = (self.number(tensor) for tensor in _tensors((args, kwargs)))
        inputs = tuple(dict.fromkeys(number for number in found if number is not None))
        made = [args[0]] if name == _CHANGES_ITS_ARGUMENT else _tensors(result)
        outputs = tuple(self._add(tensor) for tensor in made) if inputs else ()
        self._alive.append(result)
        self.calls.append(Call(name, inputs, outputs))
        return result

    def _add(self, tensor: Tensor) -> int:
        number = len(self.shapes)
        self.shapes[number] = tuple(tensor.shape)
        self._numbers[id(tensor)] = number
        return number


def record(module: nn.Module, shape: tuple[int, ...], dtype: torch.dtype) -> Recording:
    """Run `module` on an image without numbers, and write its calls down.

    Args:
        module: In evaluation mode; not modified.
        shape: Shape of the image, `(batch, channels, height, width)`.
        dtype: Type of the image.

    Raises:
        RuntimeError: The module needs numbers on the way, or does not take the image.
    """
    image = torch.empty(shape, dtype=dtype, device="meta")
    recorder = _Recorder(image)
    with torch.inference_mode(), recorder:
        answer = module(image)
    numbers = [recorder.number(tensor) for tensor in _tensors(answer)]
    return Recording(
        tuple(recorder.calls),
        recorder.shapes,
        tuple(number for number in numbers if number is not None),
    )


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _to_meta(value: Any) -> Any:
    return value.to("meta") if isinstance(value, Tensor) and not value.is_meta else value
