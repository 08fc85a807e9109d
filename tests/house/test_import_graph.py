"""Arrows point one way: between the folders at the top, and between the rooms of each."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from import_graph import FACE, HOMES, House, Module, circle, house_of, read_house

ROOT = Path(__file__).parents[2]
HOUSE = read_house(ROOT)
# What each folder may import, besides the loose files of `anysize`, which everything may use.
# `anysize` itself is the front door: it imports the verbs, so nothing that they need may go in.
ALLOWED = {
    "surgery": set(),
    "models": set(),
    "exporters": {"surgery"},
    "validators": {"surgery", "models"},
    "verbs": {"surgery", "models", "exporters", "validators"},
    "testing": {"verbs", "validators", FACE},
    "cli": {"verbs", "validators", FACE},
    "__main__": {"cli"},
}
FOUNDATION = {
    path.stem for path in (ROOT / "src/anysize").glob("*.py") if path.stem not in (FACE, "__main__")
}
# The front door is left out: its arrows are those of ALLOWED.
ROOMS = [package for package in HOUSE.packages if package != "anysize"]


def house_with(**sources: str) -> House:
    """The house, with other text in some modules: `surgery__axes="import anysize"`."""
    modules = dict(HOUSE.modules)
    for key, source in sources.items():
        name = ".".join(("anysize", *key.split("__")))
        is_face = name in modules and modules[name].is_face
        modules[name] = Module(name, source, is_face)
    return house_of(modules.values())


def back_up(house: House) -> dict[str, set[str]]:
    """For each folder at the top and each file of the foundation, what it imports and may not."""
    beyond = {
        name: found - FOUNDATION - ALLOWED.get(name, set())
        for name, found in house.arrows("anysize").items()
        if name != FACE
    }
    return {name: found for name, found in beyond.items() if found}


def test_no_arrow_between_the_folders_runs_back_up():
    assert back_up(HOUSE) == {}


def test_the_foundation_is_what_lies_beside_the_front_door():
    known = {"bisection", "errors", "files", "heads", "lazy", "sizes", "version", "words"}
    assert known <= FOUNDATION
    assert set(HOUSE.members("anysize")) == FOUNDATION | set(ALLOWED)


def test_the_folders_and_the_foundation_form_no_circle():
    assert circle(HOUSE.arrows("anysize")) == []


@pytest.mark.parametrize("package", ROOMS)
def test_the_rooms_and_files_of_a_room_form_no_circle(package):
    assert circle(HOUSE.arrows(package)) == []


def test_a_room_is_imported_through_its_face():
    assert HOUSE.past_faces() == []


def test_every_home_is_read():
    assert set(HOMES) <= set(HOUSE.packages)
    assert HOUSE.modules["anysize.surgery.heads"].is_face
    assert "anysize.surgery.heads" in HOUSE.imports["anysize.surgery"]


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("from anysize.verbs import export", {"verbs"}),
        ("def f():\n    from anysize.exporters import export", {"exporters"}),
        ("if TYPE_CHECKING:\n    import anysize.cli", {"cli"}),
        ("import anysize", {FACE}),
        ("from anysize import __version__", {FACE}),
        ("from anysize import validators", {"validators"}),
        ("from anysize import sizes", set()),
        ("from anysize.errors import AnysizeError", set()),
    ],
)
def test_an_arrow_that_runs_back_up_is_noticed(source, wrong):
    found = back_up(house_with(surgery__axes=source))
    assert found == ({"surgery": wrong} if wrong else {})


def test_an_arrow_out_of_the_foundation_is_noticed():
    assert back_up(house_with(words="import anysize.models")) == {"words": {"models"}}


def test_a_circle_is_noticed():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize(
    ("room", "sources"),
    [
        (
            "anysize.surgery",
            {
                "surgery__one": "from anysize.surgery.two import x",
                "surgery__two": "def f():\n    from anysize.surgery.one import y",
            },
        ),
        (
            "anysize.surgery",
            {
                "surgery__one": "from anysize.surgery.heads import Head",
                "surgery__heads__layout": "if TYPE_CHECKING:\n    import anysize.surgery.one",
            },
        ),
        ("anysize.surgery", {"surgery__one": "from anysize.surgery import rewrite"}),
        ("anysize.surgery.heads", {"surgery__heads__one": "from anysize.surgery import heads"}),
    ],
    ids=["inside a function", "for type checking", "through the face", "through the face below"],
)
def test_a_circle_of_rooms_is_noticed(room, sources):
    assert circle(house_with(**sources).arrows(room))


@pytest.mark.parametrize(
    ("importer", "source", "target"),
    [
        ("exporters__export", "from anysize.surgery.axes import free_axes", "surgery.axes"),
        ("surgery__axes", "import anysize.surgery.heads.find", "surgery.heads.find"),
        ("surgery__axes", "from anysize.surgery.heads import find", "surgery.heads.find"),
        ("surgery", "from anysize.surgery.heads.find import x", "surgery.heads.find"),
        (
            "surgery__targets__cam",
            "def f():\n    from anysize.surgery.passes.result import x",
            "surgery.passes.result",
        ),
        ("cli__app", "import anysize.verbs.matrix_runs.plan", "verbs.matrix_runs.plan"),
    ],
)
def test_an_import_past_a_face_is_noticed(importer, source, target):
    name = f"anysize.{importer.replace('__', '.')}"
    assert f"{name} → anysize.{target}" in house_with(**{importer: source}).past_faces()


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("surgery__heads__find", "from anysize.surgery.axes import free_axes"),
        ("surgery__heads__readers__move", "import anysize.surgery.heads.layout"),
        ("surgery__axes", "from anysize.surgery.passes import free_baked_shapes"),
        ("exporters__export", "from anysize.surgery.storage import all_tensors"),
        ("cli__app", "from anysize.verbs.export import export"),
    ],
    ids=["a folder above", "two folders", "a face's own name", "an inner face", "a door"],
)
def test_an_import_that_stays_in_its_rooms_or_takes_a_door_is_none_past_a_face(importer, source):
    assert house_with(**{importer: source}).past_faces() == []


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
    folders = [*HOMES.values(), "benchmarks", "tools"]
    files = {path for folder in folders for path in (ROOT / folder).rglob("*.py")}
    found = {path for path in files if names_onnxruntime(path.read_text())}
    assert found == {door}


@pytest.mark.parametrize(
    "source", ["import onnxruntime", "x = importlib.import_module('onnxruntime')"]
)
def test_the_search_for_onnxruntime_finds_it(source):
    assert names_onnxruntime(source)
    assert not names_onnxruntime(source.replace("onnxruntime", "numpy"))
