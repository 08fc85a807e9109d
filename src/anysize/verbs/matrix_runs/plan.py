"""A matrix of validations as a TOML file says it: models × heads × runtimes × sizes."""

from __future__ import annotations

import contextlib
import difflib
import json
import math
import re
import reprlib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from anysize.errors import UsageError
from anysize.files import read_regular
from anysize.sizes import Size, SizeRange, to_sizes
from anysize.sources import model_args
from anysize.validators import ValidationSpec, parse_runtimes
from anysize.validators.inputs import MAX_BATCH
from anysize.validators.judging import ALL_OUTPUTS

__all__ = ["Job", "read_matrix"]

_MOST_BYTES = 1 << 20
_MOST_LETTERS = 50  # of a name, which becomes a file's
_MOST_LETTERS_OF_FILE = 120  # a system takes 255 bytes
_LISTS = ("runtimes", "batches", "heads")
_SIZE = "HEIGHTxWIDTH such as 224x320, or one number for a square"
_PER_OUTPUT = "a number from 0 on, or a table of them by output"
# Key → what it has to be, in words.
_SETTINGS = {
    "runtimes": "a list of names as in `anysize runtimes`, or all",
    "sizes": "a list of sizes such as 224 or 224x320, or auto",
    "batches": f"a list of whole numbers from 1 to {MAX_BATCH}",
    "seed": "a whole number from 0 on",
    "atol": _PER_OUTPUT,
    "rtol": _PER_OUTPUT,
    "arbiter": "float64 or none",
    "half": "true or false",
    "tf32": "true or false",
    "bright": "true or false",
}
_EXPORT = {
    "heads": "a list of heads",
    "size": _SIZE,
    "min_size": _SIZE,
    "max_size": _SIZE,
    "opset": "a whole number",
}
_MODEL = {
    "source": "a SOURCE to export",
    "file": "an ONNX file",
    "name": f"1 to {_MOST_LETTERS} printable letters",
    "reference": "a SOURCE or an ONNX file",
    "weights": "a checkpoint",
    "model_args": "a table of what the source is built with",
    **_EXPORT,
    **_SETTINGS,
}
_TYPES: dict[str, tuple[type, ...]] = {
    "seed": (int,),
    "opset": (int,),
    "sizes": (str, int, list),
    "atol": (int, float, dict),
    "rtol": (int, float, dict),
    "model_args": (dict,),
    **dict.fromkeys(("size", "min_size", "max_size"), (str, int, list)),
    **dict.fromkeys(("half", "tf32", "bright"), (bool,)),
}


@dataclass(frozen=True, slots=True)
class Job:
    """One file, or one model with one head, on all its runtimes, sizes and batches.

    Attributes:
        name: On the report.
        source: A SOURCE that is exported first; "" where `file` is given.
        file: The ONNX file, as seen from the configuration's folder; "" where `source` is given.
        head: The head to export; "" for the model's own.
        size: The training size to export; "" for the model's own.
        min_size: The smallest size of the exported file; "" for the network's own smallest.
        max_size: The largest one; "" for none.
        opset: The operator set to export; None for the export's own.
        half: Export in half precision.
        reference: A SOURCE or an ONNX file to compare with; "" for what the file says.
        weights: A checkpoint; "" for none.
        model_args: What the source, or the reference, is built with, as JSON; "" for nothing.
        spec: What to compare on; its seed is that of random weights, too.
    """

    name: str
    source: str
    file: str
    head: str
    size: str
    min_size: str
    max_size: str
    opset: int | None
    half: bool
    reference: str
    weights: str
    model_args: str
    spec: ValidationSpec

    @property
    def exported_name(self) -> str:
        """The name of the file that a source is exported to; "" for a job that has a file."""
        return f"{self._file_name}.onnx" if self.source else ""

    @property
    def report_name(self) -> str:
        """The name of the file that keeps its report."""
        return f"{self._file_name}.json"

    @property
    def arguments(self) -> Mapping[str, object]:
        """What the source, or the reference, is built with."""
        return model_args(self.model_args or None)

    @property
    def _file_name(self) -> str:
        name = re.sub(r"[^\w.-]", "-", self.name)
        return name[-_MOST_LETTERS_OF_FILE:]


def read_matrix(path: Path) -> tuple[Job, ...]:
    """Read a configuration; paths in it are relative to its own folder.

    Raises:
        UsageError: It cannot be read, or a key or value is not understood.
    """
    with _named(f"matrix {path}"):
        content = _content(path)
        models = content.pop("model", [])
        if not isinstance(models, list) or not all(isinstance(model, dict) for model in models):
            raise UsageError("model is no table of its own; write [[model]]")
        if not models:
            raise UsageError("names no model; add a [[model]] with source or file")
        _check(content, _SETTINGS)
    jobs: list[Job] = []
    for number, model in enumerate(models, 1):
        with _named(f"matrix {path}, model {number}"):
            _check(model, _MODEL)
            jobs.extend(_jobs({**content, **model}, path.parent))
    with _named(f"matrix {path}"):
        _refuse_twice([job.name for job in jobs])
        _refuse_twice([job.exported_name for job in jobs if job.source])
        _refuse_twice([job.report_name for job in jobs])
    return tuple(jobs)


@contextlib.contextmanager
def _named(where: str) -> Iterator[None]:
    """Say in an error where it is."""
    try:
        yield
    except UsageError as exc:
        raise UsageError(f"{where}: {exc}") from exc


def _content(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_regular(path, most=_MOST_BYTES).decode())
    except UsageError as exc:
        raise UsageError(f"{exc}; expected a TOML file") from exc
    except (ValueError, RecursionError) as exc:  # a number of too many digits is the former
        raise UsageError(f"is no TOML: {exc}") from exc


def _refuse_twice(names: list[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{twice} is there twice; give each of the models a name of its own")


def _check(content: dict[str, Any], known: dict[str, str]) -> None:
    """Refuse a key that is not known, and a value of another type."""
    for key, value in content.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
            raise UsageError(f"key {reprlib.repr(key)} is unknown; {hint}")
        kinds = _TYPES.get(key, (list, str) if key in _LISTS else (str,))
        if isinstance(value, bool) != (kinds == (bool,)) or not isinstance(value, kinds):
            raise _unexpected(key, value)


def _unexpected(key: str, value: object) -> UsageError:
    try:
        got = reprlib.repr(value)
    except ValueError:  # Python writes out no number of more than 4300 digits
        got = "a number of thousands of digits"
    return UsageError(f"{key} is {got}, expected {_MODEL[key]}")


def _jobs(settings: dict[str, Any], folder: Path) -> list[Job]:
    source, file = settings.get("source", ""), settings.get("file", "")
    if bool(source) == bool(file):
        raise UsageError("give either source or file")
    if source and "reference" in settings:
        raise UsageError("reference is for a file; a source is its own")
    for key in _EXPORT:
        if file and key in settings:
            raise UsageError(f"{key} is for a source; a file is taken as it is")
    arbiter = settings.get("arbiter", "float64")
    if arbiter not in ("float64", "none"):
        raise _unexpected("arbiter", arbiter)
    size, min_size, max_size = _export_sizes(settings)
    reference = settings.get("reference", "")
    heads = dict.fromkeys(_texts(settings, "heads", [""]))
    spec = ValidationSpec(
        runtimes=parse_runtimes(",".join(_texts(settings, "runtimes", ["ort-cpu"]))),
        sizes=_sizes(settings),
        batches=_batches(settings),
        seed=_seed(settings),
        atol=_numbers(settings, "atol"),
        rtol=_numbers(settings, "rtol"),
        arbiter=arbiter,
        tf32=settings.get("tf32", False),
        # A file that is exported so says it itself.
        half=settings.get("half", False) and bool(file),
        amplified=settings.get("bright", True),
    )
    return [
        Job(
            name=_name(settings, head, is_alone=len(heads) == 1),
            source=source,
            file=str(folder / file) if file else "",
            head=head,
            size=size,
            min_size=min_size,
            max_size=max_size,
            opset=settings.get("opset"),
            half=bool(source) and settings.get("half", False),
            reference=str(folder / reference) if reference.endswith(".onnx") else reference,
            weights=str(folder / settings["weights"]) if settings.get("weights") else "",
            model_args=json.dumps(settings["model_args"]) if "model_args" in settings else "",
            spec=spec,
        )
        for head in heads
    ]


def _name(settings: dict[str, Any], head: str, *, is_alone: bool) -> str:
    name: str | None = settings.get("name")
    if name is None:
        name = settings.get("source") or settings["file"]
        return f"{name}-{head}" if head else name
    if not (name.isprintable() and 1 <= len(name.strip()) <= _MOST_LETTERS):
        raise _unexpected("name", name)
    return name if is_alone else f"{name}-{head}"


def _export_sizes(settings: dict[str, Any]) -> tuple[str, str, str]:
    """Read training size, smallest and largest size; each "" where it is not given."""
    found: dict[str, Size] = {}
    for key in ("size", "min_size", "max_size"):
        if key in settings:
            with _named(key):
                found[key] = Size.of(settings[key])
    SizeRange(found.get("min_size", Size(1, 1)), found.get("max_size"))
    size, low, top = (str(found.get(key, "")) for key in ("size", "min_size", "max_size"))
    return size, low, top


def _sizes(settings: dict[str, Any]) -> tuple[Size, ...] | Literal["auto", "quick"]:
    given = settings.get("sizes", "auto")
    if not given:
        raise _unexpected("sizes", given)
    # A word in a list stands for itself.
    return to_sizes(given[0] if given in (["auto"], ["quick"]) else given)


def _batches(settings: dict[str, Any]) -> tuple[int, ...]:
    batches = settings.get("batches", (1, 2))
    if not batches or not all(type(n) is int and 1 <= n <= MAX_BATCH for n in batches):
        raise _unexpected("batches", batches)
    return tuple(batches)


def _seed(settings: dict[str, Any]) -> int:
    seed: int = settings.get("seed", 0)
    if not 0 <= seed < 1 << 63:  # TOML's own limit, which Python's reader does not keep
        raise _unexpected("seed", seed)
    return seed


def _numbers(settings: dict[str, Any], key: str) -> dict[str, float] | None:
    value = settings.get(key, {})
    numbers = value if isinstance(value, dict) else {ALL_OUTPUTS: value}
    if not all(map(_is_tolerance, numbers.values())):
        raise _unexpected(key, value)
    return {output: float(number) for output, number in numbers.items()} or None


def _is_tolerance(number: object) -> bool:
    if not isinstance(number, (int, float)) or isinstance(number, bool):
        return False
    try:
        return math.isfinite(number) and number >= 0
    except OverflowError:  # of a whole number that no float can be
        return False


def _texts(settings: dict[str, Any], key: str, otherwise: list[str]) -> list[str]:
    value = settings.get(key, otherwise)
    texts = [value] if isinstance(value, str) else value
    if not texts or not all(isinstance(text, str) for text in texts):
        raise _unexpected(key, value)
    return list(texts)
