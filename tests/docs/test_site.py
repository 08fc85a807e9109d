"""The site is built strictly from docs/, and has every public name, and nothing from elsewhere."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys

import pytest

pytest.importorskip("mkdocs", reason="needs anysize[site]")
site_pages = importlib.import_module("site_pages")


def build(folder, repository, **changes):
    config = (repository / "mkdocs.yml").read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in config
        config = config.replace(old, new)
    config = config.replace("docs_dir: docs", f"docs_dir: {repository / 'docs'}")
    config = config.replace("- tools/", f"- {repository / 'tools'}/")
    (folder / "mkdocs.yml").write_text(config, encoding="utf-8")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder / "site")]
    return subprocess.run(words, cwd=folder, capture_output=True, encoding="utf-8", check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    from pathlib import Path

    folder = tmp_path_factory.mktemp("site")
    done = build(folder, Path(__file__).resolve().parents[2])
    assert done.returncode == 0, done.stderr
    return folder / "site"


def test_a_link_that_leads_nowhere_ends_the_build(tmp_path, repository):
    done = build(tmp_path, repository, **{"deploy.md": "no_such_page.md"})
    assert done.returncode != 0
    assert "no_such_page.md" in done.stderr


@pytest.mark.parametrize("package", site_pages.PACKAGES)
def test_every_public_name_is_in_the_reference(site, package):
    text = (site / "reference.html").read_text(encoding="utf-8")
    names = [name for name in importlib.import_module(package).__all__ if name[:2] != "__"]
    assert [name for name in names if f'id="{package}.{name}"' not in text] == []


def test_the_reference_names_what_is_raised_and_in_which_shape(site):
    text = (site / "reference.html").read_text(encoding="utf-8")
    assert "VerificationError" in text
    assert "(batch, classes, map_height, map_width)" in text


def test_the_site_is_searchable_has_a_dark_mode_and_loads_nothing_from_elsewhere(site):
    assert (site / "search" / "search_index.json").stat().st_size > 50_000
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?:[^"]+)"', text)
        assert loaded == [], path
    assert 'data-md-color-scheme="slate"' in (site / "index.html").read_text(encoding="utf-8")


def test_every_page_of_docs_is_in_the_navigation(site, repository):
    listed = (repository / "mkdocs.yml").read_text(encoding="utf-8").partition("nav:")[2]
    for path in (repository / "docs").glob("*.md"):
        assert f" {path.name}" in listed, path.name


def strings(repository):
    """All text in the sources, what is filled into it written as an ellipsis."""
    for folder in ("src", "models", "exporters", "surgery", "validators"):
        for path in (repository / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


def test_every_message_that_the_page_of_troubles_names_exists(repository):
    text = (repository / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^### `(.+)`$", text, re.MULTILINE)
    assert len(messages) > 15
    known = " \n ".join(strings(repository)) + "anysize_min_size_expanded"
    parts = [part.strip() for one in messages for part in one.split("…") if part.strip()]
    unknown = [part for part in parts if part not in known]
    assert unknown == []
