"""Who imports whom: the rooms of the house, their faces, and the arrows between them.

A room is a folder with an `__init__.py`, its face. Read from the sources, nothing is imported:
what stands in a function or behind `TYPE_CHECKING` counts like any other import, since a circle
that is broken there is a circle still.

    python tools/import_graph.py surgery
"""

from __future__ import annotations

import argparse
import ast
import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The package that each folder at the top is installed as.
HOMES = {
    "anysize": "src/anysize",
    "anysize.models": "models",
    "anysize.exporters": "exporters",
    "anysize.surgery": "surgery",
    "anysize.validators": "validators",
}
# A file of these is a door of its own: one for each verb, for each command, for each plugin.
DOORS = ("anysize.verbs", "anysize.cli", "anysize.testing")
# In the arrows of a room, the room's own face.
FACE = "__init__"


@dataclass(frozen=True, slots=True)
class Module:
    """One file of the source.

    Attributes:
        name: What it is imported as.
        source: Its text.
        is_face: Whether it is the `__init__.py` of a room.
    """

    name: str
    source: str
    is_face: bool

    @property
    def package(self) -> str:
        """The room that it lies in; a face lies in its own."""
        return self.name if self.is_face else self.name.rpartition(".")[0]


@dataclass(frozen=True, slots=True)
class House:
    """All modules, by name.

    Attributes:
        modules: Name → module.
        imports: Name of a module → the modules that it imports. A name that a face has bound is
            the face's, also where a module is called the same.
    """

    modules: Mapping[str, Module]
    imports: Mapping[str, frozenset[str]]

    @property
    def packages(self) -> list[str]:
        """Names of the rooms."""
        return sorted(name for name, module in self.modules.items() if module.is_face)

    def members(self, package: str) -> list[str]:
        """Names of the rooms and loose files in a room, without its own face."""
        inner = {_member(name, package) for name in self.modules if _is_in(name, package)}
        return sorted(inner - {FACE})

    def arrows(self, package: str) -> dict[str, set[str]]:
        """For each member of a room, the other members that it imports.

        The face stands for the whole: it has an arrow to every member, so a member that asks it
        for something closes a circle.
        """
        found = {FACE: set(self.members(package))}
        found |= {member: set() for member in self.members(package)}
        for name, targets in self.imports.items():
            if name == package or not _is_in(name, package):
                continue
            here = _member(name, package)
            there = {_member(target, package) for target in targets if _is_in(target, package)}
            found[here] |= there - {here}
        return found

    def past_faces(self) -> list[str]:
        """List the imports that reach into a room past its face, as `importer → imported`."""
        return [
            f"{name} → {target}"
            for name, targets in sorted(self.imports.items())
            for target in sorted(targets)
            if not self._may_enter(self.modules[name], self.modules[target])
        ]

    def _may_enter(self, importer: Module, target: Module) -> bool:
        if target.is_face or target.package in DOORS:
            return True
        return _is_in(importer.package, target.package)


def read_house(root: Path) -> House:
    """Read the sources of a checkout."""
    modules = []
    for package, home in HOMES.items():
        for path in sorted((root / home).rglob("*.py")):
            parts = path.relative_to(root / home).with_suffix("").parts
            is_face = parts[-1] == FACE
            name = ".".join((package, *(parts[:-1] if is_face else parts)))
            modules.append(Module(name, path.read_text("utf-8"), is_face))
    return house_of(modules)


def house_of(modules: Iterable[Module]) -> House:
    """Work out who imports whom."""
    named = {module.name: module for module in modules}
    imports = {
        name: frozenset(target for target in _imports(module, named) if target != name)
        for name, module in named.items()
    }
    return House(named, imports)


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Return some circle of a graph, its first node again at the end, or []."""
    done: set[str] = set()

    def follow(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for target in sorted(graph.get(node, ())):
            if found := follow(target, [*path, node]):
                return found
        done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := follow(node, []))), [])


def _is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _member(name: str, package: str) -> str:
    """The part of a package in which a module lies; its face's own name for the package itself."""
    return name[len(package) + 1 :].partition(".")[0] or FACE


def _imports(module: Module, modules: Mapping[str, Module]) -> Iterator[str]:
    for name, inner in _statements(module.source):
        if name not in modules:
            continue
        path = f"{name}.{inner}"
        is_module = inner and path in modules and inner not in _bound(modules[name].source)
        yield path if is_module else name


@functools.cache
def _statements(source: str) -> tuple[tuple[str, str], ...]:
    """Each module that a source names, and what it takes from there; "" for the module itself."""
    found: list[tuple[str, str]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [(node.module, alias.name) for alias in node.names]
    return tuple(found)


@functools.cache
def _bound(source: str) -> frozenset[str]:
    """The names that a source binds at its top level or lists in `__all__`."""
    found: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            names = {target.id for target in node.targets if isinstance(target, ast.Name)}
            found |= names
            if "__all__" in names:
                constants = (n for n in ast.walk(node.value) if isinstance(n, ast.Constant))
                found |= {str(constant.value) for constant in constants}
    return frozenset(found)


def main() -> None:
    """Print the arrows inside a room, and what reaches past a face anywhere."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("room", nargs="?", default="", help="for example surgery/heads")
    given = parser.parse_args()
    house = read_house(ROOT)
    package = ".".join(("anysize", *filter(None, given.room.split("/"))))
    for member, targets in house.arrows(package).items():
        if member != FACE:
            print(f"{member} → {', '.join(sorted(targets)) or '·'}")
    print("\n".join(("", "past a face:", *house.past_faces())))


if __name__ == "__main__":
    main()
