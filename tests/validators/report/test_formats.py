"""Markdown, HTML, schema and joined reports: drawn from the same records, whatever these hold."""

from __future__ import annotations

import io
import json
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.console import Console

from anysize.errors import UsageError
from anysize.sizes import Size
from anysize.validators import JoinedReport, Report, Verdict, join, validate_model
from anysize.validators.judging.budget import Tolerances
from anysize.validators.report import Entry
from anysize.validators.report.json_format import read_report
from anysize.validators.report.levels import LEVELS, level_of
from anysize.validators.report.plots import error_plot, latency_plot
from anysize.validators.report.reproduce import reproduce
from anysize.validators.report.schema import report_schema
from anysize.validators.report.story import tell, tolerance_text
from anysize.validators.report.table import report_table

HOSTILE = '<script>alert("x")</script>|`*&'


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, request):
    return request.getfixturevalue("tiny_in")(tmp_path_factory.mktemp("formats"))


@pytest.fixture(scope="module")
def good(tiny) -> Report:
    report = validate_model(
        tiny.fc_file(tiny.fc()),
        tiny.fc(),
        runtimes=("ort-cpu", "onnx-reference"),
        sizes=(Size(7, 8), Size(8, 8), Size(9, 10)),
    )
    return replace(report, reference=replace(report.reference, argument="made:tiny"))


@pytest.fixture(scope="module")
def bad(tiny) -> Report:
    """Cells with every verdict, of a file with a hostile name, with hostile words."""
    path = tiny.fc_file(tiny.fc(), bias=False, name="bad.onnx")
    report = validate_model(path, tiny.fc(), sizes=(Size(7, 8), Size(8, 8), Size(9, 9)))
    cell = report.cells[-1]
    assert cell.verdict is Verdict.MISMATCH
    every = [
        replace(
            cell,
            size=Size(10, 8 + place),
            verdict=verdict,
            message=f"{HOSTILE} {verdict.value}",
            outputs=() if verdict is not Verdict.PASS else cell.outputs,
        )
        for place, verdict in enumerate(Verdict)
    ]
    return replace(
        report,
        model=replace(report.model, path=f"{HOSTILE}.onnx"),
        reference=replace(report.reference, name=HOSTILE, argument=HOSTILE),
        cells=(*report.cells, *every),
    )


def follows(schema, value, root=None) -> bool:
    """Whether a value follows a schema, as far as the words go that reports use."""
    root = root or schema
    kinds = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "number": (int, float),
        "integer": int,
        "null": type(None),
    }
    known = {"$schema", "title", "description", "$defs", "$ref", "anyOf", "enum", "const", "type"}
    known |= {"default", "minimum", "maximum"}
    assert schema.keys() <= known | {"properties", "required", "items", "pattern"}
    if "$ref" in schema:
        return follows(root["$defs"][schema["$ref"].rpartition("/")[2]], value, root)
    if "anyOf" in schema:
        return any(follows(one, value, root) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return value in schema.get("enum", [schema.get("const")])
    kind = schema["type"]
    if not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind != "boolean"):
        return False
    if kind == "object":
        properties = schema["properties"]
        return set(schema["required"]) <= set(value) <= set(properties) and all(
            follows(properties[name], entry, root) for name, entry in value.items()
        )
    if kind == "array":
        return all(follows(schema["items"], entry, root) for entry in value)
    return "pattern" not in schema or re.search(schema["pattern"], value) is not None


def test_real_reports_follow_the_schema(good, bad):
    for report in (good, bad, join((good, bad))):
        assert follows(report_schema(), json.loads(report.to_json()))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content.pop("cells"),
        lambda content: content.update(seed="0"),
        lambda content: content.update(extra=1),
        lambda content: content.update(schema_version=2),
        lambda content: content["cells"][0].update(verdict="fine"),
        lambda content: content["cells"][0].update(size="7 by 8"),
    ],
    ids=["missing", "type", "extra", "version", "verdict", "size"],
)
def test_the_schema_refuses_what_is_no_report(good, spoil):
    content = json.loads(good.to_json())
    spoil(content)
    assert not follows(report_schema(), content)


def test_the_schema_says_what_fields_mean():
    cell = report_schema()["$defs"]["Cell"]["properties"]
    assert cell["run_s"]["description"].startswith("The faster of the two runs, in seconds")


def test_a_report_without_a_later_field_is_still_read(good):
    content = json.loads(good.to_json())
    del content["reference"]["argument"], content["reference"]["weights"]
    old = Report.from_json(json.dumps(content))
    assert old.cells == good.cells
    assert old.reference.argument is None


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda content: content.pop("seed"), r"missing required field `seed`"),
        (
            lambda content: content["cells"][1].update(batch="two"),
            r"Expected `int`, got `str` - at `\$\.cells\[1\]\.batch`",
        ),
        (
            lambda content: content["cells"][0].update(verdict="fine"),
            r"'fine' - at `\$\.cells",
        ),
        (lambda content: content["cells"][0].update(size="7 by 8"), "size '7 by 8': expected"),
        (lambda content: content.update(schema_version=2), "schema version 2, expected 1"),
    ],
    ids=["missing", "type", "verdict", "size", "version"],
)
def test_what_is_wrong_in_a_report_is_named_with_its_place(good, spoil, words):
    content = json.loads(good.to_json())
    spoil(content)
    with pytest.raises(UsageError, match=words):
        Report.from_json(json.dumps(content))


def test_texts_that_look_like_numbers_stay_texts(good):
    odd = replace(good, machine="NaN", notes=("224x320", "null", "Infinity"))
    assert Report.from_json(odd.to_json()) == odd


def test_joined_reports_survive_json_and_are_taken_apart_again(good, bad, tmp_path):
    joined = join((good, bad))
    assert JoinedReport.from_json(joined.to_json()).to_json() == joined.to_json()
    for number, one in enumerate((joined, good)):
        (tmp_path / f"{number}.json").write_text(one.to_json())
    again = join([read_report(tmp_path / "0.json"), read_report(tmp_path / "1.json")])
    assert [entry.name for entry in again.entries] == [r.model.path for r in (good, bad, good)]


def test_a_file_that_is_no_report_is_named(tmp_path):
    path = tmp_path / "no.json"
    for text in ("{}", "\udcff"):
        path.write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(UsageError, match=r"report .*no\.json: "):
            read_report(path)
    with pytest.raises(UsageError, match="No such file"):
        read_report(tmp_path / "missing.json")


@pytest.mark.parametrize(
    ("codes", "expected"),
    [((0, 0), 0), ((0, 3), 3), ((3, 2), 2), ((2, 1, 3), 1), ((), 3)],
    ids=str,
)
def test_the_worst_job_decides_the_exit_code(codes, expected):
    entries = tuple(Entry("job", None, "words", code) for code in codes)
    assert JoinedReport(entries).exit_code == expected


def test_a_failing_cell_comes_with_a_command_that_a_shell_takes_apart(bad):
    command = reproduce(bad, bad.cells[-1])
    words = shlex.split(command)
    assert words[:3] == ["anysize", "validate", f"{HOSTILE}.onnx"]
    assert words[words.index("--reference") + 1] == HOSTILE
    assert reproduce(replace(bad, tolerance="atol=0.1 rtol=0"), bad.cells[0]).endswith(
        "--atol 0.1 --rtol 0"
    )
    per_output = str(Tolerances({"": 0.1, "my map:0": 1 / 3}, {}))
    command = reproduce(replace(bad, tolerance=per_output), bad.cells[0])
    assert shlex.split(command)[-8:] == [
        *("--atol", "0.1", "--rtol", "0"),
        *("--atol", f"my map:0:{1 / 3!r}", "--rtol", "my map:0:0"),
    ]


def test_a_reference_from_python_has_no_command(bad):
    anonymous = replace(bad, reference=replace(bad.reference, argument=None))
    assert tell(anonymous, bad.cells[-1]).command == ""


@pytest.mark.parametrize("needed", [1e-6, 0.2262199, 9.9999, 1.0])
def test_the_tolerance_that_would_have_passed_is_rounded_up(needed):
    assert needed <= float(tolerance_text(needed).split()[1]) <= needed * 1.011
    assert tolerance_text(float("inf")) == "none"


def test_markdown_escapes_what_it_quotes(bad):
    text = bad.to_markdown()
    assert "<script>" not in text.replace(f"'{HOSTILE}", "")
    assert text.startswith("# ❌")
    rows = [line for line in text.splitlines() if line.startswith("| 10x")]
    assert len(rows) == len(Verdict)
    assert "logits: no tolerance would do" in text


def test_markdown_of_a_good_report_is_short(good):
    text = good.to_markdown()
    assert text.startswith("# ✅ 12 of 12 cells good, 8 passed")
    assert "What failed" not in text


def test_every_verdict_has_a_level_with_a_mark(bad):
    names = {level_of(cell).name for cell in bad.cells}
    assert {"good-3", "rejected", "wrong-3", "failed", "not-run"} & names
    assert all(level.mark for level in LEVELS)


def test_plots_place_the_budget_and_every_point_inside(good, bad):
    for report in (good, bad):
        for plot in (error_plot(report), latency_plot(report)):
            assert len(plot.x_ticks) >= 2
            assert len(plot.y_ticks) >= 2
            points = [point for series in plot.series for point in series.points]
            assert all(62 <= point.x <= 408 and 12 <= point.y <= 238 for point in points)
        assert 12 <= error_plot(report).limit <= 238


def test_a_report_without_measured_values_has_no_plot(good):
    bare = replace(good, cells=tuple(replace(c, outputs=(), run_s=None) for c in good.cells))
    assert error_plot(bare) is None
    assert latency_plot(bare) is None


class Tags(HTMLParser):
    """Collects tags and attributes of a page, and that every tag is closed."""

    def __init__(self):
        super().__init__()
        self.found, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br", "wbr"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page():
    pytest.importorskip("jinja2", reason="the page needs the extra report")

    def parse(report):
        tags = Tags()
        tags.feed(report.to_html())
        assert tags.open == []
        return tags.found

    return parse


def test_the_page_has_no_script_and_refers_to_nothing_outside(good, bad, page):
    for report in (good, bad, join((good, bad))):
        found = page(report)
        assert "script" not in {tag for tag, _ in found}
        addresses = [a.get(key) for _, a in found for key in ("src", "href") if a.get(key)]
        assert all(address.startswith(("#", "data:,")) for address in addresses)
        assert not [a for _, a in found if "style" in a or any(k.startswith("on") for k in a)]
        policy = next(a["content"] for _, a in found if a.get("http-equiv"))
        assert policy.startswith("default-src 'none'; style-src 'sha256-")


def test_links_of_the_page_lead_to_stories_that_are_there_once(bad, good, page):
    found = page(join((bad, good, bad)))
    ids = [a["id"] for _, a in found if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for tag, a in found if tag == "a"}
    assert targets <= set(ids)
    assert len([i for i in ids if "-cell-" in i]) == 2 * sum(not c.is_good for c in bad.cells)


def test_the_page_is_the_same_for_the_same_report(good, page):
    assert good.to_html() == good.to_html()


def test_a_job_without_a_report_is_on_the_page_with_its_reason(good, page):
    joined = JoinedReport((*join((good,)).entries, Entry("lost", None, f"gone {HOSTILE}", 2)))
    html = joined.to_html()
    assert "gone &lt;script&gt;" in html
    assert "1 of 2 jobs could not be used" in html
    page(joined)


def test_names_in_the_overview_go_on_behind_what_separates_their_parts(good, page):
    names = ("group_norm-net/as-is", f"a/{HOSTILE}")
    named = [replace(good, model=replace(good.model, path=name)) for name in names]
    joined = join(named)
    html = joined.to_html()
    assert ">group_<wbr>norm-<wbr>net/<wbr>as-<wbr>is</a>" in html
    assert "<script" not in html
    page(joined)


def test_without_jinja_the_page_says_what_to_install(good, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    with pytest.raises(UsageError, match=r"pip install 'anysize\[report\]'"):
        good.to_html()


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_terminal_however_many_runtimes(good, width):
    names = [f"runtime-{letter}" for letter in "abcdefgh"]
    many = replace(
        good,
        runtimes=tuple(replace(good.runtimes[0], name=name) for name in names),
        cells=tuple(replace(c, runtime=name) for name in names for c in good.cells[:6]),
    )
    stream = io.StringIO()
    Console(file=stream, width=width).print(report_table(many, width))
    text = stream.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for name in names:
        assert len(re.findall(rf"┃ {name} ", text)) == 1


def test_a_page_of_very_many_reports_draws_what_is_not_good(good, bad):
    def page(count):
        entries = [Entry(f"model{n}", good, "", good.exit_code) for n in range(count)]
        return JoinedReport((*entries, Entry("bad", bad, "", bad.exit_code))).to_html()

    few, many = page(2), page(100)
    note = "There are 101 reports: plots are drawn where something is not good."
    assert note in many
    assert "plots are drawn where" not in few
    figures = [text.count('<div class="plots">') for text in (few, many)]
    assert figures == [3, 1]
    assert len(many) < 100 * len(few) / 3 / 2  # what is left is the matrix and where it ran
