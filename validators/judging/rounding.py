"""Numbers that are written rounded up: a bound that is rounded down is none."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, Decimal

__all__ = ["rounded_up"]

_DIGITS = 3


def rounded_up(number: float, form: str = ".3g") -> str:
    """Write a number from 0 on with three digits, never as a smaller one.

    Args:
        number: What to write.
        form: How, with at least three digits: `.3g`, `.2e`.
    """
    if number == 0.0 or not math.isfinite(number):
        return f"{number:{form}}"
    exact = Decimal(number)
    step = Decimal(1).scaleb(exact.adjusted() - _DIGITS + 1)
    return f"{float(exact.quantize(step, rounding=ROUND_CEILING)):{form}}"
