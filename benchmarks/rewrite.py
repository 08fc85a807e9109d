"""Measure `anysize rewrite` against onnx.load + onnx.save and against cp: time and peak memory.

    python benchmarks/rewrite.py [--runs 3] [FILE …]

VGG-16 with its weights inside the file (528 MiB), the same with external data, and a network of
3 GiB of external weights, as (out, in) and as (in, out), all with random weights. Each way runs in
a process of its own, one after the other; imports are outside the time, and the disk is idle when
it starts. `anysize` is load, rewrite and save, what `anysize rewrite --no-verify` does. The best of
the runs counts.
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
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from peak_memory import peak_mib

RESULTS = Path(__file__).parent / "results"
WAYS = ("onnx", "cp", "anysize")
VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
PROMISE_MEMORY_MIB = 300


@dataclass(frozen=True, slots=True)
class File:
    """A file to rewrite, and what is promised."""

    name: str
    channels: Sequence[int]
    units: Sequence[int]
    side: int
    is_external: bool
    peer: str
    promise: float | None
    is_transposed: bool = False


FILES = (
    File("VGG-16, inline", VGG16, (4096, 4096, 1000), 224, False, "onnx", 1.1),
    File("VGG-16, external", VGG16, (4096, 4096, 1000), 224, True, "cp", 1.5),
    File("3 GiB, external", (16, 0, 64), (16384, 16384, 16384, 10), 32, True, "cp", 1.5),
    File("3 GiB, (in, out)", (16, 0, 64), (16384, 16384, 16384, 10), 32, True, "cp", None, True),
)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One file written in one way: the best of several runs."""

    file: str
    way: str
    seconds: float
    peak_mib: int


class Network:
    """A plain network of 3×3 convolutions, 2×2 poolings and fully connected layers."""

    def __init__(self, file: File) -> None:
        self._draw = np.random.default_rng(0)
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: list[onnx.TensorProto] = []
        tensor, channels, side = "input", 3, file.side
        for width in file.channels:
            if not width:
                tensor = self._add("MaxPool", [tensor], kernel_shape=[2, 2], strides=[2, 2])
                side //= 2
                continue
            kernel = self._weight(width, channels, 3, 3, fan_in=9 * channels)
            inputs = [tensor, kernel, self._weight(width)]
            tensor = self._add("Conv", inputs, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
            tensor, channels = self._add("Relu", [tensor]), width
        tensor, features = self._add("Flatten", [tensor]), channels * side * side
        for count, units in enumerate(file.units):
            if count:
                tensor = self._add("Relu", [tensor])
            dims = (features, units) if file.is_transposed else (units, features)
            inputs = [tensor, self._weight(*dims, fan_in=features), self._weight(units)]
            tensor = self._add("Gemm", inputs, transB=int(not file.is_transposed))
            features = units
        self._nodes[-1].output[0] = "logits"
        image = ["batch", 3, file.side, file.side]
        graph = helper.make_graph(
            self._nodes,
            "network",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, image)],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", features])],
            self._tensors,
        )
        opset = helper.make_opsetid("", 17)
        self.model = helper.make_model(graph, opset_imports=[opset], ir_version=8)

    def _add(self, operator: str, inputs: list[str], **attributes: int | list[int]) -> str:
        name = f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def _weight(self, *dims: int, fan_in: int = 1) -> str:
        values = self._draw.standard_normal(dims, np.float32)
        values *= np.float32((2 / fan_in) ** 0.5)  # keeps activations near 1
        name = f"weight_{len(self._tensors)}"
        self._tensors.append(numpy_helper.from_array(values, name))
        return name


def make(file: File, folder: Path) -> Path:
    """Write the file to measure, in a process of its own so that its memory is given back."""
    path = folder / "in.onnx"
    onnx.save(
        Network(file).model,
        path,
        save_as_external_data=file.is_external,
        location="in.bin",
    )
    return path


def write(path: Path, way: str, *, is_external: bool) -> None:
    """Write the file once more, and print seconds and peak memory."""
    target = path.with_name("out.onnx")
    from anysize import surgery

    os.sync()
    start = time.perf_counter()
    if way == "onnx":
        onnx.save(
            onnx.load(path), target, save_as_external_data=is_external, location="out.onnx.data"
        )
    elif way == "cp":
        data = [path.with_name("in.bin")] if is_external else []
        subprocess.run(["cp", path, *data, path.with_name("copy")], check=True)
    else:
        model = surgery.load_model(path, weights="in_file")
        done = surgery.rewrite(model, source=path, in_place=True)
        assert done.applied
        surgery.save_model(done.model, target, source=path)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak_mib": peak_mib()}))


def measure(file: File, *, runs: int) -> list[Measurement]:
    """Run all ways in turn, `runs` times, each in a fresh process."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    place = str(FILES.index(file))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(place, "make", folder)
        for _ in range(runs):
            for way in WAYS:
                (folder / "copy").mkdir()
                found[way].append(json.loads(run(place, way, folder).splitlines()[-1]))
                print(f"{file.name} {way}: {found[way][-1]['seconds']:.2f} s", file=sys.stderr)
                for made in (*folder.glob("out.*"), *folder.glob("copy/*")):
                    made.unlink()
                (folder / "copy").rmdir()
    return [
        Measurement(
            file.name,
            way,
            round(min(one["seconds"] for one in found[way]), 3),
            int(min(one["peak_mib"] for one in found[way])),
        )
        for way in WAYS
    ]


def run(place: str, way: str, folder: Path) -> str:
    command = [sys.executable, __file__, place, "--way", way, "--folder", str(folder)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def machine() -> dict[str, object]:
    """Describe what it ran on, without names or paths."""
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("onnx", "anysize")},
    }


def table(rows: list[Measurement], where: dict[str, object]) -> str:
    """Draw the figures and the ratios as Markdown."""
    what = (
        "`python benchmarks/rewrite.py`: seconds and peak memory of load, rewrite and save; the "
        "best of several runs, each in a process of its own. The peak of `cp` is not counted."
    )
    lines = [
        "# Rewriting FC → fully convolutional",
        "",
        what,
        "",
        "| file | onnx.load + onnx.save | cp | anysize | time | promise | memory | promise |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for file in FILES:
        one = {row.way: row for row in rows if row.file == file.name}
        if not one:
            continue
        ours, peer = one["anysize"], one[file.peer]
        if file.is_external:
            memory = f"{ours.peak_mib} MiB | < {PROMISE_MEMORY_MIB} MiB"
        else:
            memory = f"{ours.peak_mib / peer.peak_mib:.2f} × | ≤ {file.promise} ×"
        lines.append(
            f"| {file.name} | {one['onnx'].seconds:.2f} s, {one['onnx'].peak_mib} MiB "
            f"| {one['cp'].seconds:.2f} s | {ours.seconds:.2f} s, {ours.peak_mib} MiB "
            f"| {ours.seconds / peer.seconds:.2f} × {file.peer} "
            f"| {f'≤ {file.promise} ×' if file.promise else '– (its bytes move)'} | {memory} |"
        )
    facts = ", ".join(f"{key} {value}" for key, value in where.items())
    return "\n".join([*lines, "", f"{facts}.", ""])


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure rewrite against onnx and cp.")
    parser.add_argument(
        "files",
        nargs="*",
        type=int,
        metavar="FILE",
        help="numbers from 0 on; all by default, others keep their rows",
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--way", choices=("make", *WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    files = [FILES[place] for place in options.files] or list(FILES)
    if options.way == "make":
        make(files[0], options.folder)
        return 0
    if options.way:
        write(options.folder / "in.onnx", options.way, is_external=files[0].is_external)
        return 0
    rows = [row for file in files for row in measure(file, runs=options.runs)]
    measured = {file.name for file in files}
    rows += [row for row in recorded() if row.file not in measured]
    text = table(rows, machine())
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "rewrite.md").write_text(text, encoding="utf-8")
    record = {"machine": machine(), "measurements": [asdict(row) for row in rows]}
    (RESULTS / "rewrite.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


def recorded() -> list[Measurement]:
    """Read the rows of the table of record, if they are of this machine and these versions."""
    path = RESULTS / "rewrite.json"
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    rows = record.get("measurements", []) if record.get("machine") == machine() else []
    return [Measurement(**row) for row in rows]


if __name__ == "__main__":
    raise SystemExit(main())
