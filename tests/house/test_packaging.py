"""Every folder is installed, below `anysize`, and under no other name."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# Folder at the top level → the package it is installed as.
HOMES = {
    "src/anysize": "anysize",
    "models": "anysize.models",
    "exporters": "anysize.exporters",
    "surgery": "anysize.surgery",
    "validators": "anysize.validators",
}


def package_of(folder: Path) -> str:
    for home, package in HOMES.items():
        if folder == ROOT / home or (ROOT / home) in folder.parents:
            rest = folder.relative_to(ROOT / home).parts
            return ".".join((package, *rest))
    raise AssertionError(f"{folder} belongs to no package")


def source_files() -> list[Path]:
    return [path for home in HOMES for path in sorted((ROOT / home).rglob("*.py"))]


def bare_imports(source: str) -> list[str]:
    """Names of the top-level folders that a module imports without `anysize.`."""
    bare = {"models", "exporters", "surgery", "validators"}
    found = []
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        found += [name for name in names if name.split(".")[0] in bare]
    return found


def test_every_folder_with_an_init_is_declared():
    folders = {path.parent for path in source_files() if path.name == "__init__.py"}
    declared = set(PROJECT["tool"]["setuptools"]["packages"])
    assert {package_of(folder) for folder in folders} == declared


def test_every_module_lies_in_a_folder_with_an_init():
    lost = [path for path in source_files() if not (path.parent / "__init__.py").is_file()]
    assert lost == []


def test_nothing_imports_the_bare_folder_names():
    others = [path for name in ("tests", "tools") for path in sorted((ROOT / name).rglob("*.py"))]
    files = [*source_files(), *others]
    assert {str(path): names for path in files if (names := bare_imports(path.read_text()))} == {}


@pytest.mark.parametrize(
    "source", ["import validators", "from models.zoo import ZOO", "import surgery.edit as edit"]
)
def test_a_bare_import_is_noticed(source):
    assert bare_imports(source)


def test_a_full_import_is_no_bare_import():
    assert bare_imports("from anysize.models import build\nimport anysize.surgery") == []


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    subprocess.run(["git", "-C", ROOT, "rev-parse"], check=True, capture_output=True)
    files = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    for name in filter(None, files):
        source, target = ROOT / name, tree / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), "."]
    built = subprocess.run(command, cwd=tree, check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_every_module_and_data_file_and_nothing_else(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        f"{package_of(path.parent).replace('.', '/')}/{path.name}" for path in source_files()
    }
    data = {
        f"{package_of(ROOT / folder).replace('.', '/')}/{path.relative_to(ROOT / folder)}"
        for folder in HOMES
        for path in (ROOT / folder).rglob("*")
        if path.suffix
        in {".safetensors", ".png", ".json", ".typed", ".css", ".html", ".j2", ".mjs"}
    }
    assert names == expected | data


def lower_bounds() -> dict[str, str]:
    """The lower bounds of what anysize itself needs, and of the extras that its matrix needs."""
    extras = PROJECT["project"]["optional-dependencies"]
    needed = [*PROJECT["project"]["dependencies"], *extras["report"], *extras["graphsurgeon"]]
    pairs = (re.match(r"([\w.-]+)>=([\w.]+)", one).groups() for one in needed)
    return {name.lower(): bound for name, bound in pairs}


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {package.lower(): version for package, version in pairs}


def numbers(version: str) -> tuple[int, ...]:
    """1.19.0 and 1.19 are the same version."""
    found = [int(part) for part in version.split(".")]
    while found[-1] == 0:
        found.pop()
    return tuple(found)


def test_lower_bounds_are_what_parity_oldest_installs():
    """A bound that nobody installs is a guess."""
    installed = {name: numbers(version) for name, version in pins("constraints-oldest.txt").items()}
    assert installed == {name: numbers(bound) for name, bound in lower_bounds().items()}


def test_the_newest_versions_are_above_the_oldest():
    newest, oldest = pins("constraints.txt"), pins("constraints-oldest.txt")
    found = {name: newest[name] for name in oldest if name in newest}
    assert len(found) > 9
    assert {name for name in found if numbers(found[name]) < numbers(oldest[name])} == set()
