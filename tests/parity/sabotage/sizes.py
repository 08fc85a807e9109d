"""Graphs that are wrong at some sizes: guards that do not hold, and values that go wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sabotage.entry import Sabotage
from sabotage.graph import Graph

from anysize.sizes import Size, SizeRange, Steps
from anysize.surgery import guard_steps, read_metadata, write_metadata
from anysize.validators import Verdict

__all__ = ["SIZES"]

SMALLEST = Size(16, 16)
GUARD, MAP_GUARD = "anysize_min_size", "anysize_map_size"


def unguarded(graph: Graph, guard: str = GUARD, guarded: str = "input") -> None:
    """Take what the guard was to check."""
    graph.rename(f"{guard}_checked", guarded)
    kept = [node for node in graph.model.graph.node if not node.name.startswith(guard)]
    graph.model.graph.ClearField("node")
    graph.model.graph.node.extend(kept)


def folded_in_fc(graph: Graph) -> None:
    """Flatten by Reshape to [-1, K], without a guard."""
    unguarded(graph, MAP_GUARD, "features.5")
    flatten = graph.node("Flatten")
    flatten.op_type = "Reshape"
    flatten.ClearField("attribute")
    flatten.input.append(graph.integers(-1, 16 * 5 * 5))


def guarded_from(side: int) -> Callable[[Graph], None]:
    def spoil(graph: Graph) -> None:
        graph.replace(f"{GUARD}_size", np.asarray([side, side]))
        graph.replace(f"{GUARD}_twice", np.asarray([2 * side, 2 * side]))

    return spoil


def even_alone(graph: Graph) -> None:
    """Refuse odd sides, and say so."""
    few = SizeRange(SMALLEST, None, Steps(2), Steps(2))
    guard_steps(graph.model, few)
    write_metadata(graph.model, read_metadata(graph.model).with_sizes(few))


def fixed(graph: Graph) -> None:
    """The image's axes are those of the training size."""
    for axis in graph.model.graph.input[0].type.tensor_type.shape.dim[2:]:
        axis.dim_value = 32


def where(is_wrong: Callable[[Graph, str, str], str], wrong: float) -> Callable[[Graph], None]:
    """Multiply the logits by `wrong` at some sizes."""

    def spoil(graph: Graph) -> None:
        def build(logits: str) -> str:
            sides = graph.add("Shape", "input", start=2)
            height = graph.add("Gather", sides, graph.constant(0, np.int64))
            width = graph.add("Gather", sides, graph.constant(1, np.int64))
            factors = graph.constant(wrong), graph.constant(1.0)
            factor = graph.add("Where", is_wrong(graph, height, width), *factors)
            return graph.add("Mul", logits, factor)

        graph.splice("logits", build)

    return spoil


def at_48(graph: Graph, height: str, _: str) -> str:
    return graph.add("Equal", height, graph.constant(48, np.int64))


def when_large(graph: Graph, height: str, width: str) -> str:
    area = graph.add("Mul", height, width)
    return graph.add("Greater", area, graph.constant(32 * 32, np.int64))


def when_wide(graph: Graph, height: str, width: str) -> str:
    return graph.add("Greater", width, height)


def below(size: Size, batch: int) -> bool:
    return size.height < SMALLEST.height


SIZES = (
    Sabotage(
        "no size guard",
        "lenet-gap",
        "answers below the smallest size",
        Verdict.ACCEPTED,
        unguarded,
        at=below,
        words=("runtime answers with",),
    ),
    Sabotage(
        "space folded into batch of FC",
        "lenet-fc",
        "Reshape to [-1, K] for Flatten, and no guard",
        Verdict.ACCEPTED,
        folded_in_fc,
        at=lambda size, _: size == Size(52, 32),
        words=("runtime answers with logits [",),
        # After one that does not fit, as 36x32, OpenVINO fails at legal sizes, too.
        sizes=(Size(32, 32), Size(35, 33), Size(52, 32)),
    ),
    Sabotage(
        "guard off by one",
        "lenet-gap",
        "takes one row less than it may",
        Verdict.ACCEPTED,
        guarded_from(15),
        at=below,
        words=("runtime answers with",),
    ),
    Sabotage(
        "guard too strict",
        "lenet-gap",
        "refuses the smallest size",
        Verdict.ERROR,
        guarded_from(17),
        at=lambda size, _: size == SMALLEST,
    ),
    Sabotage(
        "too few sizes declared",
        "lenet-gap",
        "refuses odd sides, and says so",
        Verdict.ERROR,
        even_alone,
        at=lambda size, _: size.width % 2 == 1,
        words=("the reference takes 40x29", "the file declares sizes 16x16 and up, multiples of 2"),
        sizes=(SMALLEST, Size(32, 32), Size(40, 29)),
    ),
    Sabotage(
        "fixed size",
        "lenet-gap",
        "takes the training size alone",
        Verdict.ERROR,
        fixed,
        at=lambda size, _: size not in (Size(15, 16), Size(32, 32)),
    ),
    Sabotage(
        "NaN at one size",
        "lenet-cam",
        "logits are NaN at 48 rows",
        Verdict.MISMATCH,
        where(at_48, np.nan),
        at=lambda size, _: size.height == 48,
        words=("output 'logits'", "got nan", "only one of them is finite"),
        sizes=(SMALLEST, Size(32, 32), Size(48, 32)),
    ),
    Sabotage(
        "wrong when large",
        "lenet-cam",
        "logits × 1.001 above the training size",
        Verdict.MISMATCH,
        where(when_large, 1.001),
        at=lambda size, _: size.area > 1024,
        words=("output 'logits'",),
    ),
    Sabotage(
        "wrong when wide",
        "lenet-spp",
        "logits × 1.001 where width exceeds height",
        Verdict.MISMATCH,
        where(when_wide, 1.001),
        at=lambda size, _: size.width > size.height,
        words=("output 'logits'",),
    ),
)
