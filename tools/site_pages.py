"""Pages of the site that do not lie in docs/: the repository's own, and the API reference.

mkdocs calls the functions by their names (`hooks` in mkdocs.yml).
"""

from __future__ import annotations

import atexit
import importlib
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

__all__ = ["PACKAGES", "on_config", "on_files", "on_page_markdown"]

_ROOT: Final = Path(__file__).parents[1]
_PAGES: Final = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
_OTHERS: Final = ("README.md", "LICENSE", "tests/", "benchmarks/", "tools/", "constraints.txt")
_MARK: Final = re.compile(r"<!-- every public name of ([\w.]+) -->")

# Whose names the reference has, each once: in the first of them.
PACKAGES: Final = (
    "anysize",
    "anysize.surgery",
    "anysize.validators",
    "anysize.exporters",
    "anysize.models",
    "anysize.testing",
    "anysize.errors",
)


@event_priority(100)  # before mkdocstrings reads its own
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Show the sources as they are installed: four folders of the repository lie in the package."""
    package = Path(tempfile.mkdtemp(prefix="anysize-site-")) / "anysize"
    atexit.register(shutil.rmtree, package.parent, ignore_errors=True)
    sources = shutil.ignore_patterns("__pycache__", "weights")
    shutil.copytree(_ROOT / "src/anysize", package, ignore=sources)
    for room in ("models", "exporters", "surgery", "validators"):
        shutil.copytree(_ROOT / room, package / room, ignore=sources)
    handlers = config.plugins["mkdocstrings"].config.handlers
    handlers["python"]["paths"] = [str(package.parent)]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the repository's root."""
    for name in _PAGES:
        text = (_ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Lead links to where the site has their pages, and list the names of the reference."""
    text = re.sub(rf"\]\(\.\./({'|'.join(map(re.escape, _PAGES))})", r"](\1", markdown)
    for other in _OTHERS:  # what the site does not have stays a word
        text = re.sub(rf"\[([^\]]+)\]\((?:\.\./)?{re.escape(other)}[^)]*\)", r"\1", text)
    return _MARK.sub(lambda mark: _directives(mark[1]), text)


def _directives(package: str) -> str:
    """Write what makes mkdocstrings describe each public name, where it is defined."""
    module = importlib.import_module(package)
    return "\n\n".join(
        f"::: {package}.{name}" for name in sorted(module.__all__) if not name.startswith("__")
    )
