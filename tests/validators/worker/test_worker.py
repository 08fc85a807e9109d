"""Runtimes in a process of their own: whatever they do becomes the verdict of its cell."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from anysize.errors import (
    NotRunError,
    RuntimeFailedError,
    WorkerCrashedError,
    WorkerTimeoutError,
)
from anysize.sizes import Size
from anysize.validators import Verdict, validate_model
from anysize.validators.references.graph import evaluator, literal_ort
from anysize.validators.runtimes import Runtime
from anysize.validators.worker import IsolatedRuntime, Limits, Worker, default_limits

FAKES = Path(__file__).parents[1] / "fakes"
SIZES = (Size(8, 8), Size(8, 9), Size(8, 10))  # the fakes go wrong at the one in the middle


@pytest.fixture
def isolated(monkeypatch):
    """A maker of isolated fakes; the worker finds them where this process does."""
    monkeypatch.syspath_prepend(FAKES)

    def make(name, **limits):
        return IsolatedRuntime("fake", f"misbehaving:{name}", limits=Limits(**limits))

    return make


@pytest.fixture
def validated(tiny, isolated, monkeypatch, tmp_path):
    """Validate a fake and see that it leaves neither files nor processes behind."""

    def run(name, *, sizes=SIZES, **limits):
        for shared in (evaluator.DOUBLE, literal_ort.WORKER):
            shared.worker()  # the references' own, which stay until this process ends
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(scratch))
        module = tiny.fc()
        path = tiny.fc_file(module)
        report = validate_model(
            path, module, runtimes=(isolated(name, **limits),), sizes=sizes, batches=(1,)
        )
        assert list(scratch.iterdir()) == []
        return report

    return run


def test_an_isolated_runtime_is_a_runtime(isolated):
    runtime = isolated("Healthy")
    assert isinstance(runtime, Runtime)
    assert runtime.availability().is_available
    assert runtime.version() == "1.2"
    assert (runtime.name, runtime.profile, runtime.device) == ("fake", "strict", "cpu")
    runtime.close()


def test_a_healthy_runtime_passes_in_a_worker_with_its_own_provenance_and_times(validated):
    report = validated("Healthy")
    assert report.ok
    assert report.runtimes[0].version == "1.2"
    (use,) = report.runtimes[0].provenance.providers
    assert use.provider == "CPUExecutionProvider"
    assert all(0.0 < cell.run_s < 1.0 for cell in report.cells)


@pytest.mark.parametrize(
    ("name", "verdict", "words"),
    [
        ("Aborts", "crashed", "run: the process died of SIGABRT; its last words: thread 'main' "),
        ("Exits", "crashed", "run: the process ended with exit code 0"),
        ("IsKilled", "crashed", "died of SIGKILL, as when memory runs out"),
        ("Raises", "error", "bad kernel"),
        ("WrongShape", "shape", "has shape (3, 1, 7), expected (1, 5)"),
        ("Text", "error", "output 'logits' has type <U1, not numbers"),
        ("NoMapping", "error", "of no use: 'list' object has no attribute 'items'"),
        ("Nothing", "error", "no output at all"),
    ],
)
def test_what_goes_wrong_in_one_cell_stays_in_it(validated, name, verdict, words):
    report = validated(name)
    before, wrong, after = report.cells
    assert before.verdict is after.verdict is Verdict.PASS
    assert wrong.verdict == verdict
    assert words in wrong.message
    assert "\n" not in wrong.message
    assert "0: main" not in wrong.message
    # What computed the other cells is known although a process died.
    assert report.runtimes[0].provenance.providers


def test_a_hang_is_a_timeout_in_its_cell(validated):
    start = time.perf_counter()
    report = validated("Hangs", run_s=1.0)
    assert [cell.verdict for cell in report.cells] == ["pass", "timeout", "pass"]
    assert report.cells[1].message == "run: no answer within 1 s"
    assert report.exit_code == 3
    assert time.perf_counter() - start < 30.0


def test_a_runtime_that_eats_memory_meets_its_limit(validated):
    report = validated("EatsMemory", memory_bytes=8 << 30)
    assert [cell.verdict for cell in report.cells] == ["pass", "error", "pass"]
    assert "Unable to allocate" in report.cells[1].message


def test_by_default_a_worker_may_have_the_memory_of_the_machine_and_a_gpu_any_addresses():
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert default_limits("cpu").memory_bytes == machine
    assert default_limits("cuda").memory_bytes == 0


def test_the_default_limit_stops_a_runtime_that_eats_memory(validated):
    report = validated("EatsMemory", memory_bytes=default_limits("cpu").memory_bytes)
    assert [cell.verdict for cell in report.cells] == ["pass", "error", "pass"]


@pytest.mark.skipif(sys.platform != "linux", reason="the score is Linux'")
def test_where_memory_runs_out_the_worker_goes_first():
    worker = Worker("anysize.validators.runtimes.ort_cpu:OrtCpu")
    worker.ask("describe", timeout_s=60.0)
    assert Path(f"/proc/{worker._process.pid}/oom_score_adj").read_text().strip() == "1000"
    worker.close()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Floods", "run: the worker answered with garbage: '"),
        ("FloodsALine", "run: the worker answered with garbage: 'xxxx"),
        ("SpeaksForItself", 'run: the worker answered with garbage: \'{"outputs": [], "run_s": 0}'),
        ("Repeats", 'run: the worker answered with garbage: \'{"number": 1, '),
        ("LiesAboutFiles", "run: the worker answered with garbage: "),
        ("WritesNoArray", "run: the worker answered with garbage: "),
        ("WritesAShortArray", "run: the worker answered with garbage: "),
    ],
)
def test_a_worker_that_answers_garbage_is_crashed_in_its_cell(validated, name, words):
    report = validated(name, run_s=20.0)
    before, wrong, after = report.cells
    assert before.verdict is after.verdict is Verdict.PASS
    assert wrong.verdict is Verdict.CRASHED
    assert words in wrong.message


@pytest.mark.parametrize(
    ("name", "verdict", "words"),
    [
        ("AnswersAPipe", "crashed", "is no regular file"),
        ("AnswersTwice", "crashed", "two outputs of one name"),
        ("LeavesADaemon", "pass", ""),
    ],
)
def test_what_a_runtime_leaves_behind_harms_nobody(validated, name, verdict, words):
    report = validated(name, run_s=20.0)
    assert [cell.verdict for cell in report.cells] == ["pass", verdict, "pass"]
    assert words in report.cells[1].message


def test_a_runtime_that_removes_its_own_folder_fails_alone(validated):
    report = validated("TidiesUp")  # ONNX Runtime's profile lay there, which later sizes miss
    assert report.cells[1].verdict is Verdict.ERROR
    assert "what it answers is of no use" in report.cells[1].message


def test_a_process_with_a_session_of_its_own_ends_with_its_worker(validated, tmp_path):
    before = set(Path("/proc").glob("[0-9]*"))
    assert validated("LeavesADaemon").ok
    ours = os.fsencode(tmp_path / "scratch")
    for entry in set(Path("/proc").glob("[0-9]*")) - before:
        with contextlib.suppress(OSError):
            assert ours not in (entry / "environ").read_bytes()


def test_a_full_memory_is_no_refusal_and_costs_one_cell(validated):
    report = validated("FillsTheMemory", memory_bytes=2 << 30)
    assert [cell.verdict for cell in report.cells] == ["pass", "error", "pass"]


@pytest.mark.parametrize("name", ["Text", "NoMapping", "Nothing", "EatsMemory"])
def test_what_is_no_answer_is_no_refusal_of_an_illegal_size(validated, name):
    sizes = (Size(4, 9), Size(8, 8))
    report = validated(name, sizes=sizes, memory_bytes=8 << 30)
    assert [cell.verdict for cell in report.cells] == ["crashed", "pass"]
    assert report.exit_code == 3


def test_a_runtime_that_spoils_the_images_of_others_is_found(tiny, isolated):
    path = tiny.fc_file(tiny.fc())
    with pytest.raises(NotRunError, match="was changed by another process"):
        validate_model(
            path, tiny.fc(), runtimes=(isolated("SpoilsEveryInput"), "ort-cpu"), sizes=SIZES
        )


@pytest.mark.skipif(sys.platform != "linux", reason="the signal is Linux'")
def test_a_worker_that_is_stuck_ends_with_its_parent(tmp_path):
    script = (
        "from anysize.validators.worker.process import Worker\n"
        "import os, signal, sys\n"
        "worker = Worker('misbehaving:Healthy')\n"
        "worker.ask('describe', timeout_s=60.0)\n"
        "print(worker._process.pid, flush=True)\n"
        "os.kill(worker._process.pid, signal.SIGSTOP)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    paths = os.pathsep.join([str(FAKES), *(entry for entry in sys.path if entry)])
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": paths, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        check=False,
        timeout=60,
    )
    worker = Path("/proc") / done.stdout.decode().strip()
    end = time.monotonic() + 10
    while worker.exists() and "\nState:\tZ" not in (worker / "status").read_text():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_an_answer_larger_than_memory_is_not_read(validated):
    (_, wrong, _) = validated("AnswersATerabyte").cells
    assert wrong.verdict is Verdict.CRASHED
    assert "is shorter than an array of shape (1, 274877906944)" in wrong.message


@pytest.mark.parametrize(
    ("name", "signal_name"), [("FollowsABadPointer", "SIGSEGV"), ("DividesByZero", "SIGFPE")]
)
def test_a_runtime_that_dies_at_its_third_size_loses_that_one_alone(validated, name, signal_name):
    sizes = (Size(8, 8), Size(8, 10), Size(11, 9), Size(10, 10), Size(11, 11))
    report = validated(name, sizes=sizes)
    assert [cell.verdict for cell in report.cells] == ["pass", "pass", "crashed", "pass", "pass"]
    assert f"died of {signal_name}" in report.cells[2].message


def test_a_runtime_that_reads_stdin_does_not_swallow_commands(validated):
    assert validated("ReadsStdin").ok


def test_a_runtime_that_dies_at_import_is_unavailable(tiny, monkeypatch, tmp_path):
    (tmp_path / "dies_at_import.py").write_text("import os\nos.abort()\n")
    monkeypatch.syspath_prepend(tmp_path)
    runtime = IsolatedRuntime("fake", "dies_at_import:Runtime")
    report = validate_model(tiny.fc_file(tiny.fc()), tiny.fc(), runtimes=(runtime,), sizes=SIZES)
    assert {cell.verdict for cell in report.cells} == {Verdict.UNAVAILABLE}
    assert "describe: the process died of SIGABRT" in report.cells[0].message


def test_a_class_that_is_no_runtime_or_has_no_known_profile_is_unavailable(isolated):
    known = isolated("Session").availability()
    assert not known.is_available
    known = isolated("IsNoRuntime").availability()
    assert known.reason == "misbehaving:IsNoRuntime is not a Runtime"
    known = isolated("HasAProfileOfItsOwn").availability()
    assert "its error profile 'generous' is none of strict, " in known.reason


def test_what_a_runtime_prints_is_no_reply(validated):
    assert validated("Talks").ok


@pytest.mark.parametrize(
    ("name", "verdict", "words"),
    [
        ("AbortsAtLoad", "crashed", "load: the process died of SIGABRT"),
        ("HangsAtLoad", "timeout", "load: no answer within 3 s"),
        ("RaisesAtLoad", "unsupported", "no kernel for Conv"),
        ("AbortsWhenAsked", "unavailable", "describe: the process died of SIGABRT"),
        ("IsMissing", "unavailable", "No module named 'fake'"),
    ],
)
def test_what_goes_wrong_at_load_is_the_verdict_of_every_cell(validated, name, verdict, words):
    report = validated(name, **({"load_s": 3.0} if name == "HangsAtLoad" else {}))
    assert {cell.verdict for cell in report.cells} == {verdict}
    assert all(words in cell.message for cell in report.cells)
    assert report.exit_code == 3


def test_a_crash_is_no_rejection_where_the_reference_rejects(validated):
    report = validated("Aborts", sizes=(Size(8, 8), Size(4, 9)))
    found = {str(cell.size): cell for cell in report.cells}
    assert found["8x8"].verdict is Verdict.PASS
    assert found["4x9"].verdict is Verdict.CRASHED
    assert found["4x9"].message.startswith("reference: ")


def test_dying_over_its_provenance_costs_a_runtime_its_cells(validated):
    report = validated("TellsProvenanceByDying")
    assert {cell.verdict for cell in report.cells} == {Verdict.CRASHED}


def test_a_session_goes_on_in_a_new_process_after_a_crash(tiny, isolated):
    path = tiny.fc_file(tiny.fc())
    session = isolated("Aborts").load(path, threads=1)
    images = np.ones((1, 3, 8, 8), np.float32)
    first = session.run({"input": images})
    with pytest.raises(WorkerCrashedError, match="window too large"):
        session.run({"input": np.ones((1, 3, 8, 9), np.float32)})
    again = session.run({"input": images})
    session.close()
    assert list(first) == ["logits"]
    assert np.array_equal(first["logits"], again["logits"])


def test_a_closed_worker_has_ended_and_so_has_one_that_is_dropped():
    workers = [Worker("misbehaving:Healthy"), Worker("misbehaving:Healthy")]
    processes = [worker._process for worker in workers]
    folders = [worker.folder for worker in workers]
    assert all(process.poll() is None for process in processes)
    assert workers[0].is_alive
    workers[0].close()
    workers[0].close()
    assert not workers[0].is_alive
    assert processes[0].returncode == 0
    del workers
    assert all(process.poll() is not None for process in processes)
    assert not any(folder.exists() for folder in folders)


@pytest.mark.skipif(sys.platform != "linux", reason="opens a pipe by way of /proc")
def test_a_pipe_whose_other_end_a_stranger_holds_is_closed_when_he_lets_go():
    worker = Worker("misbehaving:Healthy")
    pipe, thread = worker._process.stdout, worker._line._thread
    with Path(f"/proc/{worker._process.pid}/fd/1").open("wb"):
        worker._line.want()
        worker.kill()
        assert thread.is_alive()
    thread.join(60.0)
    assert pipe.closed


def test_asking_a_worker_fails_in_three_ways(monkeypatch):
    monkeypatch.syspath_prepend(FAKES)
    worker = Worker("nowhere_at_all:Runtime")
    with pytest.raises(RuntimeFailedError, match="No module named 'nowhere_at_all'"):
        worker.ask("describe", timeout_s=30.0)
    worker = Worker("misbehaving:HangsAtLoad")
    with pytest.raises(WorkerTimeoutError, match=r"load: no answer within 0\.5 s"):
        worker.ask("load", {"session": 0, "model": "any.onnx", "threads": 1}, timeout_s=0.5)
    assert not worker.is_alive
    worker = Worker("misbehaving:Healthy")
    worker._process.kill()
    with pytest.raises(WorkerCrashedError, match="describe: the process died of SIGKILL"):
        worker.ask("describe", timeout_s=30.0)


def test_a_worker_imports_nothing_from_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit('imported from the current folder')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", ".", *sys.path])
    worker = Worker("anysize.validators.runtimes.onnx_reference:OnnxReferenceRuntime")
    assert worker.ask("describe", timeout_s=60.0)["is_available"]
    worker.close()


@pytest.mark.skipif(sys.platform == "win32", reason="asks POSIX whether a process lives")
def test_a_worker_that_hangs_ends_when_its_parent_has_died():
    program = (
        "import os, threading\n"
        "from anysize.validators.worker import Worker\n"
        "worker = Worker('misbehaving:HangsAtLoad')\n"
        "print(worker._process.pid, worker.folder, flush=True)\n"
        "threading.Timer(1.5, os._exit, [1]).start()\n"
        "worker.ask('load', {'model': '/nowhere', 'threads': 1}, timeout_s=60)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(FAKES)},
        stdout=subprocess.PIPE,
        text=True,
    )
    pid, folder = done.stdout.split()
    deadline = time.monotonic() + 30.0
    while _is_running(int(pid)):
        assert time.monotonic() < deadline, "the worker outlives its parent"
        time.sleep(0.1)
    for file in Path(folder).iterdir():
        file.unlink()
    Path(folder).rmdir()


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat")
        return not (state.exists() and ") Z " in state.read_text())
    except OSError:
        return False
