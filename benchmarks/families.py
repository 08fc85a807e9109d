"""Export the smallest network of each family with the bare exporter and with ours.

    python benchmarks/families.py [--only NAME …] [--again] [--jobs 1] [--table]

Families are the modules of `timm.models` and `torchvision.models`; of each the network with the
fewest parameters is taken, timm's own `test_…` aside, if it has less than 60 million. Weights are
seeded and keep the signal's scale. It is exported by `torch.onnx.export(dynamo=True)` with symbolic
batch, height and width, and with the batch alone where that raises, and by `anysize.export`, each
in a process of its own. Both files are compared with the eager module on ONNX Runtime, by the
project's error budget, at four sizes (the network's own or a smaller one, a larger one, one that is
not square, and an odd one, each the first that the module takes) and batches of 1 and 3.

`results/families.json` keeps what was found, and only what is missing there is run, but for
families named with `--only`, or `--again`. An environment of its own has these libraries:
`pip install torch==2.14.1 torchvision==0.29.1 timm`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from anysize import Size

HERE = Path(__file__).parent
RESULTS = HERE / "results"
WAYS = ("bare", "anysize")
MOST_PARAMETERS = 60_000_000
BATCHES = (1, 3)
SMALL = 160
TIMEOUT_S = 600
MEMORY_BYTES = 20 << 30
# How much higher and wider than the first size; the first that the module takes is taken.
OTHERS = (
    ((32, 32), (64, 64), (1, 1), (0, 32)),
    ((-32, 64), (64, 0), (0, 64), (0, -32)),
    ((13, 37), (16, 48), (7, 1), (0, 11), (96, 32)),
)
RIGHT, HELD, PARTLY, REFUSED, WRONG, CRASHED, UNJUDGED = (
    "right",
    "right, sizes held",
    "refuses sizes",
    "refused",
    "wrong",
    "crashed",
    "not judged",
)
GOOD = (RIGHT, HELD)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one way made of one network.

    Attributes:
        verdict: `right`; `right, sizes held` where the module refuses all sizes but one, and so
            does the file; `refuses sizes` where the module takes them and the file fails loudly;
            `refused` where no file was written; `wrong` where the file answers, and otherwise than
            the module; `crashed` beyond the limits; `not judged` where the module's answers prove
            nothing.
        axes: What was free in the file.
        traced: `once`, `twice` or `symbols`.
        seconds: What writing took, failed attempts included.
        message: Of the refusal, or of the first bad cell.
        cells: Size and batch → the project's verdict.
    """

    verdict: str
    axes: str = ""
    traced: str = ""
    seconds: float = 0.0
    message: str = ""
    cells: dict[str, str] = field(default_factory=dict)


def families() -> Iterator[tuple[str, str, int]]:
    """Yield each family, its smallest network as a SOURCE, and the number of its parameters."""
    import timm
    import torch
    import torchvision

    def count(name: str, create: Callable[[str], nn.Module]) -> tuple[int, str]:
        try:
            with torch.device("meta"):
                module = create(name)
        except NotImplementedError:  # it looks at numbers
            module = create(name)
        return sum(p.numel() for p in module.parameters()), name

    classifiers: dict[str, list[str]] = {}
    for name in torchvision.models.list_models(torchvision.models):
        home = torchvision.models.get_model_builder(name).__module__.rpartition(".")[2]
        classifiers.setdefault(home, []).append(name)
    libraries: list[tuple[str, dict[str, list[str]], Callable[[str], nn.Module]]] = [
        ("timm", {m: timm.list_models(module=m) for m in timm.list_modules()}, timm.create_model),
        ("torchvision", classifiers, torchvision.models.get_model),
    ]
    for library, names, create in libraries:
        for family, members in names.items():
            sized = [count(name, create) for name in members if not name.startswith("test_")]
            if sized:
                parameters, name = min(sized)
                if parameters < MOST_PARAMETERS:
                    yield f"{library}:{family}", f"{library}:{name}", parameters


def built(source: str) -> tuple[nn.Module, list[Size], list[Size]]:
    """Build a network with seeded weights; return the sizes to compare at, and those it takes."""
    import torch
    from architectures.seeded import seeded

    from anysize import Size
    from anysize.models import resolve
    from anysize.validators.inputs import make_images

    module = resolve(source).module
    own = getattr(module, "default_cfg", {}).get("input_size", (3, 224, 224))[1:]

    def takes(size: Size) -> bool:
        if min(size.height, size.width) < 1:
            return False
        try:
            with torch.no_grad():
                module(torch.zeros(1, 3, size.height, size.width))
        except Exception:  # the library's own code raises what it likes
            return False
        return True

    first = next(filter(takes, (Size(SMALL, SMALL), Size(*own))))
    sizes = [first]
    for steps in OTHERS:
        tried = [Size(first.height + down, first.width + right) for down, right in steps]
        taken = next(filter(takes, (one for one in tried if one not in sizes)), tried[0])
        sizes.append(taken)
    accepted = list(filter(takes, sizes))
    images = [torch.from_numpy(make_images(one, 4, channels=3, seed=1)) for one in accepted]
    return seeded(module, images=images), sizes, accepted


def write(module: nn.Module, size: Size, way: str, path: Path) -> dict[str, Any]:
    """Write a network's file, or say why not, and how many seconds that took."""
    import torch

    import anysize

    traced: list[str] = []
    export = torch.onnx.export

    def recorded(*arguments: Any, **options: Any) -> Any:
        traced.append("symbols" if options.get("dynamic_shapes") else "once")
        return export(*arguments, **options)

    def ours() -> str:
        notes = anysize.export(module, path, size=size, verify=False).notes
        return next((note.partition(": ")[2] for note in notes if "free axes" in note), "all")

    def bare(free: tuple[int, ...]) -> str:
        shapes = (dict.fromkeys(free, torch.export.Dim.DYNAMIC),)
        example = torch.randn(2, 3, size.height, size.width)
        options: dict[str, Any] = {"dynamo": True, "verbose": False, "dynamic_shapes": shapes}
        torch.onnx.export(module, (example,), str(path), **options)
        return "all" if len(free) > 1 else "batch"

    attempts = [ours] if way == "anysize" else [lambda: bare((0, 2, 3)), lambda: bare((0,))]
    said, start, axes = "", time.perf_counter(), ""
    torch.onnx.export = recorded
    for attempt in attempts:
        try:
            axes = attempt()
            break
        except Exception as error:  # torch.onnx raises what it likes
            said = said or root(error)
    return {
        "axes": axes,
        "traced": "twice" if traced == ["once"] * 2 else traced[-1] if traced else "",
        "seconds": round(time.perf_counter() - start, 1),
        "message": said,
    }


def root(error: BaseException) -> str:
    """Return the innermost message in one line."""
    while error.__cause__ is not None and type(error).__module__.startswith("torch"):
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:600]}"


def child(source: str, way: str) -> None:
    """Export and compare one network in this process; print what was found, step by step."""
    import torch

    from anysize.validators import ValidationSpec, validate_model

    sys.path.append(str(HERE))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    module, sizes, accepted = built(source)
    print(json.dumps({"sizes": list(map(str, sizes))}), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        done = write(module, sizes[0], way, path)
        print(json.dumps(done), flush=True)
        if not done["axes"]:
            return
        spec = ValidationSpec(sizes=sizes, batches=BATCHES, amplified=False, threads=1)
        report = validate_model(path, module, spec)
    cells = {f"{cell.batch}×{cell.size}": str(cell.verdict) for cell in report.cells}
    bad = [f"{cell}: {cell.message}" for cell in report.cells if not cell.is_good]
    for cell in report.cells:  # a file may declare fewer sizes than its module takes
        if cell.verdict == "rejected" and cell.size in accepted:
            cells[f"{cell.batch}×{cell.size}"] = "error"
            bad.append(f"{cell}: the module takes it, and the file declares that it does not")
    told = {"message": bad[0][:600]} if bad else {}
    print(json.dumps({"cells": cells} | told), flush=True)


def run(source: str, way: str) -> tuple[Outcome, list[str]]:
    """Run one way in a process of its own; return what it came to, and the sizes."""
    command = ["nice", sys.executable, __file__, "--child", source, way]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    found: dict[str, Any] = {}
    end = ""
    try:
        process = subprocess.run(
            command, check=False, capture_output=True, env=environment, text=True, timeout=TIMEOUT_S
        )
        output = process.stdout
        if process.returncode:
            last = process.stderr.strip().splitlines()[-1:] or [""]
            end = f"exit status {process.returncode}: {last[0][:300]}"
    except subprocess.TimeoutExpired as expired:
        output = (expired.stdout or b"").decode() if expired.stdout else ""
        end = f"not done after {TIMEOUT_S} s"
    for line in output.splitlines():
        found |= json.loads(line) if line.startswith("{") else {}
    sizes = found.pop("sizes", [])
    if end:
        found["message"] = f"{end}; {found.get('message', '')}".rstrip("; ")
    return Outcome(verdict(found, bool(end)), **found), sizes


def verdict(found: dict[str, Any], is_crashed: bool) -> str:
    """Say in one word what a way came to; see `Outcome`."""
    if is_crashed:
        return CRASHED
    if not found["axes"]:
        return REFUSED
    cells = found["cells"]
    words = Counter(cells.values())
    if words["mismatch"] or words["shape"] or words["accepted"]:
        return WRONG
    if words["error"] or words["unsupported"]:
        return PARTLY
    if set(words) - {"pass", "rejected"}:
        return UNJUDGED
    return HELD if words["rejected"] == len(cells) - len(BATCHES) else RIGHT


def table(found: dict[str, dict[str, Any]], where: dict[str, str]) -> str:
    """Draw the summary and one row a family as Markdown."""
    none = {"verdict": "not run", "axes": "", "traced": "", "seconds": 0.0, "message": ""}
    none["cells"] = {}
    rows = {
        name: dict.fromkeys(WAYS, none) | one
        for name, one in sorted(found.items())
        if any(way in one for way in WAYS)
    }
    counts = {way: Counter(one[way]["verdict"] for one in rows.values()) for way in WAYS}
    good = {way: {n for n, one in rows.items() if one[way]["verdict"] in GOOD} for way in WAYS}
    behind = sorted(n for n in good["bare"] - good["anysize"] if rows[n]["anysize"] is not none)
    seconds = {
        way: sum(one[way]["seconds"] for one in rows.values() if all_written(one)) for way in WAYS
    }
    lines = ["# Families of networks", "", (__doc__ or "").split("\n\n")[2], ""]
    lines += [f"| {len(rows)} of {len(found)} families | bare | anysize |", "|---|---|---|"]
    words = (RIGHT, HELD, PARTLY, REFUSED, WRONG, CRASHED, UNJUDGED, "not run")
    lines += [f"| {word} | {counts['bare'][word]} | {counts['anysize'][word]} |" for word in words]
    run = {way: max(len(rows) - counts[way]["not run"], 1) for way in WAYS}
    share = [f"{len(good[way]) / run[way]:.0%}" for way in WAYS]
    lines.append(f"| right, of those run | {share[0]} | {share[1]} |")
    lines.append(f"| seconds where both write | {seconds['bare']:.0f} | {seconds['anysize']:.0f} |")
    lines += ["", f"The bare exporter right and ours not: {', '.join(behind) or 'none'}.", ""]
    columns = ("family", "network", "sizes", "bare", "s", "anysize", "s", "traced", "ours says")
    lines += [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name, one in rows.items():
        bare, ours = one["bare"], one["anysize"]
        axes = f" ({bare['axes']})" if bare["axes"] == "batch" else ""
        said = ours["message"] or (ours["axes"] if ours["axes"] != "all" else "")
        cells = (
            name,
            one["source"].partition(":")[2],
            ", ".join(one["sizes"]),
            bare["verdict"] + axes,
            f"{bare['seconds']:.0f}",
            ours["verdict"],
            f"{ours['seconds']:.0f}",
            ours["traced"],
            said.replace("|", "\\|")[:160],
        )
        lines.append(f"| {' | '.join(cells)} |")
    facts = ", ".join(f"{key} {value}" for key, value in where.items())
    return "\n".join([*lines, "", f"{facts}.", ""])


def all_written(one: dict[str, Any]) -> bool:
    """Say whether both ways wrote a file with the same free axes."""
    return all(one[way]["cells"] for way in WAYS) and one["bare"]["axes"] == "all"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="timm:swin_transformer, …")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--again", action="store_true", help="run what was run before")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="draw the table, run nothing")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return 0
    path = RESULTS / "families.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found: dict[str, dict[str, Any]] = kept.get("families", {})
    packages = ("torch", "torchvision", "timm", "onnx", "onnxscript", "anysize")

    def save() -> str:
        where = {name: metadata.version(name) for name in packages}
        record = {"versions": where, "families": dict(sorted(found.items()))}
        RESULTS.mkdir(exist_ok=True)
        path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        text = table(found, where)
        (RESULTS / "families.md").write_text(text, encoding="utf-8")
        return text

    if not found:
        for family, source, parameters in families():
            found[family] = {"source": source, "parameters": parameters}
            print(family, source, parameters, file=sys.stderr)
        save()
    names = options.only or list(found)
    unknown = set(names) - set(found)
    if unknown:
        parser.error(f"{sorted(unknown)}: expected some of {', '.join(found)}")

    def measure(name: str, way: str) -> None:
        from dataclasses import asdict

        outcome, sizes = run(found[name]["source"], way)
        found[name] |= {way: asdict(outcome), "sizes": sizes}
        save()
        print(f"{name} {way}: {outcome.verdict} {outcome.message[:200]}", file=sys.stderr)

    is_again = options.again or (options.only and not options.table)
    if not options.table:
        todo = [(n, way) for n in names for way in options.ways if is_again or way not in found[n]]
        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(lambda one: measure(*one), todo))
    print(save())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
