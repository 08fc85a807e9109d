"""docs/declines.md lists every reason for which surgery declines, with the test that shows it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "declines.md"
RAISERS = {"DeclinedError", "AnySizeAlreadyError", "UnreadableError", "declined"}


def reasons_in(source: str) -> set[str]:
    """Collect what is given to the errors as literal text, with … for what is filled in.

    A function whose name ends in `_words` returns such text.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in RAISERS:
            texts = [template(argument) for argument in node.args]
            found.update(text for text in texts if text and text.strip("… :"))
        if isinstance(node, ast.FunctionDef) and node.name.endswith("_words"):
            returned = [one.value for one in ast.walk(node) if isinstance(one, ast.Return)]
            found.update(template(value) for value in returned if value is not None)
    return found


def template(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
        text = "".join(parts)
        return re.sub(r"^… ?:? ", "", text)  # the node's name comes first everywhere
    return ""


def all_reasons() -> set[str]:
    files = (ROOT / "surgery").rglob("*.py")
    return set().union(*(reasons_in(path.read_text("utf-8")) for path in files))


def rows() -> list[tuple[str, str]]:
    """Return the reason and the test of every row of the page."""
    table = [line.strip("|").split("|") for line in PAGE.read_text("utf-8").splitlines()]
    cells = [[cell.strip().strip("`") for cell in row] for row in table if len(row) == 3]
    return [(cell[0], cell[2]) for cell in cells if "::" in cell[2]]


def test_every_reason_in_the_code_is_a_row_of_the_page():
    listed = {reason for reason, _ in rows()}
    assert all_reasons() - listed == set(), "add a row to docs/declines.md"


def test_every_row_of_the_page_is_a_reason_in_the_code():
    assert {reason for reason, _ in rows()} - all_reasons() == set()


@pytest.mark.parametrize("test", sorted({test for _, test in rows()}))
def test_every_row_names_a_test_that_exists(test):
    file, name = test.split("::")
    source = (ROOT / "tests" / file).read_text("utf-8")
    function, _, case = name.partition("[")
    assert f"def {function}(" in source
    assert not case or f'"{case.rstrip("]")}"' in source


def test_a_reason_that_is_not_on_the_page_is_seen():
    source = 'raise declined(view, index, f"weight {name!r} is lost, expected one")'
    assert reasons_in(source) == {"weight … is lost, expected one"}
    assert reasons_in('raise DeclinedError(f"{label}: is odd", node=name)') == {"is odd"}
