"""Measure ONNX Runtime's CUDA provider against PyTorch on one GPU, at every size in one session.

    python benchmarks/gpu.py [--networks resnet18,vgg16] [--sizes 224,512,1024,2048] [--runs 20]

Each way, PyTorch or ONNX Runtime in float32, TF32 and float16, runs in a process of its own, since
NVIDIA's libraries read once whether TF32 is allowed. It loads the network once and runs one image
of each size, from the smallest to the largest, from an array of the host to one, as a program
would. The median of the runs counts, after three that do not. Nodes that ONNX Runtime ran elsewhere
are counted.

Without a GPU it says why and exits with 3. `--device cpu` tries the script itself; what it measures
is written for a GPU alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
HEADS = {"resnet18": "gap", "vgg16": "adaptive", "digits": "gap"}
ENGINES, NUMBERS = ("torch", "ort"), ("float32", "tf32", "float16")
WARM_UP = 3

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One network at one size in one way.

    Attributes:
        network: Name in the zoo.
        engine: `torch` or `ort`.
        numbers: What it computes in.
        size: Height and width.
        ms: Median of the runs.
        elsewhere: Nodes of values that did not run on the GPU.
        ran_on: The device and the versions.
    """

    network: str
    engine: str
    numbers: str
    size: int
    ms: float
    elsewhere: int
    ran_on: str


def why_not(device: str) -> str:
    """Say what keeps the GPU from being measured; "" where nothing does."""
    if device == "cpu":
        return ""
    import torch

    from anysize.validators.runtimes.ort_cuda import OrtCuda

    if not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} sees no GPU"
    known = OrtCuda().availability()
    return "" if known.is_available else f"ort-cuda: {known.reason}"


def torch_way(network: str, numbers: str, device: str) -> tuple[Callable[[Array], object], str]:
    """Build the module, and return what runs it and what it runs on."""
    import torch

    from anysize.models import build

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = numbers == "tf32"
    kind = torch.float16 if numbers == "float16" else torch.float32
    module = build(network, head=HEADS[network]).eval().to(device, kind)

    def run(images: Array) -> object:
        with torch.inference_mode():
            return module(torch.from_numpy(images).to(device, kind)).float().cpu().numpy()

    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    return run, f"{name}, PyTorch {torch.__version__}"


def ort_way(
    network: str, numbers: str, device: str, folder: Path
) -> tuple[Callable[[Array], object], str, Any]:
    """Write the file, and return what runs it, what it runs on, and the session."""
    import anysize
    from anysize.validators.runtimes.ort_cpu import OrtCpu
    from anysize.validators.runtimes.ort_cuda import OrtCuda, OrtCudaTf32

    path = folder / f"{network}.onnx"
    half = numbers == "float16"
    anysize.export(network, path, head=HEADS[network], half=half, verify=False)
    kinds: dict[str, Any] = {"cpu": OrtCpu, "cuda": OrtCudaTf32 if numbers == "tf32" else OrtCuda}
    runtime = kinds[device]()
    session = runtime.load(path, threads=0)
    return (
        lambda images: session.run({"input": images}),
        f"ONNX Runtime {runtime.version()}",
        session,
    )


def measure(
    network: str, engine: str, numbers: str, sizes: Sequence[int], runs: int, device: str
) -> list[Row]:
    """Measure one way in this process."""
    channels = 1 if network == "digits" else 3
    session = None
    with tempfile.TemporaryDirectory() as folder:
        if engine == "torch":
            run, ran_on = torch_way(network, numbers, device)
        else:
            run, ran_on, session = ort_way(network, numbers, device, Path(folder))
        found = []
        for size in sorted(sizes):
            images = np.random.default_rng(size).random((1, channels, size, size), np.float32)
            seconds = [_timed(run, images) for _ in range(WARM_UP + runs)][WARM_UP:]
            found.append((size, 1e3 * statistics.median(seconds)))
        elsewhere = len(session.provenance().fallback_nodes) if session else 0
    return [Row(network, engine, numbers, size, ms, elsewhere, ran_on) for size, ms in found]


def table(rows: Sequence[Row]) -> str:
    """Write milliseconds by size, and ONNX Runtime as a multiple of PyTorch."""
    places = sorted({row.size for row in rows})
    found = {(row.network, row.numbers, row.size, row.engine): row.ms for row in rows}
    lines = ["# ONNX Runtime's CUDA provider against PyTorch: milliseconds, and their ratio", ""]
    lines += ["; ".join(sorted({row.ran_on for row in rows})), ""]
    lines += [f"| network | numbers | {' | '.join(map(str, places))} |"]
    lines += ["|---|---|" + "---:|" * len(places)]
    for network, numbers in dict.fromkeys((row.network, row.numbers) for row in rows):
        pairs = [[found[network, numbers, size, e] for e in ENGINES] for size in places]
        cells = [f"{ort:.2f} / {torch:.2f} = {ort / torch:.2f}" for torch, ort in pairs]
        lines.append(f"| {network} | {numbers} | {' | '.join(cells)} |")
    count = sum(row.elsewhere for row in rows)
    return "\n".join([*lines, "", f"Nodes of values that ran elsewhere: {count}.", ""])


def _timed(run: Callable[[Array], object], images: Array) -> float:
    start = time.perf_counter()
    run(images)
    return time.perf_counter() - start


def main() -> int:
    """Measure every way, and write the results; return what the process exits with."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--networks", default="resnet18,vgg16")
    parser.add_argument("--sizes", default="224,512,1024,2048")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    reason = "" if asked.one else why_not(asked.device)
    if reason:
        print(f"skipped: {reason}", file=sys.stderr)
        return 3
    sizes = [int(size) for size in asked.sizes.split(",")]
    if asked.one:
        network, engine, numbers = asked.one.split(",")
        rows = measure(network, engine, numbers, sizes, asked.runs, asked.device)
        print(json.dumps([asdict(row) for row in rows]))
        return 0
    every: list[Row] = []
    for network in asked.networks.split(","):
        for numbers in NUMBERS if asked.device == "cuda" else NUMBERS[:1]:
            for engine in ENGINES:
                command = [*sys.orig_argv, "--one", f"{network},{engine},{numbers}"]
                # Whoever asked whether the GPU starts has forbidden TF32, for all that it starts.
                allowed = {n: v for n, v in os.environ.items() if n != "NVIDIA_TF32_OVERRIDE"}
                done = subprocess.run(
                    command, check=True, stdout=subprocess.PIPE, text=True, env=allowed
                )
                every += [Row(**row) for row in json.loads(done.stdout.splitlines()[-1])]
    if asked.device == "cuda":
        records = json.dumps([asdict(row) for row in every], indent=2)
        (RESULTS / "gpu.json").write_text(records + "\n", "utf-8")
        (RESULTS / "gpu.md").write_text(table(every), "utf-8")
    print(table(every))
    return 0


if __name__ == "__main__":
    sys.exit(main())
