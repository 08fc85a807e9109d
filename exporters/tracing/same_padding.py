"""Padding that follows the size of the map: TensorFlow's "same".

A network that came from TensorFlow pads each map by as much as its size asks for, computed in
Python: `F.pad(x, …)` before a convolution or a pooling. A trace holds the numbers of one size, and
a second size may well ask for the same ones. So each call is kept whole while tracing, and the
module is then run on the meta device at several sizes: a call that always pads alike is a Pad, or
belongs to the convolution behind it; one that fills each side up to a multiple, for windows, is
computed from the map's shape; one that pads as `auto_pad=SAME_UPPER` would at each of the sizes
becomes that; any other is refused.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Any

import onnx_ir as ir
import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch program gives it
from torch import Tensor, nn

from anysize.exporters.tracing.held_size import HeldSizeError
from anysize.exporters.tracing.initializers import add_initializer
from anysize.exporters.tracing.origin import origin
from anysize.exporters.tracing.placeholder import is_placeholder, placeholder
from anysize.exporters.tracing.replaced_functions import FunctionTable
from anysize.sizes import MAX_SIDE, Size

__all__ = ["Padded", "PaddingRecord", "WholePadding", "step_of", "translate_pad", "write_padding"]

_PAD = "Pad2d"
# How much larger, both ways, the images are at which the module is watched. A map at stride 32 must
# meet odd and even sides, too.
_LARGER = (
    *((1, 33), (2, 17), (3, 9), (17, 1), (33, 2), (9, 5), (49, 20)),
    *((5, 11), (22, 44), (97, 161), (163, 98)),
)
# Where it takes fewer of these than that: one that takes multiples of its stride alone.
_FEWEST = 2
_COARSE = ((32, 96), (64, 32), (96, 160), (160, 64), (224, 448), (448, 224))
# ONNX Runtime 1.31 fuses padding by 0 into a MaxPool behind it, which pads by the lowest number.
# One that is not 0, and far below the rounding of anything else, it leaves alone. In half precision
# the Pad stays in float32, because float16 cannot hold the number.
_NEARLY_ZERO = 1e-30
# What a window sees beyond the border, for which auto_pad stands.
_BEYOND = {"Conv": 0.0, "AveragePool": 0.0, "MaxPool": float("-inf")}


@torch.library.custom_op("anysize::pad2d", mutates_args=())
def _pad2d(maps: Tensor, pads: Sequence[int], value: float, number: int) -> Tensor:
    """Pad `maps`, whose channels may be last, as `F.pad` does."""
    del number
    return F.pad(maps, pads, value=value)


@_pad2d.register_fake
def _(maps: Tensor, pads: Sequence[int], value: float, number: int) -> Tensor:
    del value, number
    starts, ends = _by_axis(pads)
    sides = zip(maps.shape, starts, ends, strict=True)
    return maps.new_empty([side + before + behind for side, before, behind in sides])


def _by_axis(pads: Sequence[int]) -> tuple[list[int], list[int]]:
    """Say of each of four axes what `F.pad` adds before and behind it; it begins with the last."""
    whole = [*pads, *[0] * (8 - len(pads))]
    return whole[-2::-2], whole[::-2]


@dataclass(frozen=True, slots=True)
class Padded:
    """One call: the sides of the map, what is added before and after each, and who called."""

    sides: tuple[int, int]
    before: tuple[int, int]
    after: tuple[int, int]
    caller: int


class PaddingRecord:
    """Writes down each `F.pad` of maps by a constant, while its functions are the ones called.

    It is made where the module is called: what is further out is not told apart.

    Attributes:
        calls: What was padded, in turn; one that crops, or whose sides are symbols, has a turn.
    """

    def __init__(self) -> None:
        self.calls: list[Padded] = []
        self._within = sys._getframe(1).f_code  # noqa: SLF001 - inspect's reads whole sources

    @property
    def functions(self) -> FunctionTable:
        """What is called in place of PyTorch's."""
        return {F.pad: self._pad}

    def _pad(
        self,
        input: Tensor,  # noqa: A002 - the signature of F.pad
        pad: Sequence[Any],
        mode: str = "constant",
        value: float | None = None,
    ) -> Tensor:
        pads = [*pad, 0, 0][:4] if len(pad) == 2 else list(pad)
        is_map = len(pads) == 4 or (len(pads) == 6 and not any(pads[:2]))  # or channels are last
        if mode != "constant" or input.dim() != 4 or not is_map:
            return F.pad(input, pad, mode, value)
        left, right, top, bottom = pads[-4:]
        height, width = input.shape[-len(pads) // 2 :][:2]
        caller = _caller(self._within)
        self.calls.append(Padded((height, width), (top, left), (bottom, right), caller))
        if not all(isinstance(side, int) and side >= 0 for side in pads):
            return F.pad(input, pad, mode, value)
        return self._constant(input, pads, float(value or 0.0))

    def _constant(self, maps: Tensor, pads: list[int], value: float) -> Tensor:
        return F.pad(maps, pads, value=value)


class WholePadding(PaddingRecord):
    """Makes what it writes down one operator, numbered by its turn."""

    def _constant(self, maps: Tensor, pads: list[int], value: float) -> Tensor:
        whole = torch.ops.anysize.pad2d.default
        return whole(maps, pads, value, len(self.calls) - 1)  # type: ignore[no-any-return]


def _caller(within: CodeType) -> int:
    """Tell apart the lines that call, and the layers whose methods they are."""
    found = 0
    for frame, line in traceback.walk_stack(None):
        if frame.f_code is within:
            break
        owner = frame.f_locals.get("self")
        layer = id(owner) if isinstance(owner, nn.Module) else 0
        found = hash((found, id(frame.f_code), line, layer))
    return found


_PLACEHOLDER = placeholder(_PAD, {"pads": "INTS", "value": "FLOAT", "number": "INT"})


def translate_pad(maps: Any, pads: Sequence[int], value: float, number: int) -> Any:
    """Translate the operator for `torch.onnx.export(custom_translation_table=…)`."""
    return _PLACEHOLDER(maps, pads=list(pads), value=value, number=number)


def write_padding(
    model: ir.Model, size: Size, near: Size, padded: Callable[[Size], Sequence[Padded] | None]
) -> None:
    """Replace, in place, every padding of a traced graph by what ONNX has for it.

    Args:
        model: Traced with the functions of `WholePadding`.
        size: What it was traced at.
        near: A size, the same for all traces of a module, than which others are larger.
        padded: Tells what the module pads at a size; None where it refuses it.

    Raises:
        HeldSizeError: A padding depends on the size in another way; layer and line are named.
    """
    nodes = [node for node in model.graph if is_placeholder(node, _PAD)]
    if not nodes:
        return
    first = padded(size)
    if first is None:
        raise HeldSizeError(
            f"{origin(nodes[0])}: pads a map, and by how much at other sizes is not seen, for the "
            "module does not run on tensors without data (torch's meta device)"
        )
    runs = [first, *_elsewhere(near, padded)]
    for node in nodes:
        number = node.attributes.get_int("number", 0)
        alike = [call for calls in runs for call in _again(calls, first, number)]
        _write(node, alike, is_everywhere=len(alike) == len(runs))


def _elsewhere(
    near: Size, padded: Callable[[Size], Sequence[Padded] | None]
) -> Iterator[Sequence[Padded]]:
    """Yield what is padded at larger sizes that the module takes."""
    count = 0
    for down, across in (*_LARGER, *_COARSE):
        if (down, across) == _COARSE[0] and count >= _FEWEST:
            return
        sides = ((near.height, down), (near.width, across))
        calls = padded(Size(*(min(side + more, MAX_SIDE) for side, more in sides)))
        if calls is not None:
            count += 1
            yield calls


def _again(calls: Sequence[Padded], first: Sequence[Padded], number: int) -> Sequence[Padded]:
    """Find a call of the first run in another one; none if its line pads more often or less."""
    caller = first[number].caller
    turn = sum(call.caller == caller for call in first[:number])
    found = [call for call in calls if call.caller == caller]
    is_same = len(found) == sum(call.caller == caller for call in first)
    return [found[turn]] if is_same else []


def _write(node: ir.Node, calls: Sequence[Padded], *, is_everywhere: bool) -> None:
    if is_everywhere and len({(call.before, call.after) for call in calls}) == 1:
        _pad_always(node)
        return
    steps = [_step(calls, axis) for axis in (0, 1)]
    if all(steps):
        _fill_up(node, steps)
        return
    if not is_everywhere:
        raise HeldSizeError(
            f"{origin(node)}: pads at some sizes of the image and not at others; a graph has "
            "one path for all sizes: pad at every size, by 0 where nothing is missing"
        )
    windows = [use.node for use in node.outputs[0].uses()]
    value = node.attributes.get_float("value", 0.0)
    is_same = not node.outputs[0].is_graph_output() and all(
        value == _BEYOND.get(window.op_type) and _pads_like(window, calls) for window in windows
    )
    if not is_same:
        one, other = calls[0], next(call for call in calls if _amount(call) != _amount(calls[0]))
        raise HeldSizeError(
            f"{origin(node)}: pads a map of {one.sides[0]}x{one.sides[1]} by {_amount(one)} and "
            f"one of {other.sides[0]}x{other.sides[1]} by {_amount(other)} (top, left, bottom, "
            "right), which is not the `same` padding of undilated windows that touch, and nothing "
            "else of the kind can be written for every runtime; pad by constants"
        )
    for window in windows:
        window.replace_input_with(0, node.inputs[0])
        window.attributes.pop("pads", None)
        window.attributes.pop("ceil_mode", None)
        window.attributes.add(ir.AttrString("auto_pad", "SAME_UPPER"))
        if window.op_type == "AveragePool":  # PyTorch counted what F.pad had added
            window.attributes.add(ir.AttrInt64("count_include_pad", 1))
    _remove(node)


def _step(calls: Sequence[Padded], axis: int) -> int:
    """Return the step up to whose multiples every call fills an axis from behind, or 0."""
    sides = [call.sides[axis] for call in calls]
    missing = [call.after[axis] for call in calls]
    if any(call.before[axis] for call in calls):
        return 0
    return step_of(sides, missing)


def step_of(sides: Sequence[int], missing: Sequence[int]) -> int:
    """Return the smallest step up to whose multiples sides are filled by what is missing, or 0."""
    for step in range(max(missing) + 1, max(map(sum, zip(sides, missing, strict=True))) + 1):
        if all(-side % step == part for side, part in zip(sides, missing, strict=True)):
            return step
    return 0


def _fill_up(node: ir.Node, steps: Sequence[int]) -> None:
    """Write a padding from behind up to multiples, of the axes that it pads."""
    source, graph = node.inputs[0], node.graph
    assert source is not None
    assert isinstance(graph, ir.Graph)
    first = 4 - len(node.attributes["pads"].as_ints()) // 2
    whole = [1, 1, 1, 1]
    whole[first : first + 2] = steps

    def emitted(op_type: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        made = ir.node(op_type, inputs, attributes)
        made.outputs[0].name = f"{node.name}/{op_type.lower()}"
        made.metadata_props.update(node.metadata_props)
        graph.insert_before(node, made)
        return made.outputs[0]

    def constant(word: str, numbers: list[int]) -> ir.Value:
        return add_initializer(graph, f"{node.name}/{word}", ir.tensor(numbers, ir.DataType.INT64))

    shape, step = emitted("Shape", source), constant("step", whole)
    further = emitted("Add", shape, constant("further", [one - 1 for one in whole]))
    filled = emitted("Mul", emitted("Div", further, step), step)
    missing = emitted("Sub", filled, shape)
    _pad_by(node, emitted("Concat", constant("before", [0] * 4), missing, axis=0))


def _amount(call: Padded) -> tuple[int, ...]:
    return (*call.before, *call.after)


def _pads_like(window: ir.Node, calls: Sequence[Padded]) -> bool:
    """Say whether `auto_pad=SAME_UPPER` of a window adds what every call added."""
    found = window.attributes
    if any(found.get_ints("pads", ())) or found.get_string("auto_pad", "NOTSET") != "NOTSET":
        return False
    shape = window.inputs[1].shape if window.op_type == "Conv" and window.inputs[1] else None
    kernel = list(found.get_ints("kernel_shape", ())) or list(shape.numpy() if shape else ())[2:]
    strides = found.get_ints("strides", (1, 1))
    # ONNX Runtime 1.31: 'Dilation not supported for AutoPadType::SAME_UPPER'.
    if len(kernel) != 2 or any(step != 1 for step in found.get_ints("dilations", ())):
        return False
    for axis in (0, 1):
        span, stride = kernel[axis], strides[axis]
        # Rounding up would add a window, and ONNX Runtime's MaxPool has 'padding values must be
        # non-negative'.
        if span < stride:
            return False
        for call in calls:
            side = call.sides[axis]
            missing = max((-(-side // stride) - 1) * stride + span - side, 0)
            if (call.before[axis], call.after[axis]) != (missing // 2, missing - missing // 2):
                return False
    return True


def _pad_always(node: ir.Node) -> None:
    """Write a padding as numbers: of the convolutions behind it, or of a node of its own."""
    starts, ends = _by_axis(node.attributes["pads"].as_ints())
    result, is_last = node.outputs[0], any(starts[:2] + ends[:2])
    readers = [use.node for use in result.uses()]
    if (
        node.attributes.get_float("value", 0.0) == 0.0
        and not is_last
        and not result.is_graph_output()
        and all(reader.op_type == "Conv" and not reader.domain for reader in readers)
    ):
        for reader in readers:
            own = reader.attributes.get_ints("pads", (0, 0, 0, 0))
            more = zip(own, starts[2:] + ends[2:], strict=True)
            reader.attributes.add(ir.AttrInt64s("pads", [a + b for a, b in more]))
            reader.replace_input_with(0, node.inputs[0])
        _remove(node)
        return
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    numbers = ir.tensor(starts + ends, ir.DataType.INT64)
    _pad_by(node, add_initializer(graph, f"{node.name}/pads", numbers))


def _pad_by(node: ir.Node, pads: ir.Value) -> None:
    """Make a node a Pad by these numbers."""
    readers = [use.node for use in node.outputs[0].uses()]
    value = node.attributes.get_float("value", 0.0)
    if value == 0.0 and any(reader.op_type == "MaxPool" for reader in readers):
        value = _NEARLY_ZERO
    source, graph = node.inputs[0], node.graph
    assert source is not None
    assert isinstance(graph, ir.Graph)
    tensor = ir.tensor(value, source.dtype or ir.DataType.FLOAT)
    node.resize_inputs(3)
    node.replace_input_with(1, pads)
    node.replace_input_with(2, add_initializer(graph, f"{node.name}/value", tensor))
    node.domain, node.op_type = "", "Pad"
    node.attributes.clear()
    node.attributes.add(ir.AttrString("mode", "constant"))


def _remove(node: ir.Node) -> None:
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    graph.remove(node, safe=True)
