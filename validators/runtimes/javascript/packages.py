"""Where packages of JavaScript lie: where Node looks, or where `anysize runtimes` put them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from anysize.errors import NotRunError

__all__ = ["VERSIONS", "find_package", "set_up"]

VERSIONS: Final = {"onnxruntime-web": "1.30.0", "onnxruntime-node": "1.30.0"}
"""What is set up: npm's package → its version."""


def _home() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "anysize" / "javascript"


def find_package(name: str) -> Path | None:
    """Find an installed package; the working folder is not looked at, which may be anybody's."""
    places = [Path(entry) for entry in os.environ.get("NODE_PATH", "").split(os.pathsep) if entry]
    found = (place / name for place in (*places, _home() / "node_modules"))
    return next((path for path in found if (path / "package.json").is_file()), None)


def set_up(name: str) -> Path:
    """Install a package from npm's registry, no script of it run, and return its folder.

    Raises:
        NotRunError: There is no npm, or it fails; the message has its words.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise NotRunError("npm is not installed; install Node.js, which brings it")
    home = _home()
    home.mkdir(parents=True, exist_ok=True)
    command = [npm, "install", "--prefix", str(home), "--ignore-scripts", "--no-audit"]
    done = subprocess.run(  # noqa: S603
        [*command, "--no-fund", "--save-exact", f"{name}@{VERSIONS[name]}"],
        capture_output=True,
        check=False,
        text=True,
    )
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise NotRunError(f"npm cannot install {name}: {''.join(words)}")
    return home / "node_modules" / name
