"""Arrows between the folders point one way."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOMES = {
    "models": ROOT / "models",
    "exporters": ROOT / "exporters",
    "surgery": ROOT / "surgery",
    "validators": ROOT / "validators",
    "verbs": ROOT / "src/anysize/verbs",
    "testing": ROOT / "src/anysize/testing",
    "cli": ROOT / "src/anysize/cli",
}
# What each folder may import, besides the modules of `anysize` itself that everything may use.
ALLOWED = {
    "surgery": set(),
    "models": set(),
    "exporters": {"surgery"},
    "validators": {"surgery", "models"},
    "verbs": {"surgery", "models", "exporters", "validators"},
    "testing": {"verbs", "validators"},
    "cli": {"verbs", "validators"},
}
FOUNDATION = {
    "anysize",
    "anysize.heads",
    "anysize.inference",
    *(f"anysize.{name}" for name in ("bisection", "errors", "files", "sizes", "version", "words")),
}


def imports(source: str) -> set[str]:
    """Every `anysize` module that a source imports, at whatever depth, type checking included."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module == "anysize":
                found |= {f"anysize.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "anysize"}


def folder_of(module: str) -> str:
    """The folder that a module belongs to; "" for the foundation."""
    if module in FOUNDATION:
        return ""
    return module.split(".")[1]


def arrows(home: str) -> dict[str, set[str]]:
    """For each file of a folder, the other folders that it imports."""
    return {
        str(path.relative_to(ROOT)): {folder_of(name) for name in imports(path.read_text())}
        - {"", home}
        for path in HOMES[home].rglob("*.py")
    }


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Some cycle of a graph, or []."""
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for target in sorted(graph.get(node, ())):
            if found := walk(target, [*path, node]):
                return found
        done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := walk(node, []))), [])


@pytest.mark.parametrize("home", HOMES)
def test_no_arrow_runs_back_up(home):
    wrong = {file: bad for file, found in arrows(home).items() if (bad := found - ALLOWED[home])}
    assert wrong == {}


def test_the_folders_form_no_cycle():
    graph = {home: set().union(*arrows(home).values()) for home in HOMES}
    assert cycle(graph) == []


@pytest.mark.parametrize("module", ["bisection", "errors", "files", "sizes", "version", "words"])
def test_the_foundation_imports_only_itself(module):
    source = (ROOT / f"src/anysize/{module}.py").read_text()
    assert imports(source) <= FOUNDATION


def test_a_cycle_is_noticed():
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_an_arrow_inside_a_function_is_noticed():
    source = "def f():\n    from anysize.validators import Report\n    return Report"
    assert {folder_of(name) for name in imports(source)} == {"validators"}


def names_onnxruntime(source: str) -> bool:
    """Whether a source imports onnxruntime, by a statement or by name."""
    nodes = list(ast.walk(ast.parse(source)))
    named = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    named |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    if "import_module" in source:
        named |= {str(node.value) for node in nodes if isinstance(node, ast.Constant)}
    return "onnxruntime" in {name.partition(".")[0] for name in named}


def test_onnxruntime_is_imported_where_its_telemetry_is_turned_off_and_nowhere_else():
    door = ROOT / "validators/runtimes/ort_session.py"
    folders = [*HOMES.values(), ROOT / "src", ROOT / "benchmarks"]
    found = {p for f in folders for p in f.rglob("*.py") if names_onnxruntime(p.read_text())}
    assert found == {door}


@pytest.mark.parametrize(
    "source", ["import onnxruntime", "x = importlib.import_module('onnxruntime')"]
)
def test_the_search_for_onnxruntime_finds_it(source):
    assert names_onnxruntime(source)
    assert not names_onnxruntime(source.replace("onnxruntime", "numpy"))
