"""The child's end of a worker: load one runtime, run models on it, and obey until stdin ends."""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from anysize.lazy import load
from anysize.validators.runtimes import Runtime, RuntimeDiedError, Session, as_numbers
from anysize.validators.worker.limits import limit_this_process
from anysize.words import one_line

__all__ = ["serve"]

_GRACE_S: Final = 4.0  # less than the parent waits


def serve(target: str, memory_bytes: int) -> None:
    """Answer the commands on stdin, one line of JSON each, until it ends.

    Args:
        target: `module:Class` of the runtime.
        memory_bytes: Limit of this process's address space; 0 for none.
    """
    # Commands and replies keep the real stdin and stdout. What a runtime prints goes to stderr,
    # from native code, too, and what it starts finds nothing to read.
    pipe = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    limit_this_process(memory_bytes)
    commands: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(pipe, commands), daemon=True).start()
    servant = _Servant(target)
    while (line := commands.get()) is not None:
        command = json.loads(line)
        try:
            reply = servant.obey(command)
            encoded = json.dumps({**reply, "number": command["number"]})
        except Exception as exc:  # each runtime has exceptions of its own
            kind = "fatal" if _is_fatal(exc) else "error"
            kind = "died" if isinstance(exc, RuntimeDiedError) else kind
            encoded = json.dumps({kind: one_line(exc), "number": command["number"]})
        replies.write(encoded.encode() + b"\n")
        replies.flush()
    servant.close()
    os._exit(0)  # what is left are destructors, which take their time and crash at times


class _GarbageError(Exception):
    """A session answers with something that is no answer."""


def _is_fatal(exc: Exception) -> bool:
    """Whether nothing can be asked of this process any more; it is no way to refuse an input."""
    is_full = isinstance(exc, MemoryError) or "bad_alloc" in str(exc)
    return is_full or isinstance(exc, _GarbageError)


def _read(pipe: IO[bytes], commands: queue.SimpleQueue[bytes | None]) -> None:
    """Pass commands on; when the parent is gone, end even if the runtime does not return."""
    for line in pipe:
        commands.put(line)
    commands.put(None)
    time.sleep(_GRACE_S)
    os._exit(1)


class _Servant:
    """The runtime and its sessions, by number."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._runtime: Runtime | None = None
        self._sessions: dict[int, Session] = {}

    def obey(self, command: Mapping[str, Any]) -> dict[str, object]:
        match command["command"]:
            case "describe":
                return self._describe()
            case "load":
                path, threads = Path(command["model"]), int(command["threads"])
                self._sessions[command["session"]] = self._found().load(path, threads=threads)
                return {}
            case "run":
                return self._run(command)
            case "provenance":
                return dataclasses.asdict(self._sessions[command["session"]].provenance())
            case "unload":
                self._sessions.pop(command["session"]).close()
                return {}
            case other:
                raise ValueError(f"unknown command {other!r}")

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()

    def _found(self) -> Runtime:
        if self._runtime is None:
            found = load(self._target)()
            if not isinstance(found, Runtime):
                raise TypeError(f"{self._target} is not a Runtime")
            self._runtime = found
        return self._runtime

    def _describe(self) -> dict[str, object]:
        runtime = self._found()
        known = runtime.availability()
        version = runtime.version() if known.is_available else ""
        kind = {"profile": runtime.profile, "device": runtime.device}
        return {"version": version, **kind, **dataclasses.asdict(known)}

    def _run(self, command: Mapping[str, Any]) -> dict[str, object]:
        session, folder, number = command["session"], Path(command["folder"]), command["number"]
        files = command["inputs"].items()
        arrays = {name: np.load(file, allow_pickle=False) for name, file in files}
        start = time.perf_counter()
        answers = self._sessions[session].run(arrays)
        run_s = time.perf_counter() - start
        names = []
        try:
            for place, (name, answer) in enumerate(answers.items()):
                output = as_numbers(name, answer)
                np.save(folder / f"output-{number}-{place}.npy", output, allow_pickle=False)
                names.append(str(name))
        except Exception as exc:  # whatever it is, arrays by name it is not
            raise _GarbageError(f"what it answers is of no use: {one_line(exc)}") from exc
        if not names:
            raise _GarbageError("it answers with no output at all")
        return {"outputs": names, "run_s": run_s}
