"""A runtime whose process is `javascript_process.py`."""

import os
import subprocess
import sys
from pathlib import Path

from anysize.validators.runtimes import Availability
from anysize.validators.runtimes.javascript.host import JavaScriptHost
from anysize.validators.runtimes.javascript.session import JavaScriptSession, Provider


def _start(base, output):
    script = Path(__file__).with_name("javascript_process.py")
    wrong = os.environ["ANYSIZE_FAKE_WRONG"]
    command = [sys.executable, str(script), base, wrong]
    return subprocess.Popen(command, stdout=output, stderr=output)


class Fake:
    name = "fake"
    profile = "strict"
    device = "cpu"

    def availability(self):
        return Availability(is_available=True)

    def version(self):
        return "1"

    def load(self, model_path, *, threads):
        provider = Provider("gpu", "GpuExecutionProvider")
        return JavaScriptSession(
            JavaScriptHost(_start), 1, model_path, provider=provider, threads=threads
        )
