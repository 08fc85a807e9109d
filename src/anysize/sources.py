"""SOURCE, as the command line writes it: how a text names a model, without loading any."""

from __future__ import annotations

import json
from collections.abc import Mapping

from anysize.errors import UsageError

__all__ = ["canonical_source", "is_of_zoo", "model_args"]

_MOST_SHOWN = 60


def canonical_source(text: str) -> str:
    """Write a dotted SOURCE, `package.module.name`, as `package.module:name`; others stay.

    The others are a name of the zoo, `torchvision:NAME`, `timm:NAME` and `folder/file.py:name`.

    Raises:
        UsageError: The text is a Python file without a name in it.
    """
    if ":" in text or "." not in text:
        return text
    if text.endswith(".py"):
        raise UsageError(f"model {text!r}: say which model in it is meant, {text}:NAME")
    module, _, name = text.rpartition(".")
    return f"{module}:{name}"


def is_of_zoo(source: str) -> bool:
    """Whether a SOURCE is meant as a name of the zoo, known or not."""
    return ":" not in canonical_source(source)


def model_args(text: str | None) -> Mapping[str, object]:
    """Read the arguments that a SOURCE is called with, a JSON object; none for None.

    Raises:
        UsageError: It is none.
    """
    if text is None:
        return {}
    try:
        read = json.loads(text)
    except (ValueError, RecursionError) as exc:
        read = exc
    if not isinstance(read, dict):
        raise UsageError(
            f"--model-args {text[:_MOST_SHOWN]!r}: expected a JSON object such as "
            """'{"num_classes": 12}'"""
        )
    return read
