"""Measure `anysize.export` against bare `torch.onnx.export`: time and peak memory.

    python benchmarks/export.py [--runs 3] [--threads 2] [NETWORK …]

Three ways to write the same network, each run in a process of its own, one after the other:
`torch.onnx.export` for one static size, the same with symbolic batch, height and width, and
`anysize.export` with these axes. Imports and the making of the weights are outside the time; the
peak memory is the process's. The median of the runs counts. The files that the bare exporter writes
with symbolic axes are not checked here; `tests/exporters/test_bare_exporter_fails.py` shows what
is wrong with them for some networks.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from peak_memory import peak_mib

if TYPE_CHECKING:
    from torch import nn

HERE = Path(__file__).parent
RESULTS = HERE / "results"
NETWORKS = {
    "alexnet": "anysize.models:build",
    "densenet121": "architectures.densenet:densenet121",
    "googlenet": "architectures.googlenet:googlenet",
    "resnet50": "anysize.models:build",
    "vgg16": "anysize.models:build",
}
WAYS = ("static", "dynamic", "anysize")
PROMISE = {"densenet121": 0.5}
PROMISE_ELSEWHERE = 1.1
SIDE = 224


@dataclass(frozen=True, slots=True)
class Measurement:
    """One network written in one way: the median of several runs."""

    network: str
    way: str
    seconds: float
    peak_mib: int


def make(network: str) -> nn.Module:
    from anysize.lazy import load

    factory = load(NETWORKS[network])
    return factory(network) if NETWORKS[network].endswith(":build") else factory()


def write(network: str, way: str, threads: int) -> None:
    """Write a network once, and print seconds and peak memory."""
    import torch

    sys.path.append(str(HERE))
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)  # symbolic shapes log tracebacks; writing them is no export
    torch.set_num_threads(threads)
    module = make(network)
    import onnxscript  # noqa: F401
    import torch.onnx

    import anysize
    import anysize.exporters

    anysize.export, anysize.exporters.export_module  # noqa: B018 - resolves the lazy imports
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.onnx"
        start = time.perf_counter()
        if way == "anysize":
            anysize.export(module, path, size=f"{SIDE}x{SIDE}", verify=False)
        else:
            axes = (dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC),)
            torch.onnx.export(
                module,
                (torch.zeros(2, 3, SIDE, SIDE),),
                str(path),
                dynamo=True,
                verbose=False,
                dynamic_shapes=axes if way == "dynamic" else None,
            )
        seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak_mib": peak_mib()}))


def measure(network: str, *, runs: int, threads: int) -> list[Measurement]:
    """Run all ways in turn, `runs` times, each in a fresh process."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(runs):
        for way in WAYS:
            command = [sys.executable, __file__, network, "--way", way, "--threads", str(threads)]
            environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
            done = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, env=environment, text=True
            )
            found[way].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{network} {way}: {found[way][-1]['seconds']:.1f} s", file=sys.stderr)
    return [
        Measurement(
            network,
            way,
            round(statistics.median(run["seconds"] for run in found[way]), 2),
            int(statistics.median(run["peak_mib"] for run in found[way])),
        )
        for way in WAYS
    ]


def machine(threads: int) -> dict[str, object]:
    """Describe what it ran on, without names or paths."""
    versions = {name: metadata.version(name) for name in ("torch", "onnx", "onnxscript", "anysize")}
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
        "system": platform.system(),
        "python": platform.python_version(),
        **versions,
    }


def ratios(one: dict[str, Measurement], way: str) -> str:
    """Compare time and peak memory with another way to write the network."""
    ours, other = one["anysize"], one[way]
    return f"{ours.seconds / other.seconds:.2f} ×, {ours.peak_mib / other.peak_mib:.2f} ×"


def table(rows: list[Measurement], where: dict[str, object]) -> str:
    """Draw the figures and the ratios as Markdown."""
    what = (
        f"`python benchmarks/export.py`, {SIDE}×{SIDE}: seconds and peak memory of writing the "
        "file; the median of the runs (`--runs`), each in a process of its own. Ratios are of the "
        "time, then of the peak memory."
    )
    columns = (
        "network",
        "bare, static",
        "bare, dynamic axes",
        "anysize, dynamic axes",
        "of bare dynamic",
        "promise",
        "of bare static",
    )
    lines = ["# Export with dynamic axes", "", what, "", f"| {' | '.join(columns)} |"]
    lines.append("|---" * len(columns) + "|")
    for network in dict.fromkeys(row.network for row in rows):
        one = {row.way: row for row in rows if row.network == network}
        cells = [f"{one[way].seconds:.1f} s, {one[way].peak_mib} MiB" for way in WAYS]
        promise = PROMISE.get(network, PROMISE_ELSEWHERE)
        lines.append(
            f"| {network} | {' | '.join(cells)} | {ratios(one, 'dynamic')} | ≤ {promise} × | "
            f"{ratios(one, 'static')} |"
        )
    facts = ", ".join(f"{key} {value}" for key, value in where.items())
    return "\n".join([*lines, "", f"{facts}.", ""])


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure export against torch.onnx.export.")
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="all by default")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        write(options.networks[0], options.way, options.threads)
        return 0
    networks = options.networks or list(NETWORKS)
    unknown = set(networks) - set(NETWORKS)
    if unknown:
        parser.error(f"networks {sorted(unknown)}: expected some of {', '.join(NETWORKS)}")
    rows = [
        row
        for network in networks
        for row in measure(network, runs=options.runs, threads=options.threads)
    ]
    where = machine(options.threads)
    text = table(rows, where)
    print(text)
    if set(networks) != set(NETWORKS):
        return 0  # the table of record has all of them
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "export.md").write_text(text, encoding="utf-8")
    record = {"machine": where, "measurements": [asdict(row) for row in rows]}
    (RESULTS / "export.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
