"""Every sabotage of the catalogue is red with the right verdict; its healthy twin is green."""

from __future__ import annotations

from pathlib import Path

import pytest
from sabotage.bench import Bench
from sabotage.catalogue import CATALOGUE
from sabotage.findings_elsewhere import ENTRIES, TWINS_UNFIT
from sabotage.twins import TWINS

from anysize.validators import Verdict

PAGE = Path(__file__).parents[2] / "docs" / "sabotage.md"


@pytest.fixture(scope="session")
def bench(runtime, tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("sabotage"), runtime)
    yield bench
    bench.close()


@pytest.mark.parametrize("twin", TWINS)
def test_a_healthy_twin_is_green(bench, twin):
    report = bench.healthy(twin)
    unfit = TWINS_UNFIT.get((bench.runtime.name, twin))
    allowed = (Verdict.PASS, Verdict.REJECTED, *(unfit.verdicts if unfit else ()))
    found = [f"{c}: {c.verdict} {c.message}" for c in report.cells if c.verdict not in allowed]
    assert not found, "\n".join(found)
    assert report.ok is (unfit is None)


@pytest.mark.parametrize(
    "entry", [pytest.param(entry, id=entry.name.replace(" ", "-")) for entry in CATALOGUE]
)
def test_a_sabotage_is_red_where_it_is_wrong_and_nowhere_else(bench, entry):
    name = bench.runtime.name
    if (name, entry.twin) in TWINS_UNFIT:
        pytest.skip(f"{entry.twin} on {name}: {TWINS_UNFIT[name, entry.twin].reason}")
    healthy = bench.healthy(entry.twin, entry.sizes)
    elsewhere = ENTRIES.get((name, entry.name))
    at = elsewhere.at if elsewhere and elsewhere.at else entry.at
    verdicts = elsewhere.verdicts if elsewhere else (entry.verdict,)
    report = bench.wrong(entry)
    found = []
    for before, cell in zip(healthy.cells, report.cells, strict=True):
        is_legal = before.verdict is Verdict.PASS or entry.verdict is Verdict.ACCEPTED
        is_wrong = is_legal and at(cell.size, cell.batch)
        expected = verdicts if is_wrong else (before.verdict,)
        if cell.verdict not in expected:
            names = " or ".join(expected)
            found.append(f"{cell}: {cell.verdict}, expected {names}: {cell.message}")
        if is_wrong and elsewhere is None:
            missing = [words for words in entry.words if words not in cell.message]
            found += [f"{cell}: no {words!r} in {cell.message!r}" for words in missing]
    assert not found, "\n".join(found)
    is_seen = verdicts not in ((Verdict.PASS,), (Verdict.REJECTED,))
    assert (report.exit_code != 0) is is_seen


@pytest.mark.parametrize(
    "entry", [pytest.param(entry, id=entry.name.replace(" ", "-")) for entry in CATALOGUE]
)
def test_a_sabotage_is_red_at_the_sizes_of_auto(bench, entry):
    if bench.runtime.name != "ort-cpu":
        pytest.skip("the sizes are the same ones on each runtime")
    report = bench.wrong(entry, "auto")
    assert report.exit_code == (3 if entry.verdict is Verdict.FALLBACK else 1)


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(entry, id=entry.name.replace(" ", "-"))
        for entry in CATALOGUE
        if entry.name != "NaN at one size"  # one that is not tried, where every image counts
    ],
)
def test_a_sabotage_of_a_heavy_network_is_red_at_the_sizes_of_quick(bench, entry, monkeypatch):
    if bench.runtime.name != "ort-cpu":
        pytest.skip("the sizes are the same ones on each runtime")
    monkeypatch.setattr("anysize.validators.inputs.quick._AFFORDABLE", 0)
    report = bench.wrong(entry, "quick")
    assert report.exit_code == (3 if entry.verdict is Verdict.FALLBACK else 1)


def test_the_catalogue_has_each_name_once():
    names = [entry.name for entry in CATALOGUE]
    assert len(names) == len(set(names)) >= 25
    assert {name for _, name in ENTRIES} <= set(names)
    assert {twin for _, twin in TWINS_UNFIT} <= set(TWINS)


def test_the_page_lists_the_catalogue():
    rows = [f"| {entry.name} | {entry.what} | `{entry.verdict}` |" for entry in CATALOGUE]
    page = PAGE.read_text(encoding="utf-8")
    table = [line for line in page.splitlines() if line.startswith("| ")][1:]
    assert table == rows
