"""Run a module on tensors without data, at two sizes, and compare what it asks of PyTorch.

Translating a module to ONNX takes seconds; running it on the meta device takes milliseconds and
shows every number that it hands to an operator. Where the operators are ones whose translation
takes nothing from a size but those numbers, and none of the numbers differs between two sizes, the
translation of one size holds for the other. Everything else needs a second trace.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from anysize.bisection import highest
from anysize.exporters.inputs import InputSpec, example_inputs
from anysize.exporters.tracing import (
    SETTLED_FUNCTIONS,
    SHAPES_AT_ONCE,
    WHOLE_LOCAL_RESPONSE_NORM,
    FunctionTable,
    Padded,
    PaddingRecord,
    ReplacedFunctions,
    on_meta,
)
from anysize.sizes import Size

__all__ = ["STEPS", "Probe"]

# By which networks step that take some sides and refuse others: strides, and windows that have to
# fill a map.
STEPS = (
    1, 2, 4, 8, 16, 32, 64, 3, 6, 12, 24, 48, 5, 10, 20, 40, 7, 14, 28, 56, 112, 128, 224, 256, 384
)  # fmt: skip
# So many sides are asked one by one for another remainder.
_MOST_REMAINDERS = 112

# Translated from their arguments alone. Tests trace each of them at two sizes and compare.
_SIZE_FREE = frozenset(
    {
        "_adaptive_avg_pool2d", "_prelu_kernel", "adaptive_max_pool2d", "add", "addmm",
        "avg_pool2d", "cat", "clamp", "clone", "convolution", "div", "elu", "empty", "exp", "gelu",
        "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "local_response_norm",
        "max_pool2d_with_indices", "mean", "mm", "mul", "native_batch_norm", "native_layer_norm",
        "neg", "permute", "pow", "relu", "rsqrt", "sigmoid", "silu", "softplus", "split", "sqrt",
        "sub", "t", "tanh", "transpose",
    }
)  # fmt: skip
# Take a shape; what is left of them in the finished graph decides.
_SHAPED = frozenset({"_unsafe_view", "view"})
_GIVEN_A_SHAPE = _SHAPED | {"expand"}

_MAX_WORDS = 200

# A tensor that is neither the image, nor a parameter, nor made from them: it may hold a size.
_OWN = "a tensor of unknown origin"


@dataclass(frozen=True, slots=True)
class Call:
    """One operator, and what it was given.

    Attributes:
        operator: Its name, whether or not it works in place.
        numbers: Its arguments, `T` for a tensor; of one that gives a shape, that shape.
        given: The shape of its first tensor.
        made: The shape of what it returned.
    """

    operator: str
    numbers: str
    given: tuple[int, ...] = ()
    made: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Run:
    """What a module called, the shapes of what it returned, and what it padded."""

    calls: tuple[Call, ...]
    shapes: tuple[tuple[int, ...], ...]
    paddings: tuple[Padded, ...] = ()


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down every operator that reaches the meta device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        namespace, operator = _name_of(func)
        is_told = namespace != "prim" and not (operator == "as_strided" and _is_as_it_was(*args))
        # Before it is run, for it may work in place.
        given, numbers = _shape_of(args), _shown((args, kwargs)) if operator != "empty" else ""
        at_once = _AT_ONCE.get(func)
        answer = at_once(*args) if at_once is not None else None
        if answer is None:
            answer = func(*args, **(kwargs or {}))
        made = _shape_of(answer)
        # Which has a -1 where PyTorch need not copy.
        if operator in _GIVEN_A_SHAPE and _OWN not in numbers:
            numbers = str([*made])
        if is_told:
            self.calls.append(Call(operator, numbers, given, made))
        return answer


def _batch_norm(
    x: torch.Tensor, _w: Any, _b: Any, mean: torch.Tensor | None, _v: Any, training: Any, *_: Any
) -> tuple[torch.Tensor, ...] | None:
    fits = mean is not None and x.dim() > 1 and x.shape[1] == mean.numel()
    return (torch.empty_like(x), x.new_empty(0), x.new_empty(0)) if fits and not training else None


def _layer_norm(
    x: torch.Tensor, shape: Sequence[int], weight: torch.Tensor | None, *_: Any
) -> tuple[torch.Tensor, ...] | None:
    own = list(x.shape[-len(shape) :]) if weight is None else list(weight.shape)
    if not list(shape) == own == list(x.shape[-len(shape) :]):
        return None
    rows = x.new_empty(*x.shape[: -len(shape)], *[1] * len(shape))
    return torch.empty_like(x), rows, rows


def _bicubic(x: torch.Tensor, size: Sequence[int], *_: Any) -> torch.Tensor | None:
    return x.new_empty(*x.shape[:2], *size) if x.is_contiguous() and min(size) > 0 else None


# Give shapes at once, or None: PyTorch computes them by dozens of operators.
_AT_ONCE: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.native_batch_norm.default: _batch_norm,
    torch.ops.aten.native_layer_norm.default: _layer_norm,
    torch.ops.aten.upsample_bicubic2d.default: _bicubic,
}


def _is_as_it_was(
    tensor: torch.Tensor, shape: Sequence[int], strides: Sequence[int], offset: int | None = None
) -> bool:
    """Say whether a tensor is laid out as before, but for axes of one element, as pooling does."""
    axes = zip(tensor.shape, shape, tensor.stride(), strides, strict=False)
    return (
        len(shape) == tensor.dim()
        and offset in (None, tensor.storage_offset())
        and all(a == b and (a == 1 or one == other) for a, b, one, other in axes)
    )


@functools.cache
def _name_of(func: Any) -> tuple[str, str]:
    """Return namespace and name, whether or not it works in place."""
    namespace, _, name = str(func.overloadpacket).partition(".")
    return namespace, name.removesuffix("_")


def _shown(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return "T" if value.is_meta else _OWN
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_shown(one)}' for key, one in value.items())}}}"
    return str(value)


class Probe:
    """A module on the meta device.

    Args:
        module: In evaluation mode; not modified.
        channels: Channels of its image.
        extra_inputs: The arguments behind the image, in order.
    """

    def __init__(
        self, module: nn.Module, channels: int, extra_inputs: Sequence[InputSpec] = ()
    ) -> None:
        self._module = module
        self._channels = channels
        self._extra_inputs = tuple(extra_inputs)
        self._dtype = next((p.dtype for p in module.parameters()), torch.float32)
        self._meta = on_meta(module)
        self._runs_on_meta = True
        self._known: dict[tuple[int, Size], _Run | None] = {}

    def accepts(self, size: Size, batch: int = 2) -> bool:
        """Say whether the module takes images of this size.

        A module that does not run on the meta device at all, because it looks at values, runs on
        the CPU.
        """
        return self._taken(batch, size) is not None

    def output_shapes(self, batch: int, size: Size) -> tuple[tuple[int, ...], ...]:
        """Return the shapes of what the module returns; nothing where it refuses the size."""
        found = self._taken(batch, size)
        return found.shapes if found is not None else ()

    def _taken(self, batch: int, size: Size) -> _Run | None:
        found = self._on_meta(batch, size)
        return found if found is not None or self._runs_on_meta else self._on_cpu(batch, size)

    @property
    def is_cheap(self) -> bool:
        """Whether sizes are tried without data, so that the largest ones cost nothing."""
        return self._runs_on_meta

    def refusal(self, size: Size) -> str:
        """Return the module's own words, and where it says them; "" where it takes the size."""
        try:
            self._run(self._inputs(2, size, "meta"))
        except Exception as error:  # the module's own code raises what it likes
            words = " ".join(str(error).split()) or type(error).__name__
            return f"{words[:_MAX_WORDS]}{_place(error)}"
        return ""

    def is_size_free(self, first: tuple[int, Size], second: tuple[int, Size]) -> bool:
        """Say whether a trace at the first (batch, size) holds at the second one, too.

        Where it does, a Reshape that is left in the finished graph may still be wrong; the caller
        looks for it.
        """
        runs = self._on_meta(*first), self._on_meta(*second)
        if runs[0] is None or runs[1] is None:
            return False
        ours, theirs = runs[0].calls, runs[1].calls
        if len(ours) != len(theirs):
            return False
        return all(
            one.operator == other.operator
            and _OWN not in one.numbers
            and (
                one.operator in _SHAPED
                or (one.operator in _SIZE_FREE and one.numbers == other.numbers)
            )
            for one, other in zip(ours, theirs, strict=True)
        )

    def other_size(self, size: Size, wanted: Size) -> Size:
        """Find a second size that the module takes, different both ways where it takes one.

        Args:
            size: The first one.
            wanted: What the second one shall be where the module takes it; larger, or the same
                along an axis that stays as it is.

        Returns:
            A size that may equal `size` along an axis on which the module takes no other.
        """
        self._runs_on_meta = self._on_meta(2, size) is not None
        if self.accepts(wanted, 3):
            return wanted
        more = wanted.height - size.height, wanted.width - size.width
        height = self._last(size, (1, 0), more[0]) if more[0] else 0
        if more[1] and height < 0 and self.accepts(_larger(size, 0, height)):
            width = height  # a side that cannot grow shrinks as the other one does
        else:
            width = self._last(size, (0, 1), more[1]) if more[1] else 0
        while (height or width) and not self.accepts(_larger(size, height, width)):
            height, width = int(height / 2), int(width / 2)  # both at once is too far
        if size.height == size.width and height == width != 0:  # which tell no side from the other
            wider = _larger(size, height, 2 * width)
            return wider if self.accepts(wider) else _larger(size, height, width)
        return _larger(size, height, width)

    def calls(self, size: Size) -> tuple[Call, ...]:
        """Return what the module calls; nothing where it refuses the size, or runs on the CPU."""
        run = self._on_meta(2, size)
        return run.calls if run is not None else ()

    def paddings(self, size: Size) -> tuple[Padded, ...] | None:
        """Return what the module pads; None where it refuses the size, or runs on the CPU."""
        run = self._on_meta(2, size)
        return run.paddings if run is not None else None

    def forget(self, size: Size) -> None:
        """Run the module anew when it is asked of this size again."""
        self._known.pop((2, size), None)

    def _last(self, size: Size, step: tuple[int, int], limit: int) -> int:
        """Return how far one side can grow, or, where it cannot, how far it can shrink."""

        def takes(more: int) -> bool:
            return self.accepts(_larger(size, more * step[0], more * step[1]))

        for stride in STEPS:
            more = _odd_multiple(stride, limit)
            if takes(more):
                # What is computed from the remainder shows where that is another one.
                return next(
                    (o for o in range(more + 1, more + min(stride, _MOST_REMAINDERS)) if takes(o)),
                    more,
                )
        grown = highest(takes, 0, most=limit)
        if grown:
            return grown
        lowest = min(size.height, size.width, limit) - 1
        return -highest(lambda less: takes(-less), 0, most=lowest)

    def _inputs(self, batch: int, size: Size, device: str) -> tuple[torch.Tensor, ...]:
        inputs = example_inputs(self._channels, self._extra_inputs, batch, size, device=device)
        return tuple(tensor.to(self._dtype) for tensor in inputs)

    def _on_meta(self, batch: int, size: Size) -> _Run | None:
        """Run the module; None where it refuses, or does not run on meta."""
        if (batch, size) not in self._known:
            self._known[batch, size] = self._record(batch, size)
        return self._known[batch, size]

    def _record(self, batch: int, size: Size) -> _Run | None:
        inputs, recorder, padding = self._inputs(batch, size, "meta"), _Recorder(), PaddingRecord()
        try:
            with recorder:
                answer = self._run(inputs, padding.functions)
        except Exception:  # the module's own code raises what it likes
            return None
        return _Run(tuple(recorder.calls), _shapes(answer), tuple(padding.calls))

    def _run(self, inputs: tuple[torch.Tensor, ...], *more: FunctionTable) -> object:
        tables = (WHOLE_LOCAL_RESPONSE_NORM, SHAPES_AT_ONCE, SETTLED_FUNCTIONS)
        replaced = ReplacedFunctions(*tables, *more)
        with torch.no_grad(), torch.device("meta"), replaced:
            return self._meta(*inputs)

    def _on_cpu(self, batch: int, size: Size) -> _Run | None:
        try:
            with torch.no_grad():
                answer = self._module(*self._inputs(batch, size, "cpu"))
        except Exception:  # the module's own code raises what it likes
            return None
        return _Run((), _shapes(answer))


def _shape_of(values: object) -> tuple[int, ...]:
    first = values[0] if isinstance(values, tuple) and values else values
    return tuple(first.shape) if isinstance(first, torch.Tensor) else ()


def _shapes(answer: object) -> tuple[tuple[int, ...], ...]:
    if isinstance(answer, torch.Tensor):
        return (tuple(answer.shape),)
    values = tuple(answer.values()) if isinstance(answer, Mapping) else answer
    if not isinstance(values, (tuple, list)):
        return ()
    return tuple(tuple(value.shape) for value in values if isinstance(value, torch.Tensor))


def _place(error: Exception) -> str:
    """Name the file and line of the user's that an exception came from."""
    frames = traceback.extract_tb(error.__traceback__)
    others = {Path(torch.__file__).parent, Path(__file__).parents[1]}  # torch, and what watches it
    own = [f for f in frames[2:] if others.isdisjoint(Path(f.filename).parents)]
    return f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""


def _odd_multiple(step: int, least: int) -> int:
    """Return the first odd multiple of a step that is not below `least`."""
    return step * (-(-least // step) | 1)


def _larger(size: Size, height: int, width: int) -> Size:
    return Size(size.height + height, size.width + width)
