"""Records as JSON: sorted keys, sizes as HEIGHTxWIDTH, and numbers that JSON lacks as words.

Those are the strings `"NaN"`, `"Infinity"` and `"-Infinity"`. A record whose class has `JSON_ADDS`
is written with these properties, too.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from anysize.sizes import Size, SizeRange

__all__ = ["as_json"]

# A terminal obeys them, and JSON does not escape them by itself: control characters of eight bits,
# and marks that turn the direction of writing.
_UNSAFE = re.compile("[\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def as_json(value: object) -> str:
    """Write a frozen record, or a sequence or mapping of them."""
    text = json.dumps(
        _encoded(value), indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False
    )
    return _UNSAFE.sub(lambda letter: f"\\u{ord(letter[0]):04x}", text)


def _encoded(value: Any) -> Any:
    if isinstance(value, (Size, Path)):
        return str(value)
    if isinstance(value, SizeRange):
        steps = {"heights": value.heights, "widths": value.widths}
        some = {axis: one.written() for axis, one in steps.items() if not one.is_any}
        return {"minimum": _encoded(value.minimum), "maximum": _encoded(value.maximum), **some}
    if is_dataclass(value):
        names = (*(field.name for field in fields(value)), *getattr(value, "JSON_ADDS", ()))
        return {name: _encoded(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): _encoded(entry) for key, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return [_encoded(entry) for entry in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
