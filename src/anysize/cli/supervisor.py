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
from pathlib import Path
from time import monotonic
from typing import Final

from anysize.errors import NotRunError
from anysize.files import remove_partial
from anysize.words import ending

__all__ = ["doing", "supervised", "writing"]

# Elsewhere processes do not fork, or not with what libraries of the system hold.
_SYSTEM: Final = "linux"
_ENDING: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
_LOOKS_S: Final = 1.0
# What runs a model's code in the child, by the word that the command says it with. Building one may
# take as long as loading a file on a runtime, `Limits.load_s`. Tracing runs it several times, with
# symbols perhaps, which takes many minutes where a network is large.
_LIMITS_S: Final = {"building": 300.0, "tracing": 7200.0}
_SIZE, _LONGEST = 8192, 1000


class _Board:
    """What the child says of itself, in memory that both see.

    Its exit code, once it has one; what it does, and which file it is to write, a line each.
    """

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, _SIZE)
        self.said = "", ""

    @property
    def code(self) -> int | None:
        return self._shared[0] - 1 if self._shared[0] else None

    @code.setter
    def code(self, code: int) -> None:
        self._shared[0] = code + 1

    @property
    def said(self) -> tuple[str, str]:
        text = self._shared[1:].rstrip(b"\0").decode(errors="surrogateescape")
        doing, _, writing = text.partition("\n")
        return doing, writing

    @said.setter
    def said(self, said: tuple[str, str]) -> None:
        text = "\n".join(said).encode(errors="surrogateescape")
        self._shared[1:] = text[: _SIZE - 1].ljust(_SIZE - 1, b"\0")


_boards: list[_Board] = []


def doing(text: str) -> None:
    """Say what the command does now, for the case that it does not come back from it."""
    for board in _boards:
        board.said = " ".join(text.split())[:_LONGEST], board.said[1]


def writing(path: Path) -> None:
    """Say which file the command is to write, so that nothing is left beside it."""
    for board in _boards:
        board.said = board.said[0], str(path.absolute())


def supervised(command: Callable[[], int]) -> int:
    """Run a command in a child of this process, and return its exit code.

    Signals that end a program are handed on. Where processes do not fork, it runs in this one.

    Raises:
        NotRunError: The child ended without an exit code of the command's, or was given up.
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
    ended, given_up_s = _wait(child, board, heeded)
    if board.code is not None:
        return board.code
    if -ended in heeded:
        return 128 - ended
    doing_last, path = board.said
    if path:
        remove_partial(Path(path))
    what = f"while {doing_last}, " if doing_last else ""
    cause = f"{ending(ended)}, and not by its own doing"
    if given_up_s is not None:
        cause = f"came to no end within {given_up_s:g} s"
    raise NotRunError(
        f"{what}the program {cause}: look at what the model's code does there; no output file was "
        "left half-written"
    )


def _wait(child: int, board: _Board, heeded: set[signal.Signals]) -> tuple[int, float | None]:
    """Wait for the end of the child.

    Returns:
        Its exit code, or a signal below 0; and after how many seconds it was given up, if it was.
    """
    since, text, given_up_s = monotonic(), "", None
    while True:
        info = signal.sigtimedwait({signal.SIGCHLD, *heeded}, _LOOKS_S)
        # What the terminal sends it sends to the child, too.
        if info is not None and info.si_signo in heeded and info.si_code <= 0:
            os.kill(child, info.si_signo)
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status), given_up_s
        if board.said[0] != text:
            since, text = monotonic(), board.said[0]
        limit_s = _LIMITS_S.get(text.partition(" ")[0])
        if limit_s is not None and monotonic() - since > limit_s:
            given_up_s = limit_s
            os.kill(child, signal.SIGKILL)


def _end_with_parent() -> None:
    """Let the kernel kill the child where its parent is killed."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG of linux/prctl.h
