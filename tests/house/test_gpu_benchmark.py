"""The benchmark of a GPU says what it lacks where there is none, and runs elsewhere to be tried."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def gpu():
    spec = importlib.util.spec_from_file_location("gpu_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_skipped_with_the_reason():
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("skipped: PyTorch ")


@pytest.mark.parametrize("engine", ["torch", "ort"])
def test_one_session_serves_all_sizes(gpu, engine):
    rows = gpu.measure("digits", engine, "float32", (64, 32), 2, "cpu")
    assert [(row.size, row.engine) for row in rows] == [(32, engine), (64, engine)]
    assert all(row.ms > 0 and row.elsewhere == 0 for row in rows)


def test_the_table_has_both_and_their_ratio(gpu):
    rows = [
        gpu.Row("vgg16", engine, "tf32", 224, ms, 0, "a GPU")
        for engine, ms in (("torch", 4.0), ("ort", 5.0))
    ]
    assert "| vgg16 | tf32 | 5.00 / 4.00 = 1.25 |" in gpu.table(rows)
