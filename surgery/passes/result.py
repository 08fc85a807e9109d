"""What a pass did."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

__all__ = ["PassResult"]


@dataclass(frozen=True, slots=True)
class PassResult:
    """The outcome of one pass.

    Attributes:
        model: The model that was given, edited in place.
        applied: Whether anything changed.
        nodes: Names of the nodes that were replaced (`#index` for those without a name).
        reason: Why nothing changed; empty where something did.
    """

    model: onnx.ModelProto
    applied: bool
    nodes: tuple[str, ...] = ()
    reason: str = ""
