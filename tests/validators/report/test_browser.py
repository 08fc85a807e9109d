"""The page in a real browser: what it shows, on a phone, in the dark, and that it loads nothing."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from anysize.sizes import Size
from anysize.validators import Verdict, join, validate_model
from anysize.validators.evaluation.evaluation import (
    Accuracy,
    Confusion,
    Evaluation,
    EvaluationRow,
    ModelFacts,
    Timing,
)
from anysize.validators.report import PackageVersion

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
HOSTILE = "<script>document.title='owned'</script><img src=http://example.org/x>.onnx"
# Text against what lies behind it, for every element that has text of its own (WCAG 2, 1.4.3).
CONTRAST = """
const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
  .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = node => {
  for (; node; node = node.parentElement) {
    const color = parse(getComputedStyle(node).backgroundColor);
    if (color.length === 3 || color[3] === 1) return color;
  }
  return [255, 255, 255];
};
const found = [];
for (const node of document.querySelectorAll('body *')) {
  if (node.closest('svg')?.getAttribute('aria-hidden') || node.tagName === 'title') continue;
  if (![...node.childNodes].some(c => c.nodeType === 3 && c.data.trim())) continue;
  const style = getComputedStyle(node);
  const ink = parse(node.closest('svg') ? style.fill : style.color);
  const [a, b] = [light(ink), light(behind(node))].sort((x, y) => y - x);
  found.push([(a + 0.05) / (b + 0.05), node.outerHTML.slice(0, 80)]);
}
return found;
"""


def flood(report):
    """Forty cells of one kind, and nine kinds of which no two are alike; names are long."""
    cell = replace(report.cells[-1], diagnosis=None)
    output = replace(cell.outputs[0], name="backbone.features.denseblock4/" * 8)
    for number in range(40):
        yield replace(cell, size=Size(8 + number, 8), outputs=(*cell.outputs, output))
    for word in "abcdefghi":
        words = {"verdict": Verdict.ERROR, "message": word * 200, "outputs": ()}
        yield replace(cell, size=Size(ord(word), 8), runtime="ort-cpu", **words)


def evaluation():
    """Seven heads at three sizes, one of them rejected and one failed; names are long."""
    accuracy = Accuracy(359, 0.75, 0.97, 0.8, 1, 0, (Confusion("tabby cat", "tiger cat", 14),) * 10)
    rows = [
        EvaluationRow(
            *(HOSTILE, f"head-{number}", Size(side, side), "ort-cpu", "ran", ""),
            replace(accuracy, top1=0.9 - 0.1 * number),
            Timing(1, 20, number + side / 9, number + side / 10, 90.0, 10.5, 1 << 28, "CPU"),
        )
        for number in range(7)
        for side in (24, 32, 96)
    ]
    rows[1] = replace(rows[1], status="rejected", reason="takes 24x24", accuracy=None, timing=None)
    rows[2] = replace(rows[2], status="failed", reason="no " * 200, accuracy=None, timing=None)
    facts = ModelFacts(HOSTILE, "head-0", "0" * 64, "24x24 and up", "rgb, mean 0", "assumed")
    package = PackageVersion("ort-cpu", "1.31.1")
    return Evaluation(
        *(HOSTILE, 360, 10, ("0/broken.png",), 1, "crop", "the first at 32x32", (facts,)),
        *(tuple(rows), (package,), 2, "Linux", (package,), ("a note",)),
    )


def unfold(browser):
    """Show everything that a link or a click would show."""
    browser.execute_script(
        "document.querySelectorAll('details').forEach(d => d.open = true);"
        "document.querySelectorAll('.body, .unlisted').forEach(e => e.style.display = 'block')"
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    from selenium.webdriver.chrome.service import Service

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs chromium and chromedriver on PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    running = webdriver.Chrome(options=options, service=Service(driver))
    yield running
    running.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory, request) -> dict[str, Path]:
    pytest.importorskip("jinja2", reason="the page needs the extra report")
    folder = tmp_path_factory.mktemp("pages")
    tiny = request.getfixturevalue("tiny_in")(folder)
    sizes = [Size(height, width) for height in (7, 8, 9, 11) for width in (8, 9, 10)]
    runtimes = ("ort-cpu", "onnx-reference")
    good = validate_model(tiny.fc_file(tiny.fc()), tiny.fc(), runtimes=runtimes, sizes=sizes)
    file = tiny.fc_file(tiny.fc(), name="bad.onnx", bias=False)
    bad = validate_model(file, tiny.fc(), runtimes=runtimes, sizes=sizes)
    bad = replace(
        bad,
        model=replace(bad.model, path=HOSTILE),
        reference=replace(bad.reference, argument="package.module:" + "long_name_" * 12),
    )
    made = {
        "good": good,
        "bad": bad,
        "joined": join((good, bad)),
        "flood": replace(bad, cells=tuple(flood(bad))),
        "evaluation": evaluation(),
    }
    for name, report in made.items():
        (folder / f"{name}.html").write_text(report.to_html(), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in made}


@pytest.fixture
def visit(browser, pages):
    def visit(name, *, width=1200, scheme="light"):
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        for log in ("performance", "browser"):
            browser.get_log(log)
        browser.get(pages[name].as_uri())
        return browser

    return visit


@pytest.mark.parametrize("name", ["good", "bad", "joined", "flood", "evaluation"])
def test_the_page_loads_nothing_and_complains_of_nothing(visit, name):
    browser = visit(name)
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert requests
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert browser.get_log("browser") == []


def test_the_page_says_at_a_glance_what_came_out(visit):
    browser = visit("good")
    heading = browser.find_element("css selector", "h1").text
    assert heading.endswith("48 of 48 cells good, 36 passed")
    assert "exit 0" in browser.find_element("css selector", ".reason").text
    assert len(browser.find_elements("css selector", ".matrix tbody td:not(.batch)")) == 48
    assert len(browser.find_elements("css selector", "svg.plot")) == 2


def test_a_failing_cell_leads_to_its_story(visit):
    browser = visit("bad")
    browser.find_elements("css selector", ".matrix td a")[-1].click()
    story = browser.find_element("css selector", ":target")
    assert "Values outside the error budget" in story.text
    assert browser.execute_script("return arguments[0].checkVisibility()", story)


def test_every_link_of_the_matrix_unfolds_its_story(visit):
    browser = visit("flood")
    links = browser.find_elements("css selector", ".matrix td a")
    targets = [link.get_attribute("href").partition("#")[2] for link in links]
    assert len(set(targets)) == 49
    hidden = "return getComputedStyle(document.querySelector('.others .unlisted')).display"
    assert browser.execute_script(hidden) == "none"
    for target in targets:
        browser.execute_script("location.hash = arguments[0]", target)
        body = browser.find_element("css selector", ":target > .body")
        assert browser.execute_script("return arguments[0].checkVisibility()", body), target
        assert "Reproduce it" in body.text


def test_the_first_stories_that_are_seen_are_of_all_runtimes(visit):
    browser = visit("flood")
    heads = browser.find_elements("css selector", ".story h4 b")[:2]
    assert {head.text for head in heads} == {"ort-cpu", "onnx-reference"}
    bodies = browser.find_elements("css selector", ".story:not(.folded) > .body")
    assert all("Reproduce it" in body.text for body in bodies)
    assert len(browser.find_elements("css selector", ".story.folded > h4")) == 4


@pytest.mark.parametrize("width", [1280, 390])
def test_a_long_name_and_a_long_command_push_nothing_out_of_view(visit, width):
    browser = visit("flood", width=width)
    unfold(browser)
    wide = (
        "return [...document.querySelectorAll('.outputs, pre')].map(e => e.closest('.scroll') || e)"
        ".filter(e => e.scrollWidth > e.clientWidth + 1).length"
    )
    assert browser.execute_script(wide) == 0
    assert "would pass with" in browser.find_element("css selector", ".outputs").text or width < 500


def test_names_are_shown_and_never_executed(visit):
    browser = visit("bad")
    assert HOSTILE in browser.find_element("css selector", "h2").text
    assert "owned" not in browser.title
    assert browser.find_elements("css selector", "img, script") == []


@pytest.mark.parametrize("name", ["good", "bad", "joined", "flood", "evaluation"])
def test_a_phone_shows_the_page_without_scrolling_sideways(visit, name):
    browser = visit(name, width=375)
    unfold(browser)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 375
    assert browser.execute_script("return innerWidth") == 375


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["good", "bad", "joined", "evaluation"])
def test_text_stands_out_in_the_light_and_in_the_dark(visit, name, scheme):
    browser = visit(name, scheme=scheme)
    unfold(browser)
    colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", colour))) / 3
    assert (brightness > 200) == (scheme == "light")
    found = browser.execute_script(CONTRAST)
    assert len(found) > 100
    assert [one for one in found if one[0] < 4.5] == []
