"""The one place where what went wrong becomes one line on stderr and an exit code."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

from typer.exceptions import Abort, TyperException

from anysize.cli.console import complain
from anysize.errors import AnysizeError

__all__ = ["exit_code_of"]

_UNUSABLE = 2
# A shell gives this plus the signal's number for a program that a signal ended.
_SIGNAL_BASE = 128
_OUT_OF_MEMORY = "anysize: error: out of memory; try smaller sizes or batches"


class _TerminatedError(BaseException):
    """A signal asks the program to end; temporary files are removed on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def exit_code_of(command: Callable[[], object], *, debug: bool = False) -> int:
    """Run `command`; return the exit code that it gives, or that its error stands for.

    Errors are one line on stderr, after the traceback where `debug` asks for it.
    """
    try:
        with _signals_unwind():
            code = command()
            _flush_results()
    except BaseException as error:
        if debug and not isinstance(error, (SystemExit, BrokenPipeError)):
            traceback.print_exc()
        line, code = _explain(error)
        if line:
            complain(line)
    return code if isinstance(code, int) else 0


def _explain(error: BaseException) -> tuple[str, int]:
    """Return the line for stderr, empty where nothing is left to say, and the exit code."""
    match error:
        case AnysizeError():
            return f"anysize: error: {error}", error.exit_code
        case TyperException():
            # Empty where the help was printed because nothing was asked.
            text = error.format_message().rstrip(".")
            return (f"anysize: error: {text}; see {_help_of(error)}" if text else ""), _UNUSABLE
        case Abort() | KeyboardInterrupt():
            return _explain(_TerminatedError(signal.SIGINT))
        case _TerminatedError():
            name = signal.Signals(error.number).name
            line = f"anysize: ended by {name}; no output file was left half-written"
            return line, _SIGNAL_BASE + error.number
        case BrokenPipeError() | SystemExit():  # typer makes the second of the first
            _discard_results()  # the reader of our stdout is gone: `anysize … | head`
            return "", _UNUSABLE
        case MemoryError():
            return _OUT_OF_MEMORY, _UNUSABLE
        case RuntimeError() if "allocate memory" in str(error):  # torch's own way to say it
            return _OUT_OF_MEMORY, _UNUSABLE
        case OSError():
            _discard_results()  # stdout itself may be what cannot be written
            where = f"{error.filename}: " if error.filename else ""
            return f"anysize: error: {where}{error.strerror or error}", _UNUSABLE
        case _:  # a bug of ours: still one line, and no traceback unless asked for
            text = f"{type(error).__name__}: {error}"
            advice = "run again with --debug and report what it shows"
            return f"anysize: internal error: {text}; {advice}", _UNUSABLE


def _help_of(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path if context is not None else 'anysize'} --help"


@contextlib.contextmanager
def _signals_unwind() -> Iterator[None]:
    """Let signals that end the program raise, so that temporary files are removed.

    SIGINT among them: typer would turn its KeyboardInterrupt into a silent exit.
    """
    before = {}
    # Only the main thread may set handlers; a signal that is ignored (nohup) stays ignored.
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows lacks SIGHUP
            if number and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                before[number] = signal.signal(number, _raise_terminated)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise_terminated(number: int, frame: FrameType | None) -> NoReturn:
    del frame
    raise _TerminatedError(number)


def _flush_results() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _discard_results() -> None:
    """Send what is left for stdout nowhere, so that the interpreter's own flush does not fail."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
