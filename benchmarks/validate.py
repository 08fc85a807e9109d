"""Measure `validate_model` against one pass of the module and the runtimes.

    python benchmarks/validate.py [--network NETWORK] [--runtimes ort-cpu,openvino] [--runs 3]

One pass is what a script without any guard needs for a comparison, in one process on the same
images: the module once in float32, and each runtime once on one session, whose loading counts. Each
way runs in a process of its own, in turn; imports and the making of the weights are outside the
time, but for those of the workers. The best of the runs counts, of the time and of the processor
time, since what else a machine does can but add to both. Growth is measured from 1 to
12 sizes of about the same area.

Where Polygraphy is installed (`pip install polygraphy`) it compares ONNX Runtime with the module at
the same six sizes: each runs once in float32, and `Comparator.compare_accuracy` judges. Its own
PyTorch runner needs CUDA, so it is given one; it has none for OpenVINO.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from peak_memory import cpu_s, peak_mib

import anysize

RESULTS = Path(__file__).parent / "results"
SIDES = (224, 256, 288, 320, 384, 448)
GROWTH = (1, 6, 12)
HEADS = {"vgg16": "adaptive", "resnet50": "gap", "resnet18": "gap"}
GROWING = "resnet50"
# Six sizes, at one image and at two.
DEFAULT = "six, batches 1 and 2"
PROMISE = 1.8
PEERS_RUNTIME = "ort-cpu"


@dataclass(frozen=True, slots=True)
class Row:
    """One network validated in one way: the best of several runs."""

    network: str
    runtimes: str
    plan: str
    way: str
    seconds: float
    cpu_s: float
    peak_mib: float


def sizes_of(plan: str) -> list[tuple[int, int]]:
    """`six` sizes for the ratio, or a number of them for the growth."""
    if plan in ("six", DEFAULT):
        return [(side, side) for side in SIDES]
    return [(224 + place, 224) for place in range(int(plan))]


def batches_of(plan: str) -> tuple[int, ...]:
    """One image at a time, or the batches that `anysize validate` takes where none are said."""
    return (1, 2) if plan == DEFAULT else (1,)


def run_bare(path: Path, network: str, runtimes: list[str], plan: str, threads: int) -> float:
    import torch

    from anysize.models import build
    from anysize.sizes import Size
    from anysize.validators.inputs.images import make_images
    from anysize.validators.runtimes.openvino import OpenVino
    from anysize.validators.runtimes.ort_cpu import OrtCpu

    module = build(network, head=HEADS[network]).eval()
    loaders = {"ort-cpu": OrtCpu, "openvino": OpenVino}
    images = [
        make_images(Size(*size), batch, channels=3, seed=0)
        for size in sizes_of(plan)
        for batch in batches_of(plan)
    ]
    start = time.perf_counter()
    with torch.inference_mode():
        for image in images:
            module(torch.from_numpy(image))
    for name in runtimes:
        session = loaders[name]().load(path, threads=threads)
        for image in images:
            session.run({"input": image})
        session.close()
    return time.perf_counter() - start


def run_validate(path: Path, network: str, runtimes: list[str], plan: str, threads: int) -> float:
    import onnx  # noqa: F401  (imports are not part of the time)
    import torch  # noqa: F401

    import anysize.surgery  # noqa: F401
    from anysize.models import build
    from anysize.sizes import Size
    from anysize.validators import validate_model

    module = build(network, head=HEADS[network]).eval()
    sizes = [Size(*size) for size in sizes_of(plan)]
    start = time.perf_counter()
    report = validate_model(
        path, module, runtimes=runtimes, sizes=sizes, batches=batches_of(plan), threads=threads
    )
    seconds = time.perf_counter() - start
    assert report.ok, [f"{cell}: {cell.message}" for cell in report.cells if not cell.is_good]
    return seconds


def run_polygraphy(
    path: Path, network: str, runtimes: list[str], plan: str, _threads: int
) -> float:
    import torch
    from polygraphy.backend.base import BaseRunner
    from polygraphy.backend.common import BytesFromPath
    from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx
    from polygraphy.common import TensorMetadata
    from polygraphy.comparator import Comparator, SimpleCompareFunc
    from polygraphy.logger import G_LOGGER

    from anysize.models import build
    from anysize.sizes import Size
    from anysize.validators.inputs.images import make_images

    class TorchRunner(BaseRunner):
        def get_input_metadata_impl(self) -> TensorMetadata:
            return TensorMetadata().add("input", "float32", (1, 3, None, None))

        def infer_impl(self, feed_dict: dict[str, object]) -> dict[str, object]:
            start = time.perf_counter()
            with torch.inference_mode():
                logits = module(torch.from_numpy(feed_dict["input"])).numpy()
            self.inference_time = time.perf_counter() - start
            return {"logits": logits}

    assert runtimes == ["ort-cpu"], "Polygraphy has no runner for the others"
    G_LOGGER.module_severity = G_LOGGER.ERROR
    module = build(network, head=HEADS[network]).eval()
    sizes = sizes_of(plan)
    start = time.perf_counter()
    feeds = [{"input": make_images(Size(*size), 1, channels=3, seed=0)} for size in sizes]
    session = SessionFromOnnx(BytesFromPath(str(path)), providers=["cpu"])
    results = Comparator.run([TorchRunner("torch"), OnnxrtRunner(session)], data_loader=feeds)
    judge = SimpleCompareFunc(atol=1e-4, rtol=1e-4)
    assert bool(Comparator.compare_accuracy(results, compare_func=judge))
    return time.perf_counter() - start


WAYS = {"bare": run_bare, "validate": run_validate, "polygraphy": run_polygraphy}


def measure(
    ways: Sequence[str],
    plan: str,
    path: Path,
    network: str,
    options: argparse.Namespace,
    runtimes: str,
) -> list[Row]:
    """Run all ways in turn, `--runs` times, each in a fresh process; the best of each."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for way in (*ways,) * options.runs:
        command = [sys.executable, __file__, "--way", way, "--plan", plan, "--file", str(path)]
        command += ["--network", network, "--runtimes", runtimes]
        command += ["--threads", str(options.threads)]
        environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, env=environment, text=True
        )
        one = json.loads(done.stdout.splitlines()[-1])
        found[way].append(one)
        print(f"{network} {way} {plan}: {one}", file=sys.stderr)
    return [
        Row(
            network,
            runtimes,
            plan,
            way,
            *(min(r[key] for r in runs) for key in ("seconds", "cpu_s", "peak_mib")),
        )
        for way, runs in found.items()
    ]


def table(rows: list[Row], threads: int) -> str:
    """Draw the figures as Markdown."""
    packages = ("anysize", "torch", "onnxruntime-gpu", "openvino")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    lines = [
        "# Validation against one pass",
        "",
        (
            f"`python benchmarks/validate.py`: batch 1 where none is said, {threads} threads, "
            f"{platform.machine()}; {versions}. Six sizes are {SIDES[0]} to {SIDES[-1]} pixels "
            f"a side, the others about {SIDES[0]}; memory is that of the validating process."
        ),
        "",
        (
            f"| network | runtimes | sizes | one pass | validate | of it (goal ≤ {PROMISE} ×) "
            "| of its processor time | Polygraphy |"
        ),
        "|---|---|---|---|---|---|---|---|",
    ]
    for key in dict.fromkeys((row.network, row.runtimes, row.plan) for row in rows):
        one = {row.way: row for row in rows if (row.network, row.runtimes, row.plan) == key}
        cells = [_cell(one.get(way)) for way in ("bare", "validate")]
        cells += [f"{one['validate'].seconds / one['bare'].seconds:.2f} ×"]
        cells += [f"{one['validate'].cpu_s / one['bare'].cpu_s:.2f} ×"]
        lines.append(f"| {' | '.join((*key, *cells))} | {_cell(one.get('polygraphy'))} |")
    note = (
        "A validation runs each runtime up the sizes, and each once more on the way down; the "
        "module once more on another image of a size that has one alone; each once on bright "
        "images; and it starts a process for the module and for each runtime. Polygraphy runs "
        "module and runtime once in float32."
    )
    return "\n".join([*lines, "", note, ""])


def _cell(row: Row | None) -> str:
    return "–" if row is None else f"{row.seconds:.1f} s, {row.peak_mib:g} MiB"


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure validation against bare inference.")
    parser.add_argument("--network", choices=HEADS, help="the runs of one; all by default")
    parser.add_argument("--runtimes", default="ort-cpu,openvino")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--plan", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        arguments = (options.network, options.runtimes.split(","), options.plan, options.threads)
        start = cpu_s()
        seconds = WAYS[options.way](options.file, *arguments)
        took = {"seconds": round(seconds, 2), "cpu_s": round(cpu_s() - start, 2)}
        print(json.dumps(took | {"peak_mib": peak_mib()}))
        return 0
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for network in [options.network] if options.network else list(HEADS):
            path = Path(folder) / f"{network}.onnx"
            anysize.export(network, path, head=HEADS[network], verify=False)
            rows += [row for plan in plans(network, options) for row in plan(path)]
    text = table(rows, options.threads)
    print(text)
    if options.network is None:  # the table of record has all of them
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "validate.md").write_text(text, encoding="utf-8")
        record = json.dumps([asdict(row) for row in rows], indent=2)
        (RESULTS / "validate.json").write_text(f"{record}\n", encoding="utf-8")
    return 0


def plans(network: str, options: argparse.Namespace) -> Iterator[Callable[[Path], list[Row]]]:
    """Yield what is measured of a network, each given its file."""

    def rows(ways: Sequence[str], plan: str, runtimes: str) -> Callable[[Path], list[Row]]:
        return lambda path: measure(ways, plan, path, network, options, runtimes)

    yield rows(("bare", "validate"), "six", options.runtimes)
    yield rows(("bare", "validate"), DEFAULT, options.runtimes)
    if network != GROWING:
        return
    for count in GROWTH:
        yield rows(("bare", "validate"), str(count), options.runtimes)
    if importlib.util.find_spec("polygraphy"):
        yield rows(("bare", "validate", "polygraphy"), "six", PEERS_RUNTIME)


if __name__ == "__main__":
    raise SystemExit(main())
