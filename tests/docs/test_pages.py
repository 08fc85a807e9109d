"""Every command and every Python block of the pages is executed, and what they print is real."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DEMO_COMMAND = "pip install -c constraints.txt . && anysize demo"
TEST_COMMAND = "pip install -c constraints.txt tox && tox"

# A block that is not executed must stand here too: nobody hides one.
NOT_EXECUTED = {
    ("index.md", "pip install -c constraints.txt ."),
    (
        "index.md",
        (
            "anysize evaluate net.onnx --data photos --heads as-is,fcn,adaptive,resize "
            "--html evaluation.html"
        ),
    ),
    (
        "gpu.md",
        (
            'pip install "onnxruntime-gpu[cuda,cudnn]"\n'
            'pip install "onnxruntime-gpu[cuda,cudnn]" tensorrt\n'
            "anysize runtimes"
        ),
    ),
    ("gpu.md", "anysize validate digits.onnx --runtimes ort-cuda,ort-tensorrt"),
    ("README.md", DEMO_COMMAND),
    ("README.md", TEST_COMMAND),
    (
        "CONTRIBUTING.md",
        (
            "python3.11 -m venv .venv\n"
            ". .venv/bin/activate\n"
            'pip install -c constraints.txt -e ".[test,lint,typing]" tox'
        ),
    ),
    ("CONTRIBUTING.md", "tox"),
    (
        "CONTRIBUTING.md",
        (
            "tox -e lint\n"
            "tox -e typing\n"
            "tox -e py311 -- tests/surgery -k shapes\n"
            "tox -e parity-ort-cpu\n"
            "tox -e docs"
        ),
    ),
    (
        "CONTRIBUTING.md",
        'pytest tests/surgery -m "not slow"\nruff check . && ruff format .',
    ),
}


def test_every_block_of_a_page_runs_and_prints_what_the_page_says(
    page, execute, blocks_of, tmp_path
):
    execute(page, tmp_path)
    missing = {block.is_lacking for block in blocks_of(page)} - {""}
    if missing:
        pytest.skip(f"all other blocks hold; not installed here: {', '.join(sorted(missing))}")


def test_only_the_listed_blocks_are_not_executed(pages, blocks_of):
    found = {
        (block.page, block.text.strip())
        for path in pages
        for block in blocks_of(path)
        if block.marker.startswith("not executed")
    }
    # Long examples for a GPU, a browser and a compiler: their page says why, and the next test.
    assert {page for page, text in found - NOT_EXECUTED} <= {"deploy.md"}
    assert found >= NOT_EXECUTED


def test_the_page_of_deployment_says_why_an_example_is_not_run(blocks_of, repository):
    """Only what no registry has, or needs a GPU or a browser, is not executed there."""
    blocks = blocks_of(repository / "docs" / "deploy.md")
    unrun = [b for b in blocks if b.marker.startswith("not executed")]
    assert len(unrun) == 4
    assert {b.language for b in unrun} == {"cpp", "html", "bash", "python"}
    reasons = {b.marker.removeprefix("not executed: ") for b in unrun}
    assert reasons == {
        "needs TensorRT and a GPU",
        "a browser's page",
        "the headers are in no registry that the tests use",
    }


def test_the_readme_has_its_two_commands_each_in_a_block_of_its_own(repository, blocks_of):
    texts = [block.text for block in blocks_of(repository / "README.md")]
    assert f"{DEMO_COMMAND}\n" in texts
    assert f"{TEST_COMMAND}\n" in texts
    assert texts.index(f"{DEMO_COMMAND}\n") < texts.index(f"{TEST_COMMAND}\n") < 2


def test_continuous_integration_calls_the_test_command_of_the_readme(repository):
    lines = (repository / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert TEST_COMMAND in lines


def test_there_is_a_page_for_each_job(pages):
    jobs = {"export.md", "rewrite.md", "validate.md", "matrix.md", "testing.md", "heads.md"}
    jobs |= {"architecture.md", "graphsurgeon.md", "index.md", "deploy.md", "gpu.md"}
    jobs |= {"evaluate.md", "reference.md", "troubleshooting.md"}
    assert jobs <= {path.name for path in pages}


def test_every_relative_link_of_a_page_leads_to_a_file(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)", text)
    local = [target for target in targets if not re.match(r"[a-z]+:", target)]
    missing = [target for target in local if not (page.parent / target).exists()]
    assert missing == []


def test_the_picture_of_the_demo_is_small(repository):
    picture = repository / "docs" / "images" / "demo.png"
    assert picture.stat().st_size <= 300 * 1024


def test_no_page_names_a_path_of_somebodys_machine(page):
    text = Path(page).read_text(encoding="utf-8")
    assert re.findall(r"(?<![\w.])/(?:home|root|work|opt|tmp|Users)/\S*", text) == []
