"""The table of `families.py`: what each way made of each family, and what each runtime said."""

from __future__ import annotations

from collections import Counter
from typing import Any

WAYS = ("anysize", "bare")
RIGHT, HELD, PARTLY, REFUSED, WRONG, CRASHED, UNJUDGED, NOT_RUN = (
    "right",
    "right, sizes held",
    "refuses sizes",
    "refused",
    "wrong",
    "crashed",
    "not judged",
    "not run",
)
VERDICTS = (RIGHT, HELD, PARTLY, REFUSED, WRONG, CRASHED, UNJUDGED, NOT_RUN)
GOOD = (RIGHT, HELD)
COLUMNS = ("family", "network", "sizes", "bare", "s", "anysize", "s", "traced", "ours says")
_NONE: dict[str, Any] = {
    "verdict": NOT_RUN,
    "axes": "",
    "traced": "",
    "seconds": 0.0,
    "message": "",
}
_NONE |= {"cells": {}, "runtimes": {}, "drawn": 0}
Found = dict[str, dict[str, Any]]


def table(found: Found, about: str, where: dict[str, str]) -> str:
    """Draw the summary and one row a family as Markdown."""
    rows = {
        name: one | {way: _NONE | one.get(way, {}) for way in WAYS}
        for name, one in sorted(found.items())
        if any(way in one for way in WAYS)
    }
    lines = ["# Families of networks", "", about, "", *_summary(rows, len(found)), ""]
    lines += [*_behind(rows), "", *_by_runtime(rows), ""]
    lines += [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    lines += [_row(name, one) for name, one in rows.items()]
    facts = ", ".join(f"{key} {value}" for key, value in where.items())
    return "\n".join([*lines, "", f"{facts}.", ""])


def _summary(rows: Found, total: int) -> list[str]:
    bare, ours = (
        Counter(one[way]["verdict"] for one in rows.values()) for way in ("bare", "anysize")
    )
    lines = [f"| {len(rows)} of {total} families | bare | anysize |", "|---|---|---|"]
    lines += [f"| {word} | {bare[word]} | {ours[word]} |" for word in VERDICTS]
    shares = [
        f"{sum(counts[word] for word in GOOD) / max(len(rows) - counts[NOT_RUN], 1):.0%}"
        for counts in (bare, ours)
    ]
    both = [one for one in rows.values() if _all_written(one)]
    seconds = [f"{sum(one[way]['seconds'] for one in both):.0f}" for way in ("bare", "anysize")]
    lines.append(f"| right, of those run | {' | '.join(shares)} |")
    lines.append(f"| seconds where both write all axes | {' | '.join(seconds)} |")
    return lines


def _behind(rows: Found) -> list[str]:
    """Say where the bare exporter is right and ours is not."""
    behind = [
        name
        for name, one in rows.items()
        if one["bare"]["verdict"] in GOOD and one["anysize"]["verdict"] not in (*GOOD, NOT_RUN)
    ]
    unknown = [name for name, one in rows.items() if one["bare"]["verdict"] == NOT_RUN]
    return [
        f"The bare exporter right and ours not: {', '.join(behind) or 'none'}.",
        f"The bare exporter was not run on: {', '.join(unknown) or 'none'}.",
    ]


def _by_runtime(rows: Found) -> list[str]:
    """Say of our files how many cells each runtime has, and which are not good."""
    lines, names = [], {name: one["anysize"] for name, one in rows.items()}
    for runtime in dict.fromkeys(word for one in names.values() for word in one["runtimes"]):
        asked = {name: one["runtimes"].get(runtime) for name, one in names.items()}
        ran = {name: one for name, one in asked.items() if one}
        cells, good = (sum(one[word] for one in ran.values()) for word in ("cells", "good"))
        bad = "; ".join(f"{name}: {one['bad']}" for name, one in ran.items() if one["bad"])
        lines.append(
            f"- Our files on {runtime}: {good} of {cells} cells are good, in {len(ran)} families."
            + (f" The others: {bad}." if bad else "")
        )
    drawn = {name: one["drawn"] for name, one in names.items() if one["drawn"]}
    lines.append(
        f"- {sum(drawn.values())} cases, in {len(drawn)} families, were judged by how far right "
        "float32 answers spread: " + (", ".join(drawn) or "none") + "."
    )
    return lines


def _row(name: str, one: dict[str, Any]) -> str:
    bare, ours = one["bare"], one["anysize"]
    axes = f" ({bare['axes']})" if bare["axes"] == "batch" else ""
    said = ours["message"] or (ours["axes"] if ours["axes"] != "all" else "")
    cells = (
        name,
        one["source"].partition(":")[2],
        ", ".join(one["sizes"]),
        bare["verdict"] + axes,
        f"{bare['seconds']:.0f}",
        ours["verdict"],
        f"{ours['seconds']:.0f}",
        ours["traced"],
        said.replace("|", "\\|")[:160],
    )
    return f"| {' | '.join(cells)} |"


def _all_written(one: dict[str, Any]) -> bool:
    """Say whether both ways wrote a file with the same free axes."""
    return all(one[way]["cells"] for way in WAYS) and one["bare"]["axes"] == "all"
