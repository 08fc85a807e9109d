"""Stories of failing cells: numbers that are true, one story for each way to fail, and no more."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from anysize.sizes import Size
from anysize.validators import Report, Verdict, join, validate_model
from anysize.validators.judging.parity import OutputResult
from anysize.validators.judging.rounding import rounded_up
from anysize.validators.report import Culprit, Diagnosis
from anysize.validators.report.fitting import Block, fit
from anysize.validators.report.levels import ratio_text
from anysize.validators.report.plots import latency_plot
from anysize.validators.report.story import group_failing, needed_atol, tell, tolerance_text
from anysize.validators.report.table import report_table

# GitHub's for a comment is 65,536.
MARKDOWN_LIMIT = 60_000


@pytest.fixture(scope="module")
def bad(tmp_path_factory, request) -> Report:
    """Ten mismatches by a scaled output, whose needed tolerance is small."""
    tiny = request.getfixturevalue("tiny_in")(tmp_path_factory.mktemp("stories"))

    def scale(graph, logits):
        return graph.add("Mul", logits, graph.constant(1.001))

    sizes = [Size(height, width) for height in (8, 9) for width in (8, 9)] + [Size(7, 8)]
    report = validate_model(tiny.fc_file(tiny.fc(), tail=scale), tiny.fc(), sizes=sizes)
    cells = tuple(replace(cell, diagnosis=None) for cell in report.cells)
    reference = replace(report.reference, argument="made:tiny")
    return replace(report, cells=cells, reference=reference)


def failing(report: Report) -> list:
    return [cell for cell in report.cells if not cell.is_good]


def many(report: Report, count: int, change=lambda number, cell: cell) -> Report:
    """The same report with `count` mismatches, each of another size."""
    cell = failing(report)[0]
    cells = (replace(cell, size=Size(8 + n, 8), batch=1) for n in range(count))
    return replace(report, cells=tuple(change(n, one) for n, one in enumerate(cells)))


def drawn(report: Report, width: int = 160) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(report_table(report, width))
    return stream.getvalue()


def with_outputs(cell, *names: str):
    return replace(cell, outputs=tuple(replace(cell.outputs[0], name=name) for name in names))


@given(st.floats(min_value=1e-300, max_value=1e300))
@pytest.mark.parametrize("form", [".3g", ".2e"])
def test_a_rounded_number_is_never_below_the_exact_one(form, number):
    written = float(rounded_up(number, form))
    assert number <= written <= number * 1.011


@pytest.mark.parametrize("ratio", [math.nextafter(1.0, 2.0), 1.0004, 1.004, 1.01, 55.555])
def test_a_ratio_that_fails_is_never_written_as_one(ratio):
    assert 1.0 < float(ratio_text(ratio).rstrip("×")) < ratio * 1.02


def test_the_table_names_a_tolerance_with_which_all_cells_of_the_runtime_pass(bad):
    needed = max(o.deviation.needed_atol for c in bad.cells for o in c.outputs)
    row = next(line for line in drawn(bad).splitlines() if line.startswith("ort-cpu  "))
    written = float(row.split(" atol ")[1].split()[0])
    assert needed <= written <= needed * 1.01
    assert "  - logits: would pass with `--atol 0.000" in bad.to_markdown()


def test_the_tolerance_that_a_story_names_really_passes(bad, tmp_path_factory, request):
    tiny = request.getfixturevalue("tiny_in")(tmp_path_factory.mktemp("again"))
    cell = failing(bad)[0]
    atol = float(tolerance_text(needed_atol(cell.outputs)).split()[1])
    again = validate_model(
        bad.model.path,
        tiny.fc(),
        sizes=(cell.size,),
        batches=cell.batch,
        atol=atol,
        amplified=False,
    )
    assert [one.verdict for one in again.cells] == [Verdict.PASS]


def test_the_tolerance_of_a_cell_is_that_of_its_neediest_output(bad):
    output = failing(bad)[0].outputs[0]
    needier = replace(output, deviation=replace(output.deviation, needed_atol=1e-2, ratio=2.0))
    assert needed_atol((output, needier)) == 1e-2


def test_no_tolerance_would_do_where_it_hides_half_of_the_output(bad):
    output = failing(bad)[0].outputs[0]
    scale = output.deviation.scale
    far = replace(output, deviation=replace(output.deviation, needed_atol=0.6 * scale))
    assert tolerance_text(needed_atol((far,))) == "none"


def test_no_tolerance_would_do_for_whole_numbers(bad):
    deviation = failing(bad)[0].outputs[0].deviation
    labels = replace(deviation, ratio=math.inf, needed_atol=3.0, scale=9.0, is_exact=True)
    assert tolerance_text(needed_atol((OutputResult("label", labels, None),))) == "none"


def test_cells_that_differ_only_in_numbers_are_one_group(bad):
    (group,) = group_failing(bad)
    assert len(group.others) == len(failing(bad)) - 1 == 7
    ratios = [cell.worst.deviation.ratio for cell in failing(bad)]
    assert group.told.cell.worst.deviation.ratio == max(ratios)
    assert group.also_at.endswith(" and 3 more")


def test_another_reason_is_another_group(bad):
    words = ("bad shape [8, 8]", "bad shape [9, 9]", "out of luck", "bad shape [10, 8]")

    def error(number, cell):
        return replace(cell, verdict=Verdict.ERROR, message=words[number], outputs=())

    groups = group_failing(many(bad, 4, error))
    assert [(g.told.words, len(g.others)) for g in groups] == [(words[0], 2), (words[2], 0)]


def test_a_mismatch_of_another_kind_is_another_group(bad):
    def moved(number, cell):
        return replace(cell, message=f"output 'x{number}' moved by {number}e-2") if number else cell

    assert [len(group.others) for group in group_failing(many(bad, 5, moved))] == [0, 3]


def test_every_runtime_has_a_story_before_any_has_a_second_one(bad):
    cells = [
        replace(cell, runtime=name, verdict=verdict, message="words", outputs=())
        for name in ("one", "two", "three")
        for verdict in (Verdict.TIMEOUT, Verdict.ERROR)
        for cell in failing(bad)[:2]
    ]
    groups = group_failing(replace(bad, cells=tuple(cells)))
    told = [(group.told.cell.runtime, group.told.cell.verdict.value) for group in groups]
    assert told == [(name, v) for v in ("error", "timeout") for name in ("one", "two", "three")]


def test_a_diagnosis_is_told_although_another_cell_is_the_worst(bad):
    found = Diagnosis(Culprit.RUNTIME, "it begins at 'conv_1'", inputs="saved.npz")
    worst = group_failing(bad)[0].told.cell
    cell = next(one for one in failing(bad) if one != worst)
    diagnosed = replace(cell, diagnosis=found)
    report = replace(bad, cells=tuple(diagnosed if c == cell else c for c in bad.cells))
    for text in (drawn(report), report.to_markdown().replace("\\", "")):
        assert f"{cell}: mismatch" in text.replace("**", "")
        assert "iagnosis: it begins at 'conv_1'" in text
        assert "--inputs saved.npz" in text


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["logits"], ""),
        (["logits", "map"], "1 more output: 'map'"),
        (list("abcdef"), "5 more outputs: 'b', 'c', 'd' and 2 more"),
    ],
    ids=["one", "two", "six"],
)
def test_the_other_wrong_outputs_are_named(bad, names, words):
    report = many(bad, 1, lambda _, cell: with_outputs(cell, *names))
    assert tell(report, report.cells[0]).more == words
    text = " ".join(drawn(report).split())
    assert (f"and {words};" in text) == bool(words)


def test_a_flood_of_one_kind_is_told_in_a_few_lines(bad):
    report = many(bad, 120)
    assert drawn(report).count("mismatch: output") == 1
    assert "and 115 more" in drawn(report)
    assert len(report.to_markdown()) < 12_000


def test_a_flood_of_many_kinds_is_cut_short_and_says_so(bad):
    def error(number, cell):
        words = "".join(chr(ord("a") + int(digit)) for digit in str(number)) * 300
        return replace(cell, verdict=Verdict.ERROR, message=words, outputs=())

    report = many(bad, 300, error)
    table, text = drawn(report), report.to_markdown()
    assert table.count(": error: ") == 20
    assert "and 280 more stories, which --html and --json tell" in table
    assert len(text) < MARKDOWN_LIMIT
    assert "of the stories. The forms `--json` and `--html`" in text
    assert "And 200 more rows" in text


def test_markdown_of_many_jobs_stays_below_the_limit_and_keeps_those_that_failed(bad):
    good = replace(bad, cells=tuple(replace(c, verdict=Verdict.PASS) for c in bad.cells))
    text = join((*[good] * 200, bad)).to_markdown()
    assert len(text) < MARKDOWN_LIMIT
    assert "### What failed" in text
    assert "Left out, to stay below 60,000 characters: " in text


def test_blocks_of_a_low_rank_are_kept_and_those_that_follow_a_lost_one_are_not():
    blocks = [Block("aaaa", "as", 1), Block("b", "bs", 2, after=0), Block("cc", "cs", 0)]
    assert fit(blocks, 7) == ("aaaabcc", {})
    assert fit(blocks, 5) == ("cc", {"as": 1, "bs": 1})


@pytest.mark.parametrize("width", [40, 60])
def test_a_narrow_terminal_gets_the_numbers_in_lines(bad, width):
    text = drawn(bad, width)
    deviation = group_failing(bad)[0].told.cell.worst.deviation
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.split())
    assert f"budget {deviation.budget:.2e}, error {deviation.error:.2e}, needed atol " in words


def test_a_column_that_is_too_narrow_for_the_number_keeps_the_verdict(bad):
    report = many(bad, 1, lambda _, cell: replace(cell, size=Size(1024, 1024)))
    assert "│ mismatch │" in drawn(report, 34)


@pytest.mark.parametrize("times", [(0.00078, 0.0008), (0.001,), (0.0002, 3.0)], ids=str)
def test_ticks_of_times_are_one_two_or_five(bad, times):
    report = many(bad, len(times), lambda n, cell: replace(cell, run_s=times[n]))
    plot = latency_plot(report)
    labels = [tick.label for tick in plot.y_ticks]
    assert len(labels) >= 2
    assert {f"{float(label):e}"[0] for label in labels} <= set("125")
    assert all(12 <= tick.at <= 238 for tick in plot.y_ticks)
