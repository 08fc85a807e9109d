"""Measure a matrix of many small files on Ray, one of whose workers is killed on the way.

    python benchmarks/matrix.py [--jobs 1000] [--workers 2]

Each job is a file of its own, generated from a seed, on ort-cpu at one size. When a third of the
reports are there, one of the two processes in which Ray runs jobs is killed. What it was at is told
as a job that did not run (exit 3), and `--resume` runs that one. The results say whether each job
has one report in the end, whether any ended twice, and what a job takes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

RESULTS = Path(__file__).parent / "results"
TITLE = b"ray::run_job"
MANY = 100_000


@dataclass(frozen=True, slots=True)
class Measured:
    """What a matrix came to.

    Attributes:
        jobs: How many there were.
        workers: How many ran at once.
        seconds: The first run, with the worker that was killed.
        resumed_s: The second one, with `--resume`.
        killed: The jobs that did not come to a report in the first run.
        again: The jobs that the second one ran.
        twice: The jobs that ended more than once in the first run.
        lost: The jobs without a report in the end.
        passed: The jobs whose cells passed.
        report_bytes: All reports in the folder.
        json_bytes: The joined report.
        page_bytes: The page.
    """

    jobs: int
    workers: int
    seconds: float
    resumed_s: float
    killed: list[str]
    again: list[str]
    twice: list[str]
    lost: list[str]
    passed: int
    report_bytes: int
    json_bytes: int
    page_bytes: int


def network(seed: int) -> onnx.ModelProto:
    """Convolution, global average and a linear layer, of a few channels and classes."""
    rng = np.random.default_rng(seed)
    channels, classes = int(rng.integers(4, 9)), int(rng.integers(3, 8))
    shapes = {"kernel": (channels, 1, 3, 3), "bias": (channels,)}
    shapes |= {"weight": (classes, channels), "offset": (classes,)}
    weights = [
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["input", "kernel", "bias"], ["maps"]),
        helper.make_node("Relu", ["maps"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["rows"]),
        helper.make_node("Gemm", ["rows", "weight", "offset"], ["logits"], transB=1),
    ]
    image = helper.make_tensor_value_info("input", 1, ("batch", 1, "height", "width"))
    logits = helper.make_tensor_value_info("logits", 1, ("batch", classes))
    graph = helper.make_graph(nodes, f"n{seed}", [image], [logits], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write_jobs(folder: Path, count: int) -> Path:
    """Write the files and the configuration."""
    lines = ['runtimes = ["ort-cpu"]', 'sizes = ["12x12"]', "batches = [1]", "bright = false"]
    for seed in range(count):
        file = f"n{seed:05}.onnx"
        onnx.save(network(seed), folder / file)
        lines += ["[[model]]", f'file = "{file}"', f'reference = "{file}"']
    config = folder / "many.toml"
    config.write_text("\n".join(lines), encoding="utf-8")
    return config


def run(config: Path, workers: int, *options: str, kill_after: int = 0) -> tuple[float, str]:
    """Run the matrix; return its seconds and what it told on the way."""
    command = [sys.executable, "-m", "anysize", "matrix", str(config), "--engine", "ray"]
    command += ["--jobs", str(workers), "--json", str(config.with_suffix(".json")), *options]
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    if kill_after:
        reports = config.with_suffix(".reports")
        threading.Thread(target=_kill_one, args=(process, reports, kill_after), daemon=True).start()
    _, told = process.communicate()
    return time.perf_counter() - start, told


def _kill_one(process: subprocess.Popen[str], reports: Path, after: int) -> None:
    """Kill one worker of a run as soon as there are so many reports."""
    while process.poll() is None:
        if len(list(reports.glob("*.json"))) >= after:
            for pid in _below(process.pid):
                if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(TITLE):
                    os.kill(pid, signal.SIGKILL)
                    return
        time.sleep(0.05)


def _below(pid: int) -> Iterator[int]:
    """Yield the processes that a process has started, and those that they have."""
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, tasks.read_text().split()):
            yield child
            yield from _below(child)


def ended(told: str) -> list[str]:
    """Name the jobs that ended, in their order, once for each time."""
    return re.findall(r"\] (\S+): exit \d", told)


def measure(count: int, workers: int) -> Measured:
    """Run so many jobs, kill a worker, and resume."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = write_jobs(folder, count)
        joined, page = config.with_suffix(".json"), folder / "many.html"
        seconds, told = run(config, workers, kill_after=max(1, count // 3))
        first = json.loads(joined.read_text(encoding="utf-8"))["entries"]
        resumed_s, again = run(config, workers, "--resume", "--html", str(page))
        entries = json.loads(joined.read_text(encoding="utf-8"))["entries"]
        reports = list(config.with_suffix(".reports").glob("*.json"))
        return Measured(
            jobs=count,
            workers=workers,
            seconds=seconds,
            resumed_s=resumed_s,
            killed=[entry["name"] for entry in first if entry["report"] is None],
            again=ended(again),
            twice=[job for job, times in Counter(ended(told)).items() if times > 1],
            lost=[entry["name"] for entry in entries if entry["report"] is None],
            passed=sum(entry["exit_code"] == 0 for entry in entries),
            report_bytes=sum(path.stat().st_size for path in reports),
            json_bytes=joined.stat().st_size,
            page_bytes=page.stat().st_size,
        )


def table(found: Measured) -> str:
    """Write what was measured, and what a hundred thousand jobs would take."""
    each_s, factor = found.seconds / found.jobs, MANY / found.jobs
    rows = [
        ("time", f"{found.seconds:.0f} s", f"{each_s:.2f} s", f"{each_s * MANY / 3600:.0f} h"),
        ("resumed, with the page", f"{found.resumed_s:.0f} s", "", ""),
    ]
    for what, size in (
        ("reports in the folder", found.report_bytes),
        ("joined JSON", found.json_bytes),
        ("page", found.page_bytes),
    ):
        each, many = f"{size / found.jobs / 1e3:.1f} KB", f"{size * factor / 1e9:.2f} GB"
        rows.append((what, f"{size / 1e6:.1f} MB", each, many))
    story = (
        f"Killed while it ran: {', '.join(found.killed) or 'none'}. Run again by --resume: "
        f"{', '.join(found.again) or 'none'}. Ended twice: {', '.join(found.twice) or 'none'}. "
        f"Without a report in the end: {', '.join(found.lost) or 'none'}. "
        f"Passed: {found.passed} of {found.jobs}."
    )
    lines = [
        f"# {found.jobs} jobs on Ray with {found.workers} workers, one of them killed",
        "",
        story,
        "",
        f"| | {found.jobs} jobs | one | {MANY:,} |",
        "|---|---:|---:|---:|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    found = measure(arguments.jobs, arguments.workers)
    (RESULTS / "matrix.json").write_text(json.dumps(asdict(found), indent=2) + "\n", "utf-8")
    (RESULTS / "matrix.md").write_text(table(found), "utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
