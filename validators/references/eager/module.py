"""The eager `nn.Module` as the reference: what PyTorch itself computes."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anysize.errors import NotRunError, SourceError
from anysize.inference import refuse_unready
from anysize.sizes import Size
from anysize.validators.references.eager.exact_products import exact_products
from anysize.validators.references.protocol import (
    Perturbed,
    Precision,
    Recorded,
    Rejected,
    number_type,
)
from anysize.words import WITHOUT_ARBITER, one_line

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "ModuleFc",
    "ModulePair",
    "ModuleReference",
    "module_device",
    "module_name",
    "own_output_names",
    "own_training_size",
]

Array = NDArray[np.generic]


class ModulePair:
    """A module and its float64 copy, which is made when it is first needed.

    The module itself is only run, never changed.

    Args:
        module: A float32 module in evaluation mode.

    Raises:
        SourceError: The module is in training mode, or its parameters are not float32.
    """

    def __init__(self, module: nn.Module, *, name: str) -> None:
        refuse_unready(module, f"reference {name}", error=SourceError)
        self.name = name
        self._float32 = module
        self._float64: nn.Module | None = None

    def call(
        self,
        arrays: tuple[Array, ...],
        precision: Precision,
        *,
        method: Callable[[Any], Callable[..., Any]],
    ) -> Any | Rejected:
        """Run `method(module)` on arrays cast to `precision`.

        Returns:
            What the module returns, or `Rejected` where it raises.

        Raises:
            NotRunError: The memory is exhausted, which is no property of the size.
            SourceError: The module takes other inputs.
        """
        import torch

        module = self._in(precision)
        device = next((p.device for p in module.parameters()), torch.device("cpu"))
        tensors = [torch.from_numpy(_copied(array, precision)).to(device) for array in arrays]
        _refuse_other_arguments(method(module), tensors, self.name)
        try:
            with _computing(precision), _recording(module, tensors, precision):
                return method(module)(*tensors)
        except SourceError:  # of whoever watches the call
            raise
        except SystemExit as exc:
            raise SourceError(f"reference {self.name}: ends the program, by sys.exit()") from exc
        except Exception as exc:  # a module checks its input in whatever way it likes
            if _is_out_of_memory(exc):
                raise NotRunError(
                    f"reference {self.name}: out of memory at {list(arrays[0].shape)}; give "
                    f"smaller --sizes or --batches ({one_line(exc)})"
                ) from exc
            return Rejected(one_line(exc))

    def close(self) -> None:
        """Drop the float64 copy."""
        self._float64 = None

    def _in(self, precision: Precision) -> nn.Module:
        if number_type(precision) == "float32":
            return self._float32
        if self._float64 is None:
            from anysize.validators.references.eager.double import doubled

            try:
                self._float64 = doubled(self._float32)
            except (RuntimeError, TypeError, ValueError) as exc:
                raise SourceError(
                    f"reference {self.name}: cannot be copied to float64 "
                    f"({one_line(exc)}){WITHOUT_ARBITER}"
                ) from exc
        return self._float64


class ModuleReference:
    """An `nn.Module` that returns a tensor, a tuple or list of tensors, or a dict of them.

    Args:
        module: A float32 module in evaluation mode.
        name: How reports call it; the module's own `name`, or its class, by default.
        output_names: Names for several outputs; the module's own `output_names` by default, and
            the keys where it returns a dict.

    Raises:
        SourceError: The module is in training mode, or not in float32.
    """

    kind = "module"

    def __init__(
        self,
        module: nn.Module,
        *,
        name: str = "",
        output_names: tuple[str, ...] | None = None,
    ) -> None:
        self.name = name or module_name(module)
        self.output_names = output_names or own_output_names(module)
        self._pair = ModulePair(module, name=self.name)

    def run(
        self, inputs: Mapping[str, Array], precision: Precision
    ) -> tuple[Array, ...] | Rejected:
        """Run the module on the inputs, by position.

        Raises:
            SourceError: It returns something else than tensors.
            NotRunError: The memory is exhausted.
        """
        answer = self._pair.call(tuple(inputs.values()), precision, method=lambda module: module)
        if isinstance(answer, Rejected):
            return answer
        if isinstance(answer, Mapping):
            self.output_names = tuple(str(key) for key in answer)
        return to_arrays(answer, self.name)

    def close(self) -> None:
        """Drop the float64 copy."""
        self._pair.close()


class ModuleFc:
    """A module with an FC head in two halves: `forward_features` and `forward_head`.

    Args:
        module: Has both methods, and `map_size`: the map that its head takes.
        name: How reports call it.

    Raises:
        SourceError: The module is in training mode, not in float32, or has no such halves.
    """

    def __init__(self, module: nn.Module, *, name: str = "") -> None:
        self.name = name or module_name(module)
        map_size = getattr(module, "map_size", None)
        halves = ("forward_features", "forward_head")
        if map_size is None or not all(hasattr(module, half) for half in halves):
            raise SourceError(
                f"reference {self.name}: has no map_size, forward_features and forward_head; the "
                "window proof needs a model with head fc"
            )
        self.window = (map_size.height, map_size.width)
        self._pair = ModulePair(module, name=self.name)

    def features(self, images: Array, precision: Precision) -> Array | Rejected:
        """Compute the feature map of images of any size that the features take."""
        answer = self._pair.call((images,), precision, method=lambda m: m.forward_features)
        return answer if isinstance(answer, Rejected) else to_arrays(answer, self.name)[0]

    def head(self, windows: Array, precision: Precision) -> tuple[Array, ...]:
        """Run the fully connected layers on windows of a feature map."""
        answer = self._pair.call((windows,), precision, method=lambda m: m.forward_head)
        if isinstance(answer, Rejected):
            raise SourceError(
                f"reference {self.name}: its head rejects a window of {list(windows.shape)}: "
                f"{answer.reason}"
            )
        return to_arrays(answer, self.name)

    def scores(self, windows: Array, precision: Precision) -> tuple[Array, ...]:
        """Run the head: a module's scores are its outputs."""
        return self.head(windows, precision)

    def finish(self, scores: tuple[Array, ...], precision: Precision) -> tuple[Array, ...]:  # noqa: ARG002
        """Return the scores: nothing comes after them."""
        return scores

    def close(self) -> None:
        """Drop the float64 copy."""
        self._pair.close()


@contextlib.contextmanager
def _computing(precision: Precision) -> Iterator[None]:
    """Compute in `precision`, whatever this process allows itself elsewhere."""
    import torch

    from anysize.validators.references.eager.double import double_precision

    noise: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if isinstance(precision, Perturbed):
        from anysize.validators.references.eager.perturbing import Perturbing

        noise = Perturbing(precision.draw)
    with (
        torch.inference_mode(),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
        double_precision() if number_type(precision) == "float64" else exact_products(),
        noise,
    ):
        yield


def _recording(
    module: nn.Module, tensors: Sequence[Any], precision: Precision
) -> contextlib.AbstractContextManager[object]:
    """Write down what the module makes of the tensors, where `precision` asks for that."""
    if not isinstance(precision, Recorded):
        return contextlib.nullcontext()
    from anysize.validators.references.eager.recording import recording

    return recording(module, tensors, precision.folder)


def to_arrays(answer: Any, name: str) -> tuple[Array, ...]:
    """Normalise a tensor, a sequence of tensors or a dict of them to a tuple of arrays."""
    import torch

    if isinstance(answer, torch.Tensor):
        values: tuple[Any, ...] = (answer,)
    elif isinstance(answer, Mapping):
        values = tuple(answer.values())
    elif isinstance(answer, (tuple, list)):
        values = tuple(answer)
    else:
        values = (answer,)
    arrays = []
    for value in values:
        if not isinstance(value, torch.Tensor):
            raise SourceError(
                f"reference {name}: returns {type(value).__name__}, expected a tensor, or a flat "
                "tuple or dict of tensors"
            )
        try:
            arrays.append(value.detach().cpu().resolve_conj().resolve_neg().numpy().copy())
        except (TypeError, RuntimeError) as exc:  # bfloat16, sparse, quantised
            kind = str(value.dtype).removeprefix("torch.")
            raise SourceError(
                f"reference {name}: returns a tensor that NumPy cannot hold ({kind}, "
                f"{str(value.layout).removeprefix('torch.')}); let it return .float()"
            ) from exc
    return tuple(arrays)


def module_name(module: nn.Module) -> str:
    """Return a module's own name, or that of its class."""
    own = getattr(module, "name", None)
    return own if isinstance(own, str) and own else type(module).__name__


def own_output_names(module: nn.Module) -> tuple[str, ...] | None:
    """Return the names that a module has for its outputs in `output_names`, if it has any."""
    names = getattr(module, "output_names", None)
    is_list = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
    return tuple(names) if is_list and names else None


def own_training_size(module: object) -> Size | None:
    """Return the size that a module says it was made for, in `training_size`: Size, (h, w) or n."""
    declared = getattr(module, "training_size", None)
    sides = (declared, declared) if isinstance(declared, int) else declared
    if isinstance(sides, (list, tuple)) and len(sides) == 2 and {*map(type, sides)} == {int}:
        return Size(*sides)
    return declared if isinstance(declared, Size) else None


def module_device(original: object) -> str:
    """Name what a module computes on; `cpu` for an original that is none."""
    parameters = getattr(original, "parameters", None)
    first = next(parameters(), None) if callable(parameters) else None
    return "cpu" if first is None else str(first.device.type)


def _copied(array: Array, precision: Precision) -> Array:
    """Cast a floating-point array; a module may write to what it is given."""
    is_floating = np.issubdtype(array.dtype, np.floating)
    return np.array(array, number_type(precision) if is_floating else array.dtype, order="C")


def _refuse_other_arguments(called: Callable[..., Any], tensors: Sequence[Any], name: str) -> None:
    """Tell a file with other inputs than the module from an error inside the module."""
    forward = getattr(called, "forward", called)
    try:
        inspect.signature(forward).bind(*tensors)
    except TypeError as exc:
        raise SourceError(
            f"reference {name}: cannot be called with {len(tensors)} input(s), which is what the "
            f"file takes ({one_line(exc)})"
        ) from exc
    except ValueError:  # what is compiled has no signature
        return


def _is_out_of_memory(exc: Exception) -> bool:
    import torch

    if isinstance(exc, (MemoryError, torch.OutOfMemoryError)):
        return True
    words = str(exc)  # the CPU allocator raises a plain RuntimeError
    return "DefaultCPUAllocator" in words or "not enough memory" in words
