"""The Python end of ONNX Runtime in JavaScript: a server on loopback that asks a process.

The process, Node or a browser, fetches its next command, and the files that the command names, and
posts what came of it: a line of JSON, and behind it the bytes of the arrays. A connection that it
holds open tells that it is there. All addresses begin
with a secret, so that nobody else on the machine has a say; nothing else is contacted.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import secrets
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from anysize.validators.runtimes.protocol import RuntimeDiedError

__all__ = ["JavaScriptHost", "Start"]

Array = NDArray[np.generic]
# Starts the process, given the base of all addresses and where its output goes.
Start = Callable[[str, IO[bytes]], "subprocess.Popen[bytes]"]

HERE: Final = Path(__file__).parent
_TYPES: Final = {".html": "text/html", ".mjs": "text/javascript", ".wasm": "application/wasm"}
# What a page needs for threads: that nothing of another origin can see its memory.
_ISOLATED: Final = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_POLL_S: Final = 0.1
# Node gives up a connection on which nothing has come for 300 s.
IDLE_S = 60.0
_SAID_BYTES: Final = 1 << 20
_LAST_WORDS: Final = 300
_PIECE: Final = 1 << 20


class _Server(ThreadingHTTPServer):
    """Says nothing of a browser that ends while it is answered: its end is told elsewhere."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class JavaScriptHost:
    """A process that runs ONNX Runtime in JavaScript.

    Args:
        start: Starts it.
        folders: Word → folder whose files it may fetch by name.
    """

    def __init__(self, start: Start, folders: Mapping[str, Path] | None = None) -> None:
        self.files: dict[str, Path | bytes] = {}
        self.folders = dict(folders or {})
        self.commands: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[tuple[dict[str, Any], bytes]] = queue.SimpleQueue()
        self.has_left = threading.Event()
        self.secret = secrets.token_urlsafe(16)
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the host)
        base = f"http://127.0.0.1:{self._server.server_port}/{self.secret}"
        self._process = start(base, self._output)

    def ask(
        self, command: str, files: Mapping[str, Path | bytes] | None = None, **arguments: object
    ) -> tuple[dict[str, Any], bytes]:
        """Send a command; return its answer and the bytes behind it.

        Raises:
            RuntimeDiedError: The process has ended, or a page of it.
            RuntimeError: ONNX Runtime's own words.
        """
        self.files = dict(files or {})
        self.commands.put(json.dumps({"command": command, **arguments}).encode())
        while True:
            with contextlib.suppress(queue.Empty):
                header, data = self.answers.get(timeout=_POLL_S)
                break
            if self.has_left.is_set() or self._process.poll() is not None:
                raise RuntimeDiedError(f"{command}: {self._post_mortem()}")
        if "error" in header:
            raise RuntimeError(str(header["error"]))
        if "garbage" in header:
            raise RuntimeDiedError(f"{command}: it answered with garbage: {header['garbage']}")
        return header, data

    def run(self, session: int, inputs: Mapping[str, Array]) -> tuple[dict[str, Array], float]:
        """Run a session; return its outputs by name, and the seconds that it took.

        Raises:
            RuntimeDiedError: The process has ended, or a page of it.
            RuntimeError: ONNX Runtime's own words.
        """
        arrays = {f"input-{place}": array for place, array in enumerate(inputs.values())}
        described = [
            {"name": name, "type": array.dtype.name, "dims": array.shape, "file": file}
            for name, (file, array) in zip(inputs, arrays.items(), strict=True)
        ]
        files = {file: array.tobytes() for file, array in arrays.items()}
        header, data = self.ask("run", files, session=session, inputs=described)
        try:
            return _outputs(header["outputs"], data), float(header["seconds"])
        except (LookupError, TypeError, ValueError) as exc:
            raise RuntimeDiedError(f"run: it answered with garbage: {exc}") from exc

    def close(self) -> None:
        """End the process and the server."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2.0)
        self._process.kill()
        self._server.shutdown()
        self._server.server_close()
        self._output.close()

    def words(self) -> str:
        """Return what the process printed last."""
        end = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, end - _SAID_BYTES))
        return self._output.read().decode(errors="replace").strip()

    def _post_mortem(self) -> str:
        time.sleep(_POLL_S)
        code = self._process.poll()
        how = "its page ended" if code is None else f"it ended with exit code {code}"
        words = self.words()[-_LAST_WORDS:]
        return f"{how}; its last words: {words}" if words else how


def _answer(body: bytes) -> tuple[dict[str, Any], bytes]:
    """Split an answer into its line of JSON and the bytes behind it."""
    line, _, data = body.partition(b"\n")
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        header = None
    is_whole = isinstance(header, dict)
    return (header, data) if is_whole else ({"garbage": repr(line[:_LAST_WORDS])}, b"")


def _outputs(described: list[dict[str, Any]], data: bytes) -> dict[str, Array]:
    """Read the arrays that stand one behind the other."""
    outputs: dict[str, Array] = {}
    start = 0
    for one in described:
        dtype, shape = np.dtype(one["type"]), tuple(map(int, one["dims"]))
        count = math.prod(shape)
        if count * dtype.itemsize != one["size"]:
            raise ValueError(f"output {one['name']!r} of {one['size']} bytes has shape {shape}")
        outputs[str(one["name"])] = np.frombuffer(data, dtype, count, start).reshape(shape)
        start += count * dtype.itemsize
    return outputs


def _handler(host: JavaScriptHost) -> type[BaseHTTPRequestHandler]:
    """Make the class that answers one process's requests."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            match self._parts():
                case ["next"]:
                    self._send(self._command(), "application/json")
                case ["alive"]:
                    self._headers("text/plain")
                    with contextlib.suppress(OSError):
                        self._beat()
                    host.has_left.set()
                case ["file", name] if name in host.files:
                    self._send(host.files[name], "application/octet-stream")
                case [name] if (HERE / name).suffix in _TYPES and (HERE / name).is_file():
                    self._send(HERE / name, _TYPES[(HERE / name).suffix])
                case [folder, name] if (found := self._found(folder, name)) is not None:
                    self._send(found, _TYPES.get(found.suffix, "application/octet-stream"))
                case _:
                    self.send_error(404)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            match self._parts():
                case ["answer"]:
                    host.answers.put(_answer(body))
                case _:
                    self.send_error(404)
                    return
            self._send(b"", "text/plain")

        def _command(self) -> bytes:
            try:
                return host.commands.get(timeout=IDLE_S)
            except queue.Empty:
                return b"null"  # ask again

        def _beat(self) -> None:
            """Write something now and then, until the other end is closed."""
            while True:
                self.wfile.write(b".")
                if select.select([self.connection], [], [], IDLE_S)[0]:
                    return

        def _parts(self) -> list[str]:
            secret, *parts = self.path.partition("?")[0].strip("/").split("/")
            return parts if secrets.compare_digest(secret, host.secret) else []

        def _found(self, folder: str, name: str) -> Path | None:
            inside = host.folders.get(folder)
            known = {path.name: path for path in inside.iterdir()} if inside else {}
            return known.get(name)

        def _headers(self, kind: str, length: int | None = None) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            if length is not None:
                self.send_header("Content-Length", str(length))
            for name, value in _ISOLATED.items():
                self.send_header(name, value)
            self.end_headers()

        def _send(self, content: Path | bytes, kind: str) -> None:
            if isinstance(content, bytes):
                self._headers(kind, len(content))
                self.wfile.write(content)
                return
            with content.open("rb") as stream:
                self._headers(kind, content.stat().st_size)
                while piece := stream.read(_PIECE):
                    self.wfile.write(piece)

        def log_message(self, *words: object) -> None:
            """Say nothing."""

    return Handler
