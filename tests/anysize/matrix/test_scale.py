"""A worker that is killed on the way costs its job a second attempt, and nothing else."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "matrix.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("matrix_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_done_twice_when_a_worker_is_killed(benchmark):
    pytest.importorskip("ray", reason="needs anysize[ray]")
    found = benchmark.measure(12, 2)
    assert len(found.killed) == 1
    assert (found.again, found.twice, found.lost) == (found.killed, [], [])
    assert found.passed == 12


def test_a_job_that_ended_twice_is_counted_twice(benchmark):
    told = "[0/2] running a\n[1/2] a: exit 0; running b\n[1/2] a: exit 3\n[2/2] b: exit 0\n"
    assert benchmark.ended(told) == ["a", "a", "b"]


def test_the_files_are_different_and_small(benchmark, tmp_path):
    config = benchmark.write_jobs(tmp_path, 3)
    files = [path.read_bytes() for path in sorted(tmp_path.glob("*.onnx"))]
    assert len(set(files)) == len(files) == config.read_text().count("[[model]]")
    assert max(map(len, files)) < 2000
