"""The one call into torch.onnx: a static trace of a module at one batch and size."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch
from torch import nn

from anysize.errors import ExportError
from anysize.exporters.inputs import InputSpec, example_inputs, in_order
from anysize.exporters.sides import refuse_other_sides
from anysize.exporters.tracing.batch_norm import batch_norm_translations
from anysize.exporters.tracing.constant_weights import fold_weights
from anysize.exporters.tracing.layer_names import name_layers
from anysize.exporters.tracing.local_response_norm import WHOLE_LOCAL_RESPONSE_NORM
from anysize.exporters.tracing.placeholders import translation_table
from anysize.exporters.tracing.plain_functions import PLAIN_FUNCTIONS
from anysize.exporters.tracing.ranges import optimise
from anysize.exporters.tracing.recurrent import recurrent_translations
from anysize.exporters.tracing.replaced_functions import ReplacedFunctions
from anysize.exporters.tracing.same_padding import WholePadding
from anysize.exporters.tracing.symbolic_functions import STATIC_FUNCTIONS, SYMBOLIC_FUNCTIONS
from anysize.exporters.tracing.translations import operators_listed_once
from anysize.sizes import Size

__all__ = ["Trace", "trace"]


_AXES = {0: "batch", 2: "height", 3: "width"}


@dataclass(frozen=True, slots=True)
class Trace:
    """A static graph and what it was traced at.

    Attributes:
        model: The graph; its weights are the module's own tensors, not copies.
        batch: Images in the example input.
        size: Height and width of the example input, in pixels.
    """

    model: ir.Model
    batch: int
    size: Size


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch.onnx says about itself; what it raises still comes through."""
    # torch.export and its kin log tracebacks of errors that they raise as well.
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _dynamic_shapes(
    extra_inputs: Sequence[InputSpec], free: Collection[str]
) -> tuple[dict[int, Any], ...]:
    """Say which axes of each input are symbols; an input's own symbols always are."""
    auto = torch.export.Dim.AUTO
    image = {axis: auto for axis, word in _AXES.items() if word in free}
    fixed = set(_AXES.values()) - set(free)

    def of(spec: InputSpec) -> dict[int, Any]:
        return {axis: auto for axis, word in spec.symbols.items() if word not in fixed}

    return in_order(image, extra_inputs, of)


def _root_cause(error: BaseException) -> str:
    """Return the innermost message: torch.onnx wraps it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0].rstrip(".") if lines else "no message"
    return f"{type(error).__name__}: {text}"


def _way_out(module: nn.Module, cause: str, channels: int) -> str:
    """Say what may help, of the channels where it is about those, else of the size."""
    if "channels" not in cause:
        return "if it was trained at another size, give --size HEIGHTxWIDTH"
    if isinstance(getattr(module, "channels", None), int):
        return f"its attribute `channels` says that its images have {channels}"
    return f"if its images have not {channels} channels, give it an attribute `channels`"


def trace(
    module: nn.Module,
    size: Size,
    *,
    batch: int,
    channels: int,
    opset: int,
    output_names: Sequence[str],
    extra_inputs: Sequence[InputSpec] = (),
    free: Collection[str] = (),
) -> Trace:
    """Trace `module` in evaluation mode on an image of (batch, channels, height, width).

    `extra_inputs` stand beside the image as positional arguments. The axes `free` of the image, of
    `batch`, `height` and `width`, are symbols; all axes are numbers where there are none.

    Weights are not copied. Operators that torch.onnx would hard-code stay as placeholders, see
    `anysize.exporters.tracing.placeholders`.

    Raises:
        ExportError: torch.onnx cannot trace the module, or not with these axes as symbols, or the
            module refuses the size.
    """
    parameter = next(module.parameters(), None)
    dtype = torch.float32 if parameter is None else parameter.dtype
    examples = tuple(
        value.to(dtype) for value in example_inputs(channels, extra_inputs, batch, size)
    )
    arguments: dict[str, Any] = {
        "dynamo": True,
        "verbose": False,
        "optimize": False,
        "opset_version": opset,
        "input_names": list(in_order("input", extra_inputs, lambda spec: spec.name)),
        "output_names": list(output_names),
        "custom_translation_table": translation_table()
        | batch_norm_translations()
        | recurrent_translations(),
    }
    if free:
        arguments["dynamic_shapes"] = _dynamic_shapes(extra_inputs, free)
    try:
        with (
            _quiet(),
            operators_listed_once(),
            torch.no_grad(),
            ReplacedFunctions(
                WHOLE_LOCAL_RESPONSE_NORM,
                PLAIN_FUNCTIONS,
                WholePadding().functions,
                SYMBOLIC_FUNCTIONS if free else STATIC_FUNCTIONS,
            ),
        ):
            program = torch.onnx.export(module, examples, **arguments)
        if program is not None:
            optimise(program.model)
    except Exception as error:
        if free:
            raise ExportError(f"torch.export cannot: {_root_cause(error)}") from error
        refuse_other_sides(module)
        cause = _root_cause(error)
        raise ExportError(
            f"torch.onnx cannot trace {type(module).__name__} at {batch}×{channels}×{size}: "
            f"{cause}; {_way_out(module, cause, channels)}"
        ) from error
    if program is None:  # documented for dynamo=False only
        raise ExportError(f"torch.onnx returned no graph for {type(module).__name__}")
    for axis, word in _AXES.items():
        (image,) = (value for value in program.model.graph.inputs if value.name == "input")
        length = (image.shape or ())[axis]
        if word in free and isinstance(length, int):
            raise ExportError(
                f"torch.export takes the {word} for {length}, whatever the image's is"
            )
    parameters = (*module.named_parameters(), *module.named_buffers())
    name_layers(program.model, [name for name, _ in parameters])
    fold_weights(program.model)
    return Trace(program.model, batch, size)
