"""Export the smallest network of each family with the bare exporter and with ours.

    python benchmarks/families.py [--only NAME …] [--ways bare anysize] [--again]
        [--timeout SECONDS] [--table]

Families are the modules of `timm.models` and `torchvision.models`; of each the network with the
fewest parameters is taken, timm's own `test_…` aside, if it has less than 60 million. Weights are
seeded and keep the signal's scale. It is exported by `anysize.export`, and by
`torch.onnx.export(dynamo=True)` with symbolic batch, height and width, or with the batch alone
where that raises. Both files are compared with the eager module on ONNX Runtime, by the project's
error budget, at four sizes (the network's own or a smaller one, a larger one, one that is not
square, and an odd one, each the first that the module takes) and batches of 1 and 3; ours is run on
OpenVINO as well.

`results/families.json` keeps what was found, and only what is missing there is run, but for
families named with `--only`, or `--again`. An environment of its own has these libraries:
`pip install torch==2.14.1 torchvision==0.29.1 timm openvino`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from family_network import BATCHES
from family_table import CRASHED, HELD, PARTLY, REFUSED, RIGHT, UNJUDGED, WAYS, WRONG, table

if TYPE_CHECKING:
    from torch import nn

HERE = Path(__file__).parent
RESULTS = HERE / "results"
MOST_PARAMETERS = 60_000_000
TIMEOUT_S = 900


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
        cells: Size and batch → the project's verdict, on ONNX Runtime.
        runtimes: Runtime → its cells, how many are good, and the first that is not.
        drawn: Cases in which a cell was judged by how far right float32 answers spread.
    """

    verdict: str
    axes: str = ""
    traced: str = ""
    seconds: float = 0.0
    message: str = ""
    cells: dict[str, str] = field(default_factory=dict)
    runtimes: dict[str, dict[str, Any]] = field(default_factory=dict)
    drawn: int = 0


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


def run(source: str, ways: list[str], timeout_s: int) -> dict[str, Any]:
    """Run a network in a process of its own; return its sizes, and what each way came to."""
    command = ["nice", sys.executable, str(HERE / "family_network.py"), source, *ways]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    end = ""
    try:
        process = subprocess.run(
            command, check=False, capture_output=True, env=environment, text=True, timeout=timeout_s
        )
        output = process.stdout
        if process.returncode:
            last = process.stderr.strip().splitlines()[-1:] or [""]
            end = f"exit status {process.returncode}: {last[0][:300]}"
    except subprocess.TimeoutExpired as expired:
        output = (expired.stdout or b"").decode() if expired.stdout else ""
        end = f"not done after {timeout_s} s"
    told: dict[str, Any] = {}
    found: dict[str, dict[str, Any]] = {}
    for line in map(json.loads, filter(lambda line: line.startswith("{"), output.splitlines())):
        way = line.pop("way", "")
        if way:
            found.setdefault(way, {}).update(line)
        else:
            told.update(line)
    if not found:  # before the first way
        found = {way: {} for way in ways}
    last_way = list(found)[-1]
    for way, one in found.items():
        is_ended = bool(end) and way == last_way
        if is_ended:
            one["message"] = f"{end}; {one.get('message', '')}".rstrip("; ")
        told[way] = asdict(Outcome(verdict(one, is_ended), **one))
    return told


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


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="timm:swin_transformer, …")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--again", action="store_true", help="run what was run before")
    parser.add_argument("--timeout", type=int, default=TIMEOUT_S, help="seconds for each family")
    parser.add_argument("--table", action="store_true", help="draw the table, run nothing")
    options = parser.parse_args()
    path = RESULTS / "families.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found: dict[str, dict[str, Any]] = kept.get("families", {})
    packages = ("torch", "torchvision", "timm", "onnx", "onnxscript", "openvino", "anysize")

    def save() -> str:
        where = {name: metadata.version(name) for name in packages}
        record = {"versions": where, "families": dict(sorted(found.items()))}
        RESULTS.mkdir(exist_ok=True)
        path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        about = (__doc__ or "").split("\n\n")[2]
        text = table(found, about, where)
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
    is_again = options.again or bool(options.only)
    for name in [] if options.table else names:
        ways = [way for way in options.ways if is_again or way not in found[name]]
        if not ways:
            continue
        found[name] |= run(found[name]["source"], ways, options.timeout)
        save()
        for way in ways:
            one = found[name].get(way, {"verdict": "not run", "message": ""})
            print(f"{name} {way}: {one['verdict']} {one['message'][:200]}", file=sys.stderr)
    print(save())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
