"""The runtimes themselves, and what becomes of one that misbehaves."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from dataclasses import dataclass, field

import numpy as np
import pytest
from onnx import helper

import anysize
from anysize.errors import UsageError
from anysize.models import build
from anysize.sizes import Size
from anysize.validators import Verdict, list_runtimes, parse_runtimes, validate_model
from anysize.validators.runtimes import RUNTIMES, Availability, Provenance, ProviderUse, Runtime
from anysize.validators.runtimes.ort_cpu import OrtCpu
from anysize.validators.worker import IsolatedRuntime, get_runtime

SIZE = Size(8, 8)


@dataclass
class FakeSession:
    """ONNX Runtime underneath, with `spoil` applied to what it answers."""

    session: object
    spoil: object
    known: Provenance
    runs: int = 0

    def run(self, inputs):
        self.runs += 1
        return self.spoil(dict(self.session.run(inputs)), self.runs)

    def provenance(self):
        return self.known

    def close(self):
        self.session.close()


@dataclass
class FakeRuntime:
    """A runtime that is wrong in one way."""

    spoil: object = lambda outputs, runs: outputs
    known: Provenance = field(default_factory=Provenance)
    reason: str = ""
    refusal: str = ""
    name: str = "fake"
    profile: str = "strict"
    device: str = "cpu"

    def availability(self):
        return Availability(not self.reason, self.reason)

    def version(self):
        return "1"

    def load(self, model_path, *, threads):
        if self.refusal:
            raise RuntimeError(self.refusal)
        real = OrtCpu().load(model_path, threads=threads)
        return FakeSession(real, self.spoil, self.known)


def run_fake(tiny, runtime, sizes=(SIZE,), batches=(1,)):
    module = tiny.fc()
    path = tiny.fc_file(module)
    return validate_model(path, module, runtimes=(runtime,), sizes=sizes, batches=batches)


def test_the_fake_is_healthy_when_nothing_is_spoiled(tiny):
    assert run_fake(tiny, FakeRuntime()).ok


def test_a_runtime_that_is_not_installed_is_unavailable_with_its_reason(tiny):
    report = run_fake(tiny, FakeRuntime(reason="No module named 'fake'"))
    (cell,) = report.cells
    assert (cell.verdict, cell.message) == (Verdict.UNAVAILABLE, "No module named 'fake'")
    assert report.exit_code == 3


def test_a_graph_that_does_not_load_is_unsupported_in_the_runtimes_words(tiny):
    report = run_fake(tiny, FakeRuntime(refusal="no kernel\nfor Conv"))
    (cell,) = report.cells
    assert (cell.verdict, cell.message) == (Verdict.UNSUPPORTED, "no kernel for Conv")
    assert report.exit_code == 3


def test_an_operator_that_no_runtime_knows_is_unsupported_everywhere(tiny):
    def strange(graph, image):
        graph.nodes.append(helper.make_node("Strange", [image], ["odd"], domain="nowhere"))
        return "odd"

    path = tiny.fc_file(tiny.fc(), image=strange)
    report = validate_model(path, tiny.fc(), runtimes=parse_runtimes("all"), sizes=(SIZE,))
    assert {cell.verdict for cell in report.cells} == {Verdict.UNSUPPORTED}
    # IREE complains of what follows from it.
    assert all("Strange" in cell.message for cell in report.cells if cell.runtime != "iree")


def test_a_node_on_another_provider_is_a_fallback_and_named(tiny):
    known = Provenance((ProviderUse("GPU", 3), ProviderUse("CPU", 1)), ("conv_1 (Conv on CPU)",))
    report = run_fake(tiny, FakeRuntime(known=known))
    (cell,) = report.cells
    assert cell.verdict is Verdict.FALLBACK
    assert "conv_1 (Conv on CPU)" in cell.message
    assert report.exit_code == 3


# Three sizes, one of them again with brighter images; then the way back begins.
FIRST_PASS = 4


def drifts(outputs, runs):
    return {name: value + np.float32(runs > FIRST_PASS) for name, value in outputs.items()}


def fails_later(outputs, runs):
    if runs > FIRST_PASS:
        raise RuntimeError("out of luck")
    return outputs


def test_an_answer_that_depends_on_what_ran_before_is_a_mismatch(tiny):
    sizes = (SIZE, Size(9, 9), Size(10, 10))
    for spoil in (drifts, fails_later):
        report = run_fake(tiny, FakeRuntime(spoil), sizes)
        assert {cell.verdict for cell in report.cells} == {Verdict.MISMATCH}
        assert all("depends on what ran before" in cell.message for cell in report.cells)


def test_a_failure_at_run_is_an_error_in_the_runtimes_words_on_one_line(tiny):
    def fail(outputs, runs):
        raise RuntimeError("bad\n  kernel")

    (cell,) = run_fake(tiny, FakeRuntime(fail)).cells
    assert (cell.verdict, cell.message) == (Verdict.ERROR, "bad kernel")


def test_an_empty_answer_is_a_rejection_where_the_reference_rejects(tiny):
    def empty(outputs, runs):
        return {"logits": np.zeros((0, 5), np.float32)}

    (cell,) = run_fake(tiny, FakeRuntime(empty)).cells
    assert cell.verdict is Verdict.SHAPE
    path = tiny.fc_file(
        tiny.fc(), flatten=lambda g, x: g.add("Reshape", x, g.constant([-1, 24], np.int64))
    )
    report = validate_model(
        path, tiny.fc(), runtimes=(FakeRuntime(empty),), sizes=(Size(16, 16),), batches=(1,)
    )
    assert report.cells[0].verdict is Verdict.REJECTED


def test_an_answer_of_nan_is_no_rejection(tiny):
    def nan(outputs, runs):
        return {"logits": np.full((1, 5), np.nan, np.float32)}

    path = tiny.fc_file(
        tiny.fc(), flatten=lambda g, x: g.add("Reshape", x, g.constant([-1, 24], np.int64))
    )
    report = validate_model(
        path, tiny.fc(), runtimes=(FakeRuntime(nan),), sizes=(Size(16, 16),), batches=(1,)
    )
    assert report.cells[0].verdict is Verdict.ACCEPTED


@pytest.mark.parametrize(
    "answer",
    [{}, {"logits": np.array([["a"]])}, {"logits": object()}],
    ids=["nothing", "text", "an object"],
)
def test_an_answer_without_numbers_is_an_error(tiny, answer):
    (cell,) = run_fake(tiny, FakeRuntime(lambda outputs, runs: answer)).cells
    assert cell.verdict is Verdict.ERROR


def test_ort_cpu_tells_from_its_profile_what_executed_each_node(tiny):
    report = validate_model(tiny.fc_file(tiny.fc()), tiny.fc(), sizes=(Size(7, 7), SIZE))
    provenance = report.runtimes[0].provenance
    assert [use.provider for use in provenance.providers] == ["CPUExecutionProvider"]
    assert provenance.providers[0].nodes >= 3
    assert provenance.fallback_nodes == ()
    assert provenance.threads == report.threads


@pytest.mark.parametrize("name", RUNTIMES)
def test_every_runtime_of_the_table_fulfils_the_protocol_and_is_isolated(name):
    entry = RUNTIMES[name]
    for target in filter(None, (entry.target, entry.tf32)):
        module, _, attribute = target.partition(":")
        inside = getattr(importlib.import_module(module), attribute)()
        assert isinstance(inside, Runtime)
        assert (inside.name, inside.device) == (name, entry.device)
        assert inside.profile == (entry.profile if target == entry.target else "tf32")
    outside = get_runtime(name)
    assert isinstance(outside, Runtime)
    assert isinstance(outside, IsolatedRuntime)
    assert (outside.name, outside.profile, outside.device) == (name, entry.profile, entry.device)


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_runtime_runs_here_or_says_why_not(name):
    (info,) = list_runtimes([name])
    assert info.is_available == (info.reason == "") == (info.install == "") == (info.version != "")
    assert info.is_available or RUNTIMES[name].install != "anysize"


def test_runtimes_are_listed_with_version_and_profile():
    infos = {info.name: info for info in list_runtimes()}
    assert set(infos) == set(RUNTIMES)
    assert infos["ort-cpu"].is_available
    assert infos["ort-cpu"].profile == "strict"
    assert infos["ort-cpu"].install == ""


def test_an_unknown_runtime_is_refused_with_the_known_names():
    with pytest.raises(UsageError, match="'tensorflow': unknown; known are ort-cpu"):
        get_runtime("tensorflow")
    with pytest.raises(UsageError, match="'tensorflow': unknown; known are ort-cpu"):
        parse_runtimes("ort-cpu,tensorflow")
    with pytest.raises(UsageError, match="expected a list such as"):
        parse_runtimes(" , ")


def test_all_means_every_runtime_that_runs_here():
    here = tuple(info.name for info in list_runtimes() if info.is_available)
    assert parse_runtimes("all") == here
    assert {"ort-cpu", "onnx-reference"} <= set(here) <= set(RUNTIMES)
    assert parse_runtimes("onnx-reference,all")[:2] == ("onnx-reference", "ort-cpu")


def test_importing_the_validators_loads_no_runtime_and_no_torch():
    program = (
        "import sys, anysize.validators, anysize.validators.report.table;"
        "print([n for n in ('torch', 'onnx', 'onnxruntime') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "name", ["openvino", "tract", "iree", "mnn", "opencv", "ort-node", "ort-web"]
)
def test_an_optional_runtime_tells_what_executed_and_leaves_the_home_folder_alone(
    tiny, tmp_path, monkeypatch, name
):
    (info,) = list_runtimes([name])
    if not info.is_available:
        pytest.skip(info.reason)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    report = validate_model(
        tiny.cam_file(tiny.cam()), tiny.cam(), runtimes=(name,), sizes=(SIZE, Size(9, 12))
    )
    assert report.ok
    (record,) = report.runtimes
    assert record.version == info.version
    (use,) = record.provenance.providers
    assert (
        use.provider
        == {
            "openvino": "OpenVINO CPU",
            "tract": "tract cpu",
            "iree": "IREE llvm-cpu local-sync",
            "mnn": "MNN CPU",
            "opencv": "OpenCV dnn CPU",
            "ort-node": "CPUExecutionProvider",
            "ort-web": "CPUExecutionProvider",
        }[name]
    )
    assert use.nodes >= 4
    assert record.provenance.threads == (1 if name in ("tract", "iree") else report.threads)
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("ort-cpu", "onnxruntime"),
        ("openvino", "openvino"),
        ("tract", "tract"),
        ("iree", "iree.compiler.extras.onnx_importer"),
        ("mnn", "MNN"),
        ("opencv", "cv2"),
    ],
)
def test_a_runtime_that_is_missing_says_what_installs_it(tmp_path, monkeypatch, name, module):
    package = module.partition(".")[0]
    (tmp_path / f"{package}.py").write_text(f"raise ImportError('No module named {package}')")
    monkeypatch.syspath_prepend(tmp_path)
    (info,) = list_runtimes([name])
    assert not info.is_available
    assert info.version == ""
    assert info.reason == f"{module} cannot be imported: No module named {package}"
    extra = "" if name == "ort-cpu" else f"[{name}]"
    assert info.install == f"pip install {'anysize' if not extra else repr('anysize' + extra)}"


def test_openvino_gets_a_second_thread_so_that_failures_are_not_lost(tiny):
    if not list_runtimes(["openvino"])[0].is_available:
        pytest.skip("openvino is not installed")
    if os.cpu_count() == 1:
        pytest.skip("OpenVINO loses failures on one processor")
    path = tiny.fc_file(tiny.fc())
    report = validate_model(
        path, tiny.fc(), runtimes=["openvino"], sizes=[Size(8, 8)], batches=(1,), threads=1
    )
    assert report.ok
    assert report.runtimes[0].provenance.threads == 2


def test_openvino_is_imported_without_its_telemetry():
    if not list_runtimes(["openvino"])[0].is_available:
        pytest.skip("openvino is not installed")
    program = (
        "import sys;"
        "from anysize.validators.runtimes.openvino import import_openvino;"
        "import_openvino();"
        "print('openvino' in sys.modules, [n for n in sys.modules if 'openvino_telemetry' in n])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "True []"


def test_mnn_keeps_nothing_in_the_working_folder_where_another_one_would_take_it(
    tmp_path, monkeypatch
):
    pytest.importorskip("MNN", reason="MNN is not installed")
    path, folder = tmp_path / "digits.onnx", tmp_path / "working"
    anysize.export("digits", path, head="gap", verify=False)
    folder.mkdir()
    theirs = folder / ".__convert_external_data.bin"
    theirs.write_bytes(b"of another process")
    monkeypatch.chdir(folder)
    report = validate_model(path, build("digits", head="gap"), runtimes=["mnn"], sizes="quick")
    assert report.ok
    assert theirs.read_bytes() == b"of another process"
    assert list(folder.iterdir()) == [theirs]
