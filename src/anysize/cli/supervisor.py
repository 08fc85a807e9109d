"""The command in a child of this process: code of a model that ends it ends no command in silence.

A module is imported, built and traced in the process that reads, proves and writes. Its code may
leave (`os._exit(0)` in an extension), crash or never come back; a process of its own for the model
alone would have to hold its weights a second time. So it is the whole command that runs in a child,
and this process, which loads nothing, waits for it, and says so where it came to no end of its own.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
from collections.abc import Callable
from time import monotonic
from typing import Final

from anysize.errors import NotRunError

__all__ = ["doing", "supervised"]

# Elsewhere processes do not fork, or not with what libraries of the system hold.
_SYSTEM: Final = "linux"
_ENDING: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
_LOOKS_S: Final = 1.0
# Building a model may take as long as loading a file on a runtime, `Limits.load_s`.
_BUILDING: Final = "building"
_BUILDING_S: Final = 300.0
_SIZE: Final = 1024


class _Board:
    """What the child says of itself, in memory that both see: its exit code, and what it does."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, _SIZE)

    @property
    def code(self) -> int | None:
        return self._shared[0] - 1 if self._shared[0] else None

    @code.setter
    def code(self, code: int) -> None:
        self._shared[0] = code + 1

    @property
    def text(self) -> str:
        return self._shared[1:].partition(b"\0")[0].decode(errors="replace")

    @text.setter
    def text(self, text: str) -> None:
        self._shared[1:] = text.encode(errors="replace")[: _SIZE - 2].ljust(_SIZE - 1, b"\0")


_boards: list[_Board] = []


def doing(text: str) -> None:
    """Say what the command does now, for the case that it does not come back from it."""
    for board in _boards:
        board.text = text


def supervised(command: Callable[[], int]) -> int:
    """Run a command in a child of this process, and return its exit code.

    Signals that end a program are handed on. Where processes do not fork, it runs in this one.

    Raises:
        NotRunError: The child ended without an exit code of the command's, or stopped.
    """
    if sys.platform != _SYSTEM:
        return command()
    board = _Board()
    heeded = {one for one in _ENDING if signal.getsignal(one) is not signal.SIG_IGN}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, *heeded})
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # it is None where the shell closed it
            stream.flush()
    child = os.fork()
    if not child:
        _boards.append(board)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        _end_with_parent()
        board.code = code = command()
        return code
    ended = _wait(child, board, heeded)
    if board.code is not None:
        return board.code
    if -ended in heeded:
        return 128 - ended
    what = f"while {board.text}, " if board.text else ""
    raise NotRunError(
        f"{what}the program {_cause(ended)}, and not by its own doing: look at what the model's "
        "code does there; no output file was left half-written"
    )


def _wait(child: int, board: _Board, heeded: set[signal.Signals]) -> int:
    """Wait for the end of the child, and return its exit code, or a signal below 0."""
    since, text = monotonic(), ""
    while True:
        info = signal.sigtimedwait({signal.SIGCHLD, *heeded}, _LOOKS_S)
        # What the terminal sends it sends to the child, too.
        if info is not None and info.si_signo in heeded and info.si_code <= 0:
            os.kill(child, info.si_signo)
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if board.text != text:
            since, text = monotonic(), board.text
        if text.startswith(_BUILDING) and monotonic() - since > _BUILDING_S:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise NotRunError(
                f"{text}: no end within {_BUILDING_S:g} s; look at what the model's code does when "
                "it is imported and built"
            )


def _cause(ended: int) -> str:
    if ended >= 0:
        return f"was left with exit code {ended}"
    try:
        name = signal.Signals(-ended).name
    except ValueError:
        name = f"signal {-ended}"
    return f"was ended by {name}"


def _end_with_parent() -> None:
    """Let the kernel kill the child where its parent is killed."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG of linux/prctl.h
