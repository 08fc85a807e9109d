"""The pages name folders, files and rooms that exist, and docs/architecture.md names every room."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from import_graph import HOMES, House, read_house

ROOT = Path(__file__).parents[2]
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")})
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text("utf-8")
HOUSE = read_house(ROOT)
TOP = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "reports"}


def named_paths(text: str) -> set[str]:
    """The paths below a folder at the top that a page names; `NAME` in one stands for any name."""
    found = set(re.findall(r"`([\w.-]+(?:/[\w.-]+)*/?)`", text))
    return {path for path in found if "/" in path and path.split("/")[0] in TOP}


def missing(text: str) -> set[str]:
    return {path for path in named_paths(text) if not list(ROOT.glob(path.replace("NAME", "*")))}


def loose_names(text: str) -> set[str]:
    """The Python files that a page names without a folder, and does not write itself."""
    written = set(re.findall(r"<!-- file (\w+\.py) -->", text))
    return set(re.findall(r"`(\w+\.py)`", text)) - written - {"__init__.py"}


def figure(text: str, name: str) -> list[str]:
    """The lines of the figure that stands behind the comment `name`."""
    found = re.search(rf"<!-- {name} -->\n<!-- figure -->\n```text\n(.*?)```", text, re.DOTALL)
    assert found, f"docs/architecture.md has no figure {name}"
    return found[1].splitlines()


def rooms_drawn(lines: list[str]) -> set[str]:
    """The folders of an indented figure, `surgery/` and in it `heads/`, as paths."""
    path: list[str] = []
    found = set()
    for line in lines:
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        path = [*path[:depth], name.rstrip("/")]
        found.add("/".join(path))
    return found


def rooms_built() -> set[str]:
    """The folders of the source, without the front door's own."""
    inits = (path for home in HOMES.values() for path in (ROOT / home).rglob("__init__.py"))
    return {str(path.parent.relative_to(ROOT)) for path in inits}


def package_of(room: str) -> str:
    home = next(home for home in HOMES.values() if f"{room}/".startswith(f"{home}/"))
    package = next(package for package, folder in HOMES.items() if folder == home)
    return ".".join((package, *filter(None, room.removeprefix(home).split("/"))))


def wrong_arrows(package: str, chain: str, house: House = HOUSE) -> list[str]:
    """What is wrong with a line of arrows: a name that is none, or an arrow that runs to the left.

    Rooms must be drawn; loose files may be.
    """
    arrows = house.arrows(package)
    columns = [column.split(", ") for column in chain.split(" → ")]
    place = {name: index for index, names in enumerate(columns) for name in names}
    rooms = {name for name in arrows if f"{package}.{name}" in house.packages}
    wrong = [f"{name} is no member" for name in sorted(set(place) - set(arrows))]
    wrong += [f"{name} is not drawn" for name in sorted(rooms - set(place))]
    return wrong + [
        f"{name} → {target}"
        for name in sorted(set(place) & set(arrows))
        for target in sorted(arrows[name] & set(place))
        if place[target] <= place[name]
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_that_a_page_names_exists(page):
    text = page.read_text("utf-8")
    if page.name != "CHANGELOG.md":  # where a file was once is history
        assert missing(text) == set()
        assert loose_names(text) == set()


def test_the_figure_of_rooms_has_every_room_and_no_other():
    assert set(rooms_drawn(figure(ARCHITECTURE, "rooms"))) == rooms_built() | set(HOMES.values())


@pytest.mark.parametrize("line", figure(ARCHITECTURE, "arrows"), ids=lambda line: line.split()[0])
def test_the_arrows_of_a_room_run_as_they_are_drawn(line):
    room, chain = re.split(r"  +", line, maxsplit=1)
    assert wrong_arrows(package_of(room), chain) == []


def test_the_arrows_between_the_folders_run_as_they_are_drawn():
    (chain,) = figure(ARCHITECTURE, "top")
    assert wrong_arrows("anysize", chain) == []


def test_a_path_that_is_not_there_is_noticed():
    text = "`surgery/graph.py` `surgery/heads/` `surgery/heads/NAME.py` `moons/NAME.py` `net.py`"
    assert missing(text) == {"surgery/graph.py"}
    assert missing("`surgery/moons/NAME.py` and `surgery/passes.py`") == {
        "surgery/moons/NAME.py",
        "surgery/passes.py",
    }
    assert loose_names(text) == {"net.py"}
    assert loose_names(f"<!-- file net.py -->\n{text}") == set()


def test_a_room_is_drawn_by_its_indentation():
    lines = ["surgery/", "  heads/  found", "    readers/  one a file", "  shapes/"]
    inner = {"surgery/heads", "surgery/heads/readers", "surgery/shapes"}
    assert rooms_drawn(lines) == {"surgery"} | inner


@pytest.mark.parametrize(
    ("chain", "wrong"),
    [
        ("find → region → readers → layers", []),
        ("find → readers, region → layers", ["region → readers"]),
        ("region → find → readers", ["find → region"]),
        ("find → moons → readers", ["moons is no member"]),
        ("find → region", ["readers is not drawn"]),
    ],
)
def test_a_figure_of_arrows_that_is_not_so_is_noticed(chain, wrong):
    assert wrong_arrows("anysize.surgery.heads", chain) == wrong
