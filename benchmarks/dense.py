"""Measure dense evaluation: one fully convolutional run against the FC graph on every crop.

    python benchmarks/dense.py [--runs 3] [--threads 2]

VGG-16 on ONNX Runtime's CPU provider. A 512×512 image has 10×10 windows of 224×224 at stride 32:
the converted graph answers them in one run, the FC graph in one hundred (ten batches of ten). At
the training size both do the same work. The ways take turns; the best of the runs counts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
RESULTS = HERE / "results"
STRIDE, WINDOW, IMAGE, BATCH = 32, 224, 512, 10
PROMISE_FASTER, PROMISE_TRAINED = 15.0, 1.1


def session(path: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    from anysize.validators.runtimes.ort_session import import_onnxruntime

    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    made = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: made.run(None, {"input": images})[0]


def crops(image: np.ndarray) -> np.ndarray:
    """Cut an image into its windows, row by row."""
    places = range(0, IMAGE - WINDOW + 1, STRIDE)
    return np.concatenate(
        [image[:, :, y : y + WINDOW, x : x + WINDOW] for y in places for x in places]
    )


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(folder: Path, *, runs: int, threads: int) -> dict[str, float]:
    """Time all four ways in turn; seconds, the best of the runs."""
    from anysize import surgery

    original, rewritten = folder / "in.onnx", folder / "out.onnx"
    command = [sys.executable, HERE / "rewrite.py", "0", "--way", "make", "--folder", folder]
    subprocess.run(command, check=True)
    model = surgery.load_model(original, weights="in_file")
    surgery.save_model(surgery.rewrite(model, source=original).model, rewritten, source=original)
    fc, dense = session(original, threads), session(rewritten, threads)
    image = np.random.default_rng(0).standard_normal((1, 3, IMAGE, IMAGE), np.float32)
    windows = crops(image)
    small = windows[:1]
    # The first window is cell (0, 0) but for the borders that the larger image does not pad.
    assert np.allclose(dense(small).ravel(), fc(small).ravel(), atol=1e-4)
    ways = {
        "dense, 512×512": lambda: dense(image),
        "100 crops": lambda: [
            fc(windows[start : start + BATCH]) for start in range(0, len(windows), BATCH)
        ],
        "converted, 224×224": lambda: dense(small),
        "FC, 224×224": lambda: fc(small),
    }
    found: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(runs):
        for way, work in ways.items():
            repeats = 1 if way == "100 crops" else 5
            found[way] += [timed(work) for _ in range(repeats)]
            print(f"run {turn} {way}: {min(found[way]):.2f} s", file=sys.stderr)
    return {way: round(min(seconds), 3) for way, seconds in found.items()}


def table(seconds: dict[str, float], where: dict[str, object]) -> str:
    """Draw the figures and the ratios as Markdown."""
    faster = seconds["100 crops"] / seconds["dense, 512×512"]
    trained = seconds["converted, 224×224"] / seconds["FC, 224×224"]
    lines = ["# Dense evaluation of a converted VGG-16", ""]
    lines += ["`python benchmarks/dense.py`: the best of several runs.", ""]
    lines += ["| way | seconds |", "|---|---|"]
    lines += [f"| {way} | {value:.3f} |" for way, value in seconds.items()]
    lines += ["", "| ratio | measured | promise |", "|---|---|---|"]
    lines.append(f"| 100 crops over dense | {faster:.1f} × | ≥ {PROMISE_FASTER:g} × |")
    lines.append(f"| converted over FC at 224×224 | {trained:.2f} × | ≤ {PROMISE_TRAINED:g} × |")
    facts = ", ".join(f"{key} {value}" for key, value in where.items())
    return "\n".join([*lines, "", f"{facts}.", ""])


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure dense evaluation against crops.")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    where = {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": options.threads,
        "system": platform.system(),
        "onnxruntime": metadata.version("onnxruntime-gpu"),
    }
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(Path(folder), runs=options.runs, threads=options.threads)
    text = table(seconds, where)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "dense.md").write_text(text, encoding="utf-8")
    record = {"machine": where, "seconds": seconds}
    (RESULTS / "dense.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
