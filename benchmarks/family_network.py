"""One network of `families.py`, in a process of its own: built, exported both ways, compared.

The module is built once, and what it answers is kept for the file of the other way.
"""

from __future__ import annotations

import hashlib
import json
import logging
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

    from anysize import Size
    from anysize.validators import Report
    from anysize.validators.references import Precision, Reference, Rejected

BATCHES = (1, 3)
# The verdict is taken on the first one; the file that others write is run on that alone.
RUNTIMES = ("ort-cpu", "openvino")
SMALL = 160
# Images, of all sizes together: with few of them, a map of few cells is amplified by what others
# come to, and LeViT is 7 % off in float32.
CALIBRATED_ON = 16
MEMORY_BYTES = 20 << 30
# How much higher and wider than the first size; the first that the module takes is taken. "×2" is
# for windows that have to fill a map.
OTHERS: tuple[tuple[tuple[int | str, int | str], ...], ...] = (
    ((32, 32), (64, 64), (1, 1), (0, 32), ("×2", "×2")),
    ((-32, 64), (64, 0), (0, 64), (0, -32), (0, "×2")),
    ((13, 37), (16, 48), (7, 1), (0, 11), (96, 32), ("×2", 0)),
)


class Remembered:
    """A reference that answers the same question once.

    Attributes:
        drawn: The inputs for which its roundings were drawn anew, where a cell would have failed.
    """

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._known: dict[tuple[str, str], Any] = {}
        self.drawn: set[str] = set()
        self.name, self.kind = reference.name, reference.kind
        self.output_names = reference.output_names

    def run(
        self, inputs: Mapping[str, NDArray[np.generic]], precision: Precision
    ) -> tuple[NDArray[np.generic], ...] | Rejected:
        """Answer, or repeat what was answered."""
        from anysize.validators.references import Perturbed

        digest = hashlib.sha256()
        for array in inputs.values():
            digest.update(f"{array.shape}".encode() + array.tobytes())
        key = str(precision), digest.hexdigest()
        if isinstance(precision, Perturbed):
            self.drawn.add(key[1])
        if key not in self._known:
            self._known[key] = self._reference.run(inputs, precision)
        return self._known[key]  # type: ignore[no-any-return]

    def close(self) -> None:
        """Keep everything: the file of the other way is compared with it as well."""


def built(source: str) -> tuple[nn.Module, list[Size], list[Size]]:
    """Build a network with seeded weights; return the sizes to compare at, and those it takes."""
    import torch
    from architectures.seeded import seeded

    from anysize import Size
    from anysize.models import resolve
    from anysize.validators.inputs import make_images

    asked = resolve(source).module
    own = getattr(asked, "default_cfg", {}).get("input_size", (3, 224, 224))[1:]

    def takes(size: Size) -> bool:
        if min(size.height, size.width) < 1:
            return False
        try:
            with torch.no_grad():
                asked(torch.zeros(1, 3, size.height, size.width))
        except Exception:  # the library's own code raises what it likes
            return False
        return True

    first = next(filter(takes, (Size(SMALL, SMALL), Size(*own))))
    sizes = [first]
    for steps in OTHERS:
        tried = [Size(_side(first.height, h), _side(first.width, w)) for h, w in steps]
        taken = next(filter(takes, (one for one in tried if one not in sizes)), tried[0])
        sizes.append(taken)
    accepted = list(filter(takes, sizes))
    count = CALIBRATED_ON // len(accepted)
    images = [torch.from_numpy(make_images(one, count, channels=3, seed=1)) for one in accepted]
    # Another one: some keep tables that they make from their weights when they first run.
    return seeded(resolve(source).module, images=images), sizes, accepted


def _side(side: int, more: int | str) -> int:
    return 2 * side if isinstance(more, str) else side + more


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
    try:
        for attempt in attempts:
            try:
                axes = attempt()
                break
            except Exception as error:  # torch.onnx raises what it likes
                said = said or root(error)
    finally:
        torch.onnx.export = export
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


def judged(report: Report, accepted: Sequence[Size]) -> dict[str, Any]:
    """Say of each cell what the project's verdict is, and of each runtime what it came to."""
    cells, bad, runtimes = {}, [], {}
    for cell in report.cells:
        verdict, message = (
            str(cell.verdict),
            "" if cell.is_good else cell.message or str(cell.verdict),
        )
        if verdict == "rejected" and cell.size in accepted:  # a file may declare fewer
            verdict, message = (
                "error",
                "the module takes it, and the file declares that it does not",
            )
        found = runtimes.setdefault(cell.runtime, {"cells": 0, "good": 0, "bad": ""})
        found["cells"] += 1
        found["good"] += not message
        found["bad"] = found["bad"] or (message and f"{cell}: {verdict}: {message}"[:300])
        if cell.runtime == RUNTIMES[0]:
            cells[f"{cell.batch}×{cell.size}"] = verdict
            bad += [f"{cell}: {message}"[:600]] if message else []
    return {"cells": cells, "runtimes": runtimes} | ({"message": bad[0]} if bad else {})


def measure(source: str, ways: Sequence[str]) -> None:
    """Export and compare one network; print what was found as lines of JSON, step by step."""
    import torch

    from anysize.validators import ValidationSpec, validate_model
    from anysize.validators.references.eager import ModuleReference

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    module, sizes, accepted = built(source)
    print(json.dumps({"sizes": list(map(str, sizes))}), flush=True)
    reference = Remembered(ModuleReference(module))
    for way in ways:
        print(json.dumps({"way": way}), flush=True)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.onnx"
            done = write(module, sizes[0], way, path)
            print(json.dumps({"way": way} | done), flush=True)
            if not done["axes"]:
                continue
            runtimes = RUNTIMES if way == "anysize" else RUNTIMES[:1]
            spec = ValidationSpec(
                runtimes=runtimes, sizes=sizes, batches=BATCHES, amplified=False, threads=1
            )
            reference.drawn.clear()
            found = judged(validate_model(path, reference, spec), accepted)
            found["drawn"] = len(reference.drawn)
            print(json.dumps({"way": way} | found), flush=True)


if __name__ == "__main__":
    measure(sys.argv[1], sys.argv[2:])
