"""ONNX Runtime in JavaScript: what its processes do becomes the verdict of its cell."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from anysize.errors import NotRunError, UsageError
from anysize.sizes import Size
from anysize.validators import Verdict, list_runtimes, validate_model
from anysize.validators.runtimes import RuntimeDiedError
from anysize.validators.runtimes.javascript import packages
from anysize.validators.runtimes.javascript.host import HERE, JavaScriptHost
from anysize.validators.runtimes.javascript.session import JavaScriptSession, Provider
from anysize.validators.worker import IsolatedRuntime, Limits, set_up_runtime

FAKES = Path(__file__).parents[1] / "fakes"
IN_JAVASCRIPT = ("ort-node", "ort-web", "ort-webgpu")
IMAGES = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


@pytest.fixture
def host():
    """A maker of hosts whose process does one thing wrong."""
    made = []

    def start(wrong):
        def process(base, output):
            command = [sys.executable, str(FAKES / "javascript_process.py"), base, wrong]
            return subprocess.Popen(command, stdout=output, stderr=output)

        made.append(JavaScriptHost(process))
        return made[-1]

    yield start
    for one in made:
        one.close()


def test_arrays_go_there_and_back(host):
    outputs, seconds = host("nothing").run(1, {"x": IMAGES})
    assert seconds == 0.5
    np.testing.assert_array_equal(outputs["y"], IMAGES)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("leaves", r"ended with exit code 3; its last words: out of cells"),
        ("closes its page", "its page ended"),
        ("answers garbage", "garbage: b'<html>'"),
        ("answers too little", "garbage"),
    ],
)
def test_a_process_that_is_of_no_use_has_died(host, wrong, words):
    with pytest.raises(RuntimeDiedError, match=words):
        host(wrong).run(1, {"x": IMAGES})


def test_a_process_that_cannot_start_says_why(host):
    with pytest.raises(RuntimeDiedError, match="exit code 1; its last words: no display"):
        host("cannot start").ask("describe")


def test_what_the_runtime_refuses_is_told_in_its_words_and_the_process_lives_on(host):
    one = host("refuses")
    with pytest.raises(RuntimeError, match=r"^Expand: invalid shape$"):
        one.run(1, {"x": IMAGES})
    assert one.ask("describe")[0]["version"] == "1.2.3"


def test_a_process_that_is_asked_nothing_for_a_while_is_still_there(host, monkeypatch):
    monkeypatch.setattr("anysize.validators.runtimes.javascript.host.IDLE_S", 0.05)
    one = host("nothing")
    for _ in range(3):
        time.sleep(0.3)
        assert one.ask("describe")[0]["version"] == "1.2.3"


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_node_that_collects_its_garbage_is_still_there(tmp_path):
    """What is not held on to is collected, and its connection closed."""
    script = tmp_path / "collects.mjs"
    script.write_text(
        f"import {{ serve }} from {str(HERE / 'host.mjs')!r};\n"
        "const pause = () => new Promise((done) => setTimeout(done, 30));\n"
        "const describe = async () => { for (let i = 0; i < 5; i++) { gc(); await pause(); }"
        " return { version: '1' }; };\n"
        "await serve({}, process.argv[2], describe);\n"
    )

    def start(base, output):
        return subprocess.Popen(
            ["node", "--expose-gc", str(script), base], stdout=output, stderr=output
        )

    one = JavaScriptHost(start)
    try:
        for _ in range(5):
            assert one.ask("describe")[0]["version"] == "1"
        assert not one.has_left.is_set()
    finally:
        one.close()


def test_nobody_without_the_secret_has_a_say_and_only_what_is_named_is_served(host, tmp_path):
    one = host("nothing")
    root = f"http://127.0.0.1:{one._server.server_port}"
    one.folders["ort"] = tmp_path / "inside"
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "inside" / "known.mjs").write_text("known")
    mine = urllib.request.urlopen(f"{root}/{one.secret}/ort/known.mjs")
    assert (mine.read(), mine.headers["Content-Type"]) == (b"known", "text/javascript")
    for path in (
        "/next",
        "/wrong/ort/known.mjs",
        f"/{one.secret}/ort/..%2Fsecret.txt",
        f"/{one.secret}/ort/../../secret.txt",
        f"/{one.secret}/host.py",
        f"/{one.secret}/file/model",
    ):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(root + path)


def test_a_browser_that_ends_while_it_asks_is_nothing_to_talk_about(host, capfd):
    one = host("nothing")
    for _ in range(20):
        asking = socket.create_connection(("127.0.0.1", one._server.server_port))
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        asking.sendall(b"GET /")
        asking.close()  # resets the connection
    time.sleep(0.2)
    assert capfd.readouterr().err == ""


def test_nodes_that_make_sizes_are_no_fallback_and_others_are(host, tmp_path):
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], "sides"),
        helper.make_node("Relu", ["x"], ["r"], "conv"),
        helper.make_node("Reshape", ["r", "s"], ["y"], "last"),
    ]
    image, score = (helper.make_tensor_value_info(n, 1, [1, 2]) for n in "xy")
    graph = helper.make_graph(nodes, "small", [image], [score])
    onnx.save(helper.make_model(graph), tmp_path / "small.onnx")
    gpu = Provider("gpu", "GpuExecutionProvider")
    session = JavaScriptSession(
        host("nothing"), 1, tmp_path / "small.onnx", provider=gpu, threads=1, adapter="moon"
    )
    told = session.provenance()
    assert [(use.provider, use.nodes) for use in told.providers] == [
        ("CPUExecutionProvider", 2),
        ("GpuExecutionProvider (moon)", 4),
    ]
    assert told.fallback_nodes == ("conv (Conv on CPUExecutionProvider)",)


@pytest.mark.parametrize(
    ("wrong", "verdict"), [("leaves", Verdict.CRASHED), ("hangs", Verdict.TIMEOUT)]
)
def test_in_a_worker_a_page_that_leaves_has_crashed_and_one_that_hangs_is_late(
    tiny, monkeypatch, wrong, verdict
):
    monkeypatch.syspath_prepend(FAKES)
    monkeypatch.setenv("ANYSIZE_FAKE_WRONG", wrong)
    runtime = IsolatedRuntime("fake", "in_javascript:Fake", limits=Limits(run_s=2.0))
    module = tiny.fc()
    report = validate_model(
        tiny.fc_file(module), module, runtimes=(runtime,), sizes=(Size(8, 8),), batches=(1,)
    )
    assert [cell.verdict for cell in report.cells] == [verdict]


def test_packages_are_found_where_node_looks_and_never_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("NODE_PATH", raising=False)
    for folder in ("here", "there"):
        package = tmp_path / folder / "node_modules" / "onnxruntime-web"
        package.mkdir(parents=True)
        (package / "package.json").write_text("{}")
    monkeypatch.chdir(tmp_path / "here")
    assert packages.find_package("onnxruntime-web") is None
    monkeypatch.setenv("NODE_PATH", str(tmp_path / "there" / "node_modules"))
    found = packages.find_package("onnxruntime-web")
    assert found == tmp_path / "there" / "node_modules" / "onnxruntime-web"


def test_setting_up_takes_npm_and_a_runtime_that_needs_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotRunError, match=r"npm is not installed; install Node\.js"):
        set_up_runtime("ort-web")
    with pytest.raises(UsageError, match=r"pip install 'anysize\[openvino\]'"):
        set_up_runtime("openvino")
    with pytest.raises(UsageError, match="'moon' is not set up here, but ort-node, ort-web"):
        set_up_runtime("moon")


@pytest.mark.parametrize("name", IN_JAVASCRIPT)
def test_one_that_is_missing_says_what_installs_it(monkeypatch, tmp_path, name):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("ANYSIZE_CHROMIUM", str(tmp_path / "chromium"))
    monkeypatch.delenv("NODE_PATH", raising=False)
    (info,) = list_runtimes([name])
    assert not info.is_available
    assert "is not installed" in info.reason
    assert info.install == f"anysize runtimes --setup {name}"


@pytest.mark.parametrize("name", IN_JAVASCRIPT)
def test_external_weights_are_served(tiny, tmp_path, name):
    (info,) = list_runtimes([name])
    if not info.is_available:
        pytest.skip(info.reason)
    path = tiny.cam_file(tiny.cam())
    outside = tmp_path / "outside.onnx"
    onnx.save(
        onnx.load(path), outside, save_as_external_data=True, location="w.bin", size_threshold=0
    )
    report = validate_model(
        outside, tiny.cam(), runtimes=(name,), sizes=(Size(8, 8), Size(9, 12)), batches=(1,)
    )
    assert report.ok
