"""The record of a diagnosis: who is wrong, and where it begins."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Culprit", "Diagnosis"]


class Culprit(StrEnum):
    """What a failing cell is to be blamed on."""

    RUNTIME = "runtime"
    GRAPH = "graph"
    OPTIMISATION = "optimisation"
    STATE = "state"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Where a runtime leaves what the graph means.

    Attributes:
        culprit: `runtime` computes a node wrong; the `graph` is not what the reference is, and
            what runs it agrees with it; an `optimisation` of the runtime is wrong, since it is
            right where intermediate tensors are asked for; the answer depends on the session's
            `state`; or `unknown`.
        text: The same in one line.
        node: Name of the first node that is wrong; "" where none is.
        operator: Operator of that node.
        tensor: The output that is shown.
        shape: Of that output, as the graph means it; () for a scalar or where there is none.
        error: The largest error of that tensor, relative to its largest value.
        budget: What the error may be there.
        inputs: The `.npz` file that the failing input was saved to; "" where it was not.
        layer: What the first wrong tensor should be: the module's layer, or the original graph's
            tensor; "" where that is not known.
        runtimes: All that ran, where they give one and the same wrong answer, which this is about;
            () where it is about one of them.
    """

    culprit: Culprit
    text: str
    node: str = ""
    operator: str = ""
    tensor: str = ""
    shape: tuple[int, ...] = ()
    error: float = 0.0
    budget: float = 0.0
    inputs: str = ""
    layer: str = ""
    runtimes: tuple[str, ...] = ()
