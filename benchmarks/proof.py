"""Measure what the proof of `anysize export` and `anysize rewrite` costs.

    python benchmarks/proof.py [--runs 3] [--threads 2] [NETWORK …]

`anysize.export` with its proof, of a module as it stands and made fully convolutional, against the
bare `torch.onnx.export` of the same module with symbolic batch, height and width. And
`anysize.rewrite` of VGG-16 with its proof, for each size that it compares, against one inference of
the original at 224×224 by ONNX Runtime. Each way runs in a process of its own, one after the other
in turn; imports and the making of the weights are outside the time, and the best of the runs
counts, of the time and of the processor time: what else a machine does can but add to both.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

from dense import session
from export import SIDE, machine
from peak_memory import cpu_s, peak_mib

HERE = Path(__file__).parent
RESULTS = HERE / "results"
NETWORKS = {
    "resnet18": "anysize.models:build",
    "resnet50": "anysize.models:build",
    "mobilenet_v2": "architectures.mobilenet_v2:mobilenet_v2",
    "vgg16": "anysize.models:build",
}
# torchvision's VGG pools its map to 7×7, whatever its size; a residual network pools it globally.
HEADS = {"vgg16": "adaptive"}
# What makes the class map of each: FC layers as convolutions, or a linear layer before the average.
DENSE = {"vgg16": "fcn"}
WAYS = ("bare", "no proof", "as-is", "dense")
PROMISE_EXPORT, PROMISE_REWRITE = 2.0, 8.0
REWRITTEN = "VGG-16, rewritten"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One network written in one way: the best of several runs.

    Attributes:
        network: Which.
        way: How.
        seconds: All of it.
        cpu_s: The time of processors for it, worker processes included; it depends less on what
            else a machine does.
        inference_s: One inference of a file that is rewritten; 0 for exports.
        inference_cpu_s: The same in processor time.
        sizes: How many sizes the proof compares.
        peak_mib: The most memory that the process held.
    """

    network: str
    way: str
    seconds: float
    cpu_s: float
    inference_s: float
    inference_cpu_s: float
    sizes: int
    peak_mib: int


def export(network: str, way: str, threads: int) -> dict[str, float]:
    """Write a network once."""
    import torch

    sys.path.append(str(HERE))
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)  # symbolic shapes log tracebacks; writing them is no export
    torch.set_num_threads(threads)
    import onnxscript  # noqa: F401
    import torch.onnx

    import anysize
    import anysize.exporters
    import anysize.surgery
    import anysize.validators
    from anysize.lazy import load

    # Resolves the lazy imports.
    anysize.export, anysize.exporters.export_module, anysize.validators.validate_model  # noqa: B018
    factory, head = load(NETWORKS[network]), HEADS.get(network)
    is_zoo = NETWORKS[network].endswith(":build")
    made = (factory(network, head=head) if is_zoo else factory()).eval()
    module = torch.nn.Sequential(made).eval()  # somebody's own, which says nothing of its head
    sizes = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.onnx"
        start, cpu_start = time.perf_counter(), cpu_s()
        if way == "bare":
            axes = (dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC),)
            image = torch.zeros(2, 3, SIDE, SIDE)
            torch.onnx.export(
                module, (image,), str(path), dynamo=True, verbose=False, dynamic_shapes=axes
            )
        else:
            to = DENSE.get(network, "cam") if way == "dense" else None
            is_proved = way != "no proof"
            done = anysize.export(module, path, head=to, size=f"{SIDE}x{SIDE}", verify=is_proved)
            sizes = len({cell.size for cell in done.report.cells}) if done.report else 0
        took = {"seconds": time.perf_counter() - start, "cpu_s": cpu_s() - cpu_start}
    return took | {"inference_s": 0.0, "inference_cpu_s": 0.0, "sizes": sizes}


def rewrite(threads: int) -> dict[str, float]:
    """Rewrite VGG-16 once, and run it once."""
    import numpy as np

    import anysize
    import anysize.surgery
    import anysize.validators

    with tempfile.TemporaryDirectory() as folder:
        original = Path(folder) / "in.onnx"
        command = [sys.executable, HERE / "rewrite.py", "0", "--way", "make", "--folder", folder]
        subprocess.run(command, check=True)
        run = session(original, threads)
        image = np.random.default_rng(0).standard_normal((1, 3, SIDE, SIDE), np.float32)
        run(image)
        start, cpu_start = time.perf_counter(), cpu_s()
        for _ in range(5):
            run(image)
        inference = (time.perf_counter() - start) / 5
        inference_cpu = (cpu_s() - cpu_start) / 5
        del run
        start, cpu_start = time.perf_counter(), cpu_s()
        proof = anysize.rewrite(original, Path(folder) / "out.onnx", to="fcn").proof
        took = {"seconds": time.perf_counter() - start, "cpu_s": cpu_s() - cpu_start}
    took |= {"inference_s": inference, "inference_cpu_s": inference_cpu}
    return took | {"sizes": len({cell.size for cell in proof.cells})}


def measure(network: str, *, runs: int, threads: int) -> list[Measurement]:
    """Run all ways in turn, `runs` times, each in a fresh process."""
    ways = ("dense",) if network == REWRITTEN else WAYS
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(runs):
        for way in ways:
            command = [sys.executable, __file__, network, "--way", way, "--threads", str(threads)]
            environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
            done = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, env=environment, text=True
            )
            one = json.loads(done.stdout.splitlines()[-1])
            found[way].append(one)
            print(f"{network} {way}: {one}", file=sys.stderr)
    keys = ("seconds", "cpu_s", "inference_s", "inference_cpu_s", "sizes", "peak_mib")
    return [
        Measurement(network, way, *(round(min(r[key] for r in found[way]), 2) for key in keys))
        for way in ways
    ]


def table(rows: list[Measurement], where: dict[str, object]) -> str:
    """Draw the figures and the ratios as Markdown."""
    columns = ("network", "bare, dynamic axes", "no proof", "head", "with its proof", "sizes")
    lines = ["# What a proof costs", "", "`python benchmarks/proof.py`: the best of the runs."]
    lines += ["", f"| {' | '.join((*columns, f'of bare (goal ≤ {PROMISE_EXPORT:g} ×)'))} |"]
    lines[-1] += " of its processor time |"
    lines.append("|---" * (len(columns) + 2) + "|")
    for network in dict.fromkeys(row.network for row in rows if row.network != REWRITTEN):
        one = {row.way: row for row in rows if row.network == network}
        for way in ("as-is", "dense"):
            head = DENSE.get(network, "cam") if way == "dense" else way
            cells = [network, *(f"{one[other].seconds:.1f} s" for other in ("bare", "no proof"))]
            cells += [head, f"{one[way].seconds:.1f} s, {one[way].peak_mib:g} MiB"]
            cells += [f"{one[way].sizes:g}", f"{one[way].seconds / one['bare'].seconds:.2f} ×"]
            cells.append(f"{one[way].cpu_s / one['bare'].cpu_s:.2f} ×")
            lines.append(f"| {' | '.join(cells)} |")
    for row in rows:
        if row.network == REWRITTEN:
            ratio = row.seconds / row.sizes / row.inference_s
            cpu_ratio = row.cpu_s / row.sizes / row.inference_cpu_s
            what = (
                f"VGG-16 as a file, rewritten with its proof at {row.sizes:g} sizes: "
                f"{row.seconds:.1f} s, {row.peak_mib:g} MiB. One inference at {SIDE}×{SIDE} by "
                f"ONNX Runtime: {row.inference_s:.2f} s. For each size {ratio:.1f} × (goal ≤ "
                f"{PROMISE_REWRITE:g} ×), and {cpu_ratio:.1f} × of its processor time."
            )
            lines += ["", what]
    facts = ", ".join(f"{key} {value}" for key, value in where.items())
    return "\n".join([*lines, "", f"{facts}.", ""])


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the proofs of export and rewrite.")
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="all by default")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    every = [*NETWORKS, REWRITTEN]
    networks = options.networks or every
    unknown = set(networks) - set(every)
    if unknown:
        parser.error(f"networks {sorted(unknown)}: expected some of {', '.join(every)}")
    if options.way:
        is_file = networks == [REWRITTEN]
        found = (
            rewrite(options.threads)
            if is_file
            else export(networks[0], options.way, options.threads)
        )
        print(json.dumps(found | {"peak_mib": peak_mib()}))
        return 0
    rows = [
        row for one in networks for row in measure(one, runs=options.runs, threads=options.threads)
    ]
    where = machine(options.threads)
    text = table(rows, where)
    print(text)
    if set(networks) == set(every):  # the table of record has all of them
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "proof.md").write_text(text, encoding="utf-8")
        record = {"machine": where, "measurements": [asdict(row) for row in rows]}
        (RESULTS / "proof.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
