"""Whether a module does at a size what it did where it was traced.

A graph has one path for all sizes. A module that leaves a step out where its map is one window
takes another one there, and a number that both traces have, the ratio of two maps, may be another
at a third size. A graph that answers at such sizes is silently wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

from anysize.exporters.sizes.filling import core_of, unfilled
from anysize.exporters.sizes.paths import NUMBER
from anysize.exporters.sizes.probe import Call, Probe
from anysize.sizes import Size

__all__ = ["OnePath"]

_Calls = Sequence[Call]
_PAD = "constant_pad_nd"


class OnePath:
    """Says of sizes whether a module takes the path there that two traces took.

    Args:
        probe: The module.
        sizes: What the traces were made at.
        has_symbols: Numbers are computed from the image, whatever they are at these sizes.

    Attributes:
        sizes: What the traces were made at.
        other: What the module does instead where it was asked about and does not; "" where it does.
    """

    def __init__(self, probe: Probe, sizes: tuple[Size, Size], *, has_symbols: bool) -> None:
        self._probe = probe
        self.sizes = sizes
        self._traced: list[_Calls] = [probe.calls(size) for size in sizes]
        self._has_symbols = has_symbols
        first, second = map(core_of, self._traced)
        self._is_known = bool(first) and _operators(first) == _operators(second)
        # Which are written for all sizes, or refused (`tracing.same_padding`), but for other calls.
        paddings = sum(call.operator == _PAD for call in self._traced[0])
        self._has_whole_paddings = len(probe.paddings(sizes[0]) or ()) == paddings
        self.other = ""

    def __call__(self, size: Size) -> bool:
        """Say so of one size; of one that could not be looked at, that it does."""
        calls = self._probe.calls(size)
        if not (self._is_known and calls):
            return True
        difference = self._difference(calls)
        if difference and not self.other:
            self.other = f"at {size} it runs {difference}"
        return not difference

    def _difference(self, calls: _Calls) -> str:
        runs = [*self._traced, calls]
        is_filled = any(_operators(run) != _operators(calls) for run in runs)
        if is_filled:
            runs = [core_of(run) for run in runs]
        first, second, third = runs
        pairs = zip(_operators(first), _operators(third), strict=False)
        for one, other in pairs:
            if one != other:
                return f"{other}, where it runs {one} at {self.sizes[0]}"
        if len(first) != len(third):
            return f"{len(third)} operators, and {len(first)} at {self.sizes[0]}"
        if is_filled and (other := unfilled(self._traced, calls)):
            return f"{other} otherwise than at {self.sizes[0]}"
        if self._has_symbols:
            return ""
        for traced in zip(first, second, third, strict=True):
            if self._has_whole_paddings and all(map(_pads, traced)):
                continue
            numbers = [NUMBER.findall(call.numbers) for call in traced]
            for one, same, other in zip(*numbers, strict=False):
                if one == same != other:
                    sizes = " and ".join(map(str, self.sizes))
                    return f"{traced[0].operator} with {other}, and with {one} at {sizes}"
        return ""


def _operators(calls: _Calls) -> list[str]:
    return [call.operator for call in calls]


def _pads(call: Call) -> bool:
    sides = zip(call.given, call.made, strict=True)
    return call.operator == _PAD and all(made >= given for given, made in sides)
