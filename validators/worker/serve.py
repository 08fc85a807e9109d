"""The child's end of a worker: load one runtime, run models on it, and obey until stdin ends."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import queue
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from anysize.validators.references.protocol import one_line
from anysize.validators.runtimes.protocol import Runtime, Session
from anysize.validators.worker.limits import limit_this_process

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
        except Exception as exc:  # each runtime has exceptions of its own
            reply = {"error": one_line(exc)}
        reply["number"] = command["number"]
        replies.write(json.dumps(reply).encode() + b"\n")
        replies.flush()
    servant.close()
    os._exit(0)  # what is left are destructors, which take their time and crash at times


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
            module, _, attribute = self._target.partition(":")
            found = getattr(importlib.import_module(module), attribute)()
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
        for place, (name, answer) in enumerate(answers.items()):
            output = np.asarray(answer)
            if output.dtype.kind not in "biuf":
                raise TypeError(f"output {name!r} has type {output.dtype}, not numbers")
            np.save(folder / f"output-{number}-{place}.npy", output, allow_pickle=False)
            names.append(str(name))
        return {"outputs": names, "run_s": run_s}
