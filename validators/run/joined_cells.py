"""One cell of several runs: up and down the sizes, on brighter images, on other providers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from anysize.validators.inputs import AMPLIFICATION
from anysize.validators.judging import Verdict
from anysize.validators.report import Cell, RuntimeRecord
from anysize.words import cleaned

__all__ = ["DEAD", "blame_fallback", "differs", "join_amplified", "merge_directions"]

Array = NDArray[np.generic]

DEAD: Final = (Verdict.CRASHED, Verdict.TIMEOUT)


def merge_directions(up: Cell, down: Cell) -> Cell:
    """Join both directions: they must agree, and the worse numbers of the two are reported."""
    times = [cell.run_s for cell in (up, down) if cell.run_s is not None]
    run_s = min(times, default=None)
    if down.verdict in DEAD:
        return replace(down, run_s=run_s)
    if up.verdict is not down.verdict:
        bad = up if not up.is_good else down
        message = (
            f"{up.verdict} while sizes ascended, {down.verdict} while they descended, on one "
            f"session: the answer depends on what ran before{': ' if bad.message else ''}"
            f"{bad.message}"
        )
        return replace(bad, verdict=Verdict.MISMATCH, message=message, run_s=run_s)
    worse = max((up, down), key=lambda cell: cell.ratio)
    return replace(worse, run_s=run_s)


def join_amplified(cell: Cell, amplified: Cell) -> Cell:
    """A good cell whose graph or session goes wrong on brighter images is none."""
    if amplified.is_good or not cell.is_good:
        return cell
    message = f"on other images, {AMPLIFICATION:g} times as bright: {amplified.message}"
    return replace(amplified, message=message, is_bright=True, run_s=cell.run_s)


def differs(first: tuple[Array, ...], second: Mapping[str, Array], cell: Cell) -> str:
    """Say where the second answer leaves the first one by more than the error budget."""
    for before, (name, after), result in zip(first, second.items(), cell.outputs, strict=True):
        if np.array_equal(before, after, equal_nan=before.dtype.kind == "f"):
            continue
        deviation = result.deviation
        with np.errstate(all="ignore"):
            distance = np.abs(before.astype(np.float64) - after.astype(np.float64))
        moved = float(np.max(distance, where=np.isfinite(distance), initial=0.0))
        allowed = deviation.budget * max(deviation.scale, 0.0)
        if moved > max(allowed, deviation.needed_atol) or before.shape != after.shape:
            return (
                f"output {name!r} moved by {moved:.2e} between two runs on the same images, "
                f"expected at most {allowed:.2e}: the answer depends on what ran before"
            )
    return ""


def blame_fallback(cell: Cell, record: RuntimeRecord) -> Cell:
    """A good cell that another provider computed is none."""
    nodes = record.provenance.fallback_nodes
    if not nodes or not cell.is_good:
        return cell
    named = ", ".join(map(cleaned, nodes[:3])) + (
        f" and {len(nodes) - 3} more" if len(nodes) > 3 else ""
    )
    return replace(cell, verdict=Verdict.FALLBACK, message=f"not on {record.name}: {named}")
