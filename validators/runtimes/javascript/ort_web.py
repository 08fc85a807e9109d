"""ONNX Runtime Web in headless Chromium: WebAssembly with SIMD and threads, or WebGPU.

The page comes from loopback, and no other host has a name for the browser. Its profile is new each
time and lies in the worker's own folder.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import IO, ClassVar, Final

from anysize.validators.runtimes.javascript.host import JavaScriptHost
from anysize.validators.runtimes.javascript.packages import find_package
from anysize.validators.runtimes.javascript.session import JavaScriptSession, Provider
from anysize.validators.runtimes.protocol import Availability

__all__ = ["OrtWeb", "OrtWebGpu"]

_PACKAGE: Final = "onnxruntime-web"
_BROWSERS: Final = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome",
)  # fmt: skip
_FLAGS: Final = (
    "--headless=new",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class OrtWeb:
    """`onnxruntime-web` by WebAssembly."""

    name: ClassVar[str] = "ort-web"
    profile: Final = "strict"
    # A page maps more addresses than any machine has memory, and may use 4 GB of them.
    device: ClassVar[str] = "wasm"
    provider: ClassVar[Provider] = Provider("wasm", "CPUExecutionProvider")
    bundle: ClassVar[str] = "ort.wasm.min.mjs"
    flags: ClassVar[tuple[str, ...]] = ("--disable-gpu",)

    def __init__(self) -> None:
        self._hosts: dict[int, JavaScriptHost] = {}
        self._numbers = itertools.count()

    def availability(self) -> Availability:
        """Tell whether a browser starts and loads the package."""
        if _browser() is None:
            reason = "no Chromium is installed (Debian: chromium), nor named by ANYSIZE_CHROMIUM"
            return Availability(is_available=False, reason=reason)
        if find_package(_PACKAGE) is None:
            return Availability(is_available=False, reason=f"{_PACKAGE} is not installed")
        try:
            known, _ = self._started(1).ask("describe")
        except Exception as exc:  # the browser's own words
            return Availability(is_available=False, reason=f"the browser does not start: {exc}")
        if self.device == "webgpu" and not known["adapter"]:
            reason = "the browser has no WebGPU adapter"
            return Availability(is_available=False, reason=reason)
        return Availability(is_available=True)

    def version(self) -> str:
        """Return the version of the package."""
        return str(self._started(1).ask("describe")[0]["version"])

    def load(self, model_path: Path, *, threads: int) -> JavaScriptSession:
        """Load a file; ONNX Runtime's own exception tells what it does not support."""
        number, host = next(self._numbers), self._started(threads)
        return JavaScriptSession(
            host,
            number,
            model_path,
            provider=self.provider,
            threads=threads,
            adapter=str(host.ask("describe")[0]["adapter"]),
        )

    def _started(self, threads: int) -> JavaScriptHost:
        """Return a page with so many threads, which are the same for all its sessions."""
        if threads not in self._hosts:
            package = find_package(_PACKAGE)
            assert package is not None
            query = f"bundle={self.bundle}&threads={threads}&provider={self.provider.asked}"
            start = partial(_start, flags=self.flags, query=query)
            self._hosts[threads] = JavaScriptHost(start, {"ort": package / "dist"})
        return self._hosts[threads]


class OrtWebGpu(OrtWeb):
    """`onnxruntime-web` by WebGPU, where the browser has an adapter."""

    name: ClassVar[str] = "ort-webgpu"
    device: ClassVar[str] = "webgpu"
    provider: ClassVar[Provider] = Provider("webgpu", "WebGpuExecutionProvider")
    bundle: ClassVar[str] = "ort.webgpu.min.mjs"
    flags: ClassVar[tuple[str, ...]] = ("--enable-unsafe-webgpu",)


def _browser() -> str | None:
    named = os.environ.get("ANYSIZE_CHROMIUM")
    return named or next(filter(None, map(shutil.which, _BROWSERS)), None)


def _start(
    base: str, output: IO[bytes], *, flags: tuple[str, ...], query: str
) -> subprocess.Popen[bytes]:
    browser = _browser()
    assert browser is not None
    folder = tempfile.mkdtemp(prefix="anysize-browser-")
    sandbox = ("--no-sandbox",) if hasattr(os, "geteuid") and os.geteuid() == 0 else ()
    return subprocess.Popen(  # noqa: S603
        [
            browser,
            *_FLAGS,
            *flags,
            *sandbox,
            f"--user-data-dir={folder}",
            f"{base}/page.html?{query}",
        ],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env={**os.environ, "HOME": folder, "XDG_CONFIG_HOME": folder, "XDG_CACHE_HOME": folder},
    )
