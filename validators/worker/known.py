"""The runtimes of the table, each in a worker of its own: chosen by name, and listed."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from anysize.errors import UsageError
from anysize.validators.runtimes import Runtime, RuntimeEntry, known_runtimes
from anysize.validators.worker.isolated import IsolatedRuntime
from anysize.validators.worker.limits import Limits
from anysize.words import and_list

__all__ = ["RuntimeInfo", "get_runtime", "list_runtimes", "parse_runtimes", "set_up_runtime"]

_ASKED_AT_ONCE: Final = 4  # a worker that imports its runtime keeps one core busy


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """One line of `anysize runtimes`.

    Attributes:
        name: The word for `--runtimes`.
        text: What it is.
        device: What it computes on.
        profile: Error profile of the runtime.
        version: Version of the installed package; "" where it is not available.
        is_available: Whether it can run here.
        reason: Why not.
        install: The command that installs it; "" where it is available.
        warning: What may make it another runtime than it seems, and how to mend it.
    """

    name: str
    text: str
    device: str
    profile: str
    version: str
    is_available: bool
    reason: str
    install: str
    warning: str = ""


def get_runtime(name: str, *, limits: Limits | None = None, tf32: bool = False) -> Runtime:
    """Return the runtime of that name, in a worker; it may still be unavailable here.

    Args:
        name: A key of `known_runtimes()`.
        limits: Limits of its worker process; None for the default ones of its device.
        tf32: Allow TF32 where the runtime has it.

    Raises:
        UsageError: There is none of that name.
    """
    known = known_runtimes()
    if name not in known:
        raise UsageError(f"runtime {name!r}: unknown; known are {', '.join(known)}")
    entry = known[name]
    return IsolatedRuntime(
        name,
        entry.tf32 if tf32 and entry.tf32 else entry.target,
        profile="tf32" if tf32 and entry.tf32 else entry.profile,
        device=entry.device,
        limits=limits,
    )


def parse_runtimes(text: str) -> tuple[str, ...]:
    """Read a comma-separated list of runtimes, without repeats; `all` is every one that runs here.

    Raises:
        UsageError: The list is empty or a name is unknown.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = known_runtimes()
    if not names:
        raise UsageError(f"runtimes {text!r}: expected a list such as {','.join(known)}")
    for name in names:
        if name != "all" and name not in known:
            raise UsageError(f"runtime {name!r}: unknown; known are {', '.join(known)}, or all")
    found: list[str] = []
    for name in names:
        if name == "all":
            found.extend(info.name for info in list_runtimes() if info.is_available)
        else:
            found.append(name)
    return tuple(dict.fromkeys(found))


def list_runtimes(names: Iterable[str] | None = None) -> tuple[RuntimeInfo, ...]:
    """Tell for each runtime whether it can run here, and where it cannot, why and what to do."""
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        return tuple(pool.map(_info, known_runtimes() if names is None else names))


def set_up_runtime(name: str) -> Path:
    """Install what a runtime needs that is no Python package, and return its folder.

    Raises:
        UsageError: There is no runtime of that name, or pip installs it.
        NotRunError: It cannot be installed; the message has npm's words.
    """
    from anysize.validators.runtimes.javascript import set_up

    known = known_runtimes()
    ways = [one for one, entry in known.items() if entry.is_set_up]
    if name not in ways:
        how = f"; install it with: {_install_command(name, known[name])}" if name in known else ""
        raise UsageError(f"runtime {name!r} is not set up here, but {', '.join(ways)}{how}")
    return set_up(known[name].install)


def _info(name: str) -> RuntimeInfo:
    runtime = get_runtime(name)
    availability = runtime.availability()
    entry = known_runtimes()[name]
    info = RuntimeInfo(
        name=name,
        text=entry.text,
        device=runtime.device,
        profile=runtime.profile,
        version=runtime.version() if availability.is_available else "",
        is_available=availability.is_available,
        reason=availability.reason,
        install="" if availability.is_available else _install_command(name, entry),
        warning=overwritten(entry.package) if entry.package else "",
    )
    if isinstance(runtime, IsolatedRuntime):
        runtime.close()
    return info


def overwritten(package: str) -> str:
    """Say that several installed distributions hold one Python package; "" where only one does.

    pip lets them overwrite each other's files: which of them runs is left to chance, and removing
    one breaks the other.
    """
    found = sorted(set(metadata.packages_distributions().get(package, ())), key=len)
    if len(found) < 2:
        return ""
    names = " ".join(found)
    return (
        f"{and_list(found)} are both installed and overwrite each other's files; keep one: "
        f"pip uninstall -y {names}, then pip install {found[-1]}"
    )


def _install_command(name: str, entry: RuntimeEntry) -> str:
    if entry.is_set_up:
        return f"anysize runtimes --setup {name}"
    words = [f"'{word}'" if "[" in word else shlex.quote(word) for word in entry.install.split()]
    return f"pip install {' '.join(words)}"
