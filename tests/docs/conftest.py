"""Reads the blocks of a page and executes them; the tests reach it through fixtures.

What stands before a block says how it is taken, as an HTML comment that a reader does not see:

- nothing: a `bash` or `python` block is executed and must exit 0
- `<!-- exit 2 -->`: it must exit 2
- `<!-- not executed: REASON -->`: it is left out, and `test_pages.py` must list it
- `<!-- needs TOOL -->`: it is executed where that program or Python package is installed; the test
  of the page says so where it is not
- `<!-- file NAME -->`: a `python` block is written to NAME and imported, one of another language is
  written there for the blocks behind it
- `<!-- output -->`: a `text` block is all that the block before it printed
- `<!-- stderr -->`: the lines of a `text` block stand on its stderr, in this order, among others
- `<!-- figure -->`: a `text` block is a drawing

A line `…` in an output stands for any number of lines.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = (
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    REPOSITORY / "SECURITY.md",
    *sorted((REPOSITORY / "docs").glob("**/*.md")),
)
_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>```+|~~~+)(?P<language>[^\n`]*)$")
_COMMENT = re.compile(r"^\s*<!-- (?P<text>.*) -->\s*$")
_MARKERS = {
    "bash": r"(exit \d+)?|not executed: .+|needs [\w+]+",
    "python": r"(exit \d+)?|not executed: .+|file \w+\.py|needs \w+",
    "cpp": r"file \w+\.cpp|not executed: .+",
    "javascript": r"file \w+\.mjs|not executed: .+",
    "html": r"not executed: .+",
    "toml": r"file \w+\.toml",
    "text": r"output|stderr|figure",
}
_TIMEOUT_S = 240


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its page, the line of its fence, its language, marker and text."""

    page: str
    line: int
    language: str
    marker: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_executed(self) -> bool:
        return self.language != "text" and not self.marker.startswith("not executed")

    @property
    def is_written(self) -> bool:
        """It is a file for the blocks behind it, and is not run by itself."""
        return self.marker.startswith("file ") and self.language != "python"

    @property
    def is_lacking(self) -> str:
        """What it needs and is not installed here; "" where nothing is missing."""
        tool = self.marker.removeprefix("needs ") if self.marker.startswith("needs ") else ""
        is_there = not tool or shutil.which(tool) or importlib.util.find_spec(tool)
        return "" if is_there else tool

    @property
    def expected_exit(self) -> int:
        return int(self.marker.removeprefix("exit ")) if self.marker.startswith("exit ") else 0


class PageError(AssertionError):
    """A page does not hold what it says; the message begins with page and line."""


def read_blocks(path: Path) -> tuple[Block, ...]:
    """Read the fenced blocks of a page; raises PageError for one that would escape the tests."""
    lines = path.read_text(encoding="utf-8").splitlines()
    blocks, start = [], None
    fence: re.Match[str] | None = None
    for number, line in enumerate(lines):
        if start is None:
            fence = _FENCE.match(line)
            start = number if fence else None
        elif fence and line.strip() == fence["ticks"]:
            indent, language = len(fence["indent"]), fence["language"].strip()
            text = "".join(f"{entry[indent:]}\n" for entry in lines[start + 1 : number])
            blocks.append(Block(path.name, start + 1, language, _marker(lines, start), text))
            start = None
    if start is not None:
        raise PageError(f"{path.name}:{start + 1}: the block is not closed")
    for block in blocks:
        _check_marker(block)
    return tuple(blocks)


def _marker(lines: list[str], fence: int) -> str:
    before = next((line for line in reversed(lines[:fence]) if line.strip()), "")
    comment = _COMMENT.match(before)
    return comment["text"] if comment else ""


def _check_marker(block: Block) -> None:
    allowed = _MARKERS.get(block.language)
    if allowed is None:
        raise PageError(
            f"{block.place}: language {block.language!r}, expected one of {', '.join(_MARKERS)}"
        )
    if not re.fullmatch(allowed, block.marker):
        raise PageError(f"{block.place}: a {block.language} block has marker {block.marker!r}")


def execute_page(path: Path, folder: Path) -> int:
    """Execute the blocks of a page in `folder`, in order; returns how many were executed.

    Blocks that need what is not installed are passed over, with the outputs behind them.
    """
    done: subprocess.CompletedProcess[str] | None = None
    count, is_passed_over = 0, False
    for block in read_blocks(path):
        if block.is_written:
            (folder / block.marker.removeprefix("file ")).write_text(block.text, encoding="utf-8")
        elif block.is_lacking:
            done, is_passed_over = None, True
        elif block.is_executed:
            is_passed_over = False
            done = _execute(block, folder)
            count += 1
        elif block.language != "text":
            done, is_passed_over = None, False
        elif block.marker != "figure" and not is_passed_over:
            if done is None:
                raise PageError(f"{block.place}: output of a block that is not executed")
            _compare(block, done)
    return count


def _execute(block: Block, folder: Path) -> subprocess.CompletedProcess[str]:
    if block.language == "bash":
        command = ["bash", "-euo", "pipefail", "-c", block.text]
    elif block.marker.startswith("file "):
        module = block.marker.removeprefix("file ")
        (folder / module).write_text(block.text, encoding="utf-8")
        command = [sys.executable, module]
    else:
        command = [sys.executable, "-c", block.text]
    done = subprocess.run(
        command,
        cwd=folder,
        env=_environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode != block.expected_exit:
        raise PageError(
            f"{block.place}: exit {done.returncode}, expected {block.expected_exit}\n"
            f"{block.text}--- stdout\n{done.stdout}--- stderr\n{done.stderr}"
        )
    return done


def _environment() -> dict[str, str]:
    """The tested installation first on PATH; output in UTF-8 and without colours, on any machine.

    The blocks run in an empty folder, where a reader's Python has its own folder on the path.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONSAFEPATH", "PYTHONPATH", "FORCE_COLOR", "COLUMNS")
    }
    path = os.pathsep.join((str(Path(sys.executable).parent), kept.get("PATH", os.defpath)))
    return kept | {"PATH": path, "PYTHONIOENCODING": "utf-8", "MPLBACKEND": "agg"}


def _compare(block: Block, done: subprocess.CompletedProcess[str]) -> None:
    printed = done.stdout if block.marker == "output" else done.stderr
    said, got = normalise(block.text), normalise(printed)
    if block.marker == "stderr":
        said = ["…", *(entry for line in said for entry in (line, "…"))]
    if not _fits(said, got):
        raise PageError(
            f"{block.place}: {block.marker} is not what was printed\n"
            f"--- the page\n{block.text}--- printed\n{printed}"
        )


def normalise(text: str) -> list[str]:
    """Mask what differs between two machines: measured numbers, versions, and columns' widths.

    Whole numbers stay, save for how many nodes a runtime executed, which depends on the processor.
    """
    text = re.sub(r"\d+(\.\d+)*\.\d+([eE][+-]?\d+)?|\d+[eE][+-]?\d+", "#", text)
    text = re.sub(r"\(\d+ nodes\)", "(# nodes)", text)
    text = re.sub(r"([─━])\1+", r"\1", text)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return [line for line in lines if line]


def _fits(said: list[str], got: list[str]) -> bool:
    """Say whether the lines agree, `…` standing for any number of them."""
    reachable = {0}
    for line in said:
        if line == "…":
            reachable = set(range(min(reachable), len(got) + 1)) if reachable else set()
        else:
            reachable = {i + 1 for i in reachable if i < len(got) and got[i] == line}
    return len(got) in reachable


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", PAGES, ids=[path.name for path in PAGES])


@pytest.fixture
def blocks_of() -> Callable[[Path], tuple[Block, ...]]:
    return read_blocks


@pytest.fixture
def execute() -> Callable[[Path, Path], int]:
    return execute_page


@pytest.fixture
def masked() -> Callable[[str], list[str]]:
    return normalise


@pytest.fixture
def page_error() -> type[Exception]:
    return PageError


@pytest.fixture
def repository() -> Path:
    return REPOSITORY


@pytest.fixture
def pages() -> tuple[Path, ...]:
    return PAGES
