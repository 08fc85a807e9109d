"""Validating changes neither the environment nor the home folder, and opens no connection."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

NO_NETWORK = Path(__file__).parent / "fakes" / "no_network"
VALIDATE = """
import json, sys, time
from anysize.sizes import Size
from anysize.validators import parse_runtimes, validate_model
report = validate_model(
    sys.argv[1], sys.argv[1], runtimes=parse_runtimes("all"), sizes=(Size(8, 8), Size(9, 12))
)
time.sleep(3)  # what calls home does so a while after it was loaded
print(json.dumps({str(cell): [cell.verdict, cell.message] for cell in report.cells}))
"""

REPLACE = """
import os, sys
os.execv(sys.executable, [sys.executable, "-S", "-c", "import socket; socket.socket()"])
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the filter is Linux'")


def run_guarded(program, *arguments, home):
    # What anysize sets itself must not come from outside.
    left_out = ("PYTHONSAFEPATH", "ORT_DISABLE_TELEMETRY")
    environment = {key: value for key, value in os.environ.items() if key not in left_out}
    path = os.pathsep.join(filter(None, (str(NO_NETWORK), environment.get("PYTHONPATH"))))
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment | {"PYTHONPATH": path, "HOME": str(home)},
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )


def installed():
    """What `pip freeze` lists."""
    return sorted((str(found.name), found.version) for found in metadata.distributions())


@pytest.mark.parametrize(
    "program",
    [
        "import socket; socket.socket()",
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        REPLACE,
    ],
    ids=["a socket", "a connection", "in another program"],
)
def test_the_guard_ends_a_process_that_opens_a_connection(tmp_path, program):
    assert run_guarded("import socket; socket.socketpair()", home=tmp_path).returncode == 0
    done = run_guarded(program, home=tmp_path)
    assert done.returncode == -signal.SIGSYS


def test_a_validation_on_every_runtime_leaves_everything_as_it_was(tiny, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    before = installed()
    done = run_guarded(VALIDATE, str(tiny.cam_file(tiny.cam())), home=home)
    assert done.returncode == 0, done.stderr
    cells = json.loads(done.stdout)
    assert {verdict for verdict, _ in cells.values()} == {"pass"}, cells
    assert installed() == before
    assert list(home.iterdir()) == []
