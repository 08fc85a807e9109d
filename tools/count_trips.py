"""Count how often one verified rewrite works out the same thing again.

A small file is exported, rewritten and proven; on the way the functions and classes of `COUNTED`
are counted in this process, worker processes not included. They are looked up by name in whatever
module defines them, so the script runs on any commit: `--tree` takes another checkout. A name
that no module defines any longer is reported as missing, not as zero.

    python tools/count_trips.py
    python tools/count_trips.py --tree ../anysize-before --json
"""

from __future__ import annotations

import argparse
import collections
import inspect
import json
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# The folders of a checkout that are installed below `anysize`.
FOLDERS = ("models", "exporters", "surgery", "validators")
# What is counted → the functions whose calls it is, the first that the commit defines: where an
# answer is kept, what works it out has a name of its own. A class stands for its construction, and
# `*.name` for a method of whatever class.
COUNTED = {
    "loads of a file": ("load_model",),
    "graphs with links built": ("Graph", "GraphView"),
    "walks over all shapes": ("ShapeWalk.shapes",),
    "the same and begun by hand": ("ShapeWalk.start",),
    "searches for heads": ("_find_heads", "find_heads"),
    "copies without weights": ("weight_free",),
    "readings of metadata": ("read_metadata",),
    "searches for consumers": ("*.consumers",),
}


@dataclass
class Trips:
    """What a run did, and how often.

    Attributes:
        counts: What was counted → how often; None where no function of that name exists.
        loads: File name → how often it was loaded.
    """

    counts: dict[str, int | None]
    loads: dict[str, int] = field(default_factory=dict)

    def table(self) -> str:
        """Return the counts as lines of text."""
        width = max(map(len, self.counts))
        lines = []
        for name, count in self.counts.items():
            lines.append(f"{name:{width}}  {'missing' if count is None else count:>7}")
            if name == "loads of a file":
                lines += [f"{'  ' + file:{width}}  {n:>7}" for file, n in self.loads.items()]
        return "\n".join(lines)


def definitions() -> Iterator[tuple[str, CodeType]]:
    """Yield the functions and classes that the loaded modules of `anysize` define, by name."""
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] == "anysize"]
    for module in modules:
        for name, value in vars(module).items():
            if getattr(value, "__module__", None) != module.__name__:
                continue
            if inspect.isclass(value):
                # Not by the name of the code: a dataclass makes its constructor of a string.
                if inspect.isfunction(value.__init__):
                    yield name, value.__init__.__code__
                for method, function in vars(value).items():
                    if inspect.isfunction(function):
                        yield f"{name}.{method}", function.__code__
                        yield f"*.{method}", function.__code__
            elif code := getattr(inspect.unwrap(value), "__code__", None):
                yield name, code


def count(run: Callable[[], object]) -> Trips:
    """Call `run`, and count what it does in all threads of this process."""
    known = list(definitions())
    defined = {name for name, _ in known}
    first = {what: next((n for n in names if n in defined), "") for what, names in COUNTED.items()}
    wanted = {name: what for what, name in first.items()}
    watched = {code: wanted[name] for name, code in known if name in wanted}
    counts: dict[str, int | None] = {
        what: 0 if what in watched.values() else None for what in COUNTED
    }
    loads: collections.Counter[str] = collections.Counter()

    def watch(frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or (what := watched.get(frame.f_code)) is None:
            return
        counts[what] = (counts[what] or 0) + 1
        if what == "loads of a file":
            first = frame.f_code.co_varnames[0]
            loads[Path(frame.f_locals[first]).name] += 1

    threading.setprofile(watch)
    sys.setprofile(watch)
    try:
        run()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return Trips(counts, dict(sorted(loads.items())))


def put_first(tree: Path, folder: Path) -> None:
    """Make `import anysize` find the checkout `tree`, laid out in `folder` as it is installed."""
    package = folder / "anysize"
    package.mkdir()
    for path in [*(tree / "src/anysize").iterdir(), *(tree / name for name in FOLDERS)]:
        (package / path.name).symlink_to(path.resolve())
    sys.path.insert(0, str(folder))


def main() -> None:
    """Count one verified rewrite and print what was counted."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tree", type=Path, default=ROOT, help="the checkout to count")
    parser.add_argument("--source", default="digits", help="the network to rewrite")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        put_first(given.tree, folder)
        import anysize

        def rewritten(file: str) -> None:
            anysize.rewrite(folder / f"{file}.onnx", folder / f"{file}-any.onnx")

        # Another file first: the names to count are known when all modules are loaded.
        for source, file in (("lenet", "first"), (given.source, given.source)):
            anysize.export(source, folder / f"{file}.onnx", head="fc", verify=False)
        rewritten("first")
        trips = count(lambda: rewritten(given.source))
    if given.json:
        print(json.dumps({"counts": trips.counts, "loads": trips.loads}, indent=2))
    else:
        print(trips.table())


if __name__ == "__main__":
    main()
