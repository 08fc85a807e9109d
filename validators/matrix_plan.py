"""A matrix of validations as a TOML file says it: models × heads × runtimes × sizes."""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from anysize.errors import UsageError
from anysize.sizes import parse_sizes
from anysize.validators.runtimes import parse_runtimes

__all__ = ["Job", "job_key", "read_matrix"]

_LISTS = ("runtimes", "sizes", "batches", "heads")
# Key → what it has to be, in words.
_SETTINGS = {
    "runtimes": "a list of names as in `anysize runtimes`, or all",
    "sizes": "a list of sizes such as 224x224, or auto",
    "batches": "a list of whole numbers",
    "seed": "a whole number",
    "atol": "a number",
    "rtol": "a number",
    "arbiter": "float64 or none",
}
_MODEL = {
    "source": "a SOURCE to export",
    "file": "an ONNX file",
    "heads": "a list of heads",
    "reference": "a SOURCE or an ONNX file",
    "weights": "a checkpoint",
    **_SETTINGS,
}
_TYPES: dict[str, tuple[type, ...]] = {
    "seed": (int,),
    "atol": (int, float),
    "rtol": (int, float),
}


@dataclass(frozen=True, slots=True)
class Job:
    """One file, or one model with one head, on all its runtimes, sizes and batches.

    Attributes:
        name: On the report.
        source: A SOURCE that is exported first; "" where `file` is given.
        file: The ONNX file, as seen from the configuration's folder; "" where `source` is given.
        head: Of the export; "" for the model's own.
        reference: See `anysize validate`; "" for what the file says.
        weights: A checkpoint; "" for none.
        runtimes: Names.
        sizes: `HEIGHTxWIDTH`; ("auto",) for auto.
        batches: Numbers of images.
        seed: Of weights and images.
        atol: Replaces the error budget.
        rtol: As well.
        arbiter: `float64` or `none`.
    """

    name: str
    source: str
    file: str
    head: str
    reference: str
    weights: str
    runtimes: tuple[str, ...]
    sizes: tuple[str, ...]
    batches: tuple[int, ...]
    seed: int
    atol: float | None
    rtol: float | None
    arbiter: str


def read_matrix(path: Path) -> tuple[Job, ...]:
    """Read a configuration; paths in it are relative to its own folder.

    Raises:
        UsageError: It cannot be read, or a key or value is not understood.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise UsageError(f"matrix {path}: {exc.strerror}; expected a TOML file") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise UsageError(f"matrix {path}: is no TOML: {exc}") from exc
    models = content.pop("model", [])
    if not isinstance(models, list) or not models or not all(isinstance(m, dict) for m in models):
        raise UsageError(f"matrix {path}: names no model; add a [[model]] with source or file")
    _check(content, _SETTINGS, str(path))
    jobs: list[Job] = []
    for number, model in enumerate(models, 1):
        where = f"{path}, model {number}"
        _check(model, _MODEL, where)
        jobs.extend(_jobs({**content, **model}, where, path.parent))
    names = [job.name for job in jobs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"matrix {path}: {twice} is there twice; join the two")
    return tuple(jobs)


def job_key(job: Job) -> str:
    """Return a hash of everything that a job's report depends on: settings and files."""
    from anysize import __version__

    files = [_digest(Path(name)) for name in (job.file, job.reference, job.weights) if name]
    text = json.dumps([asdict(job), files, __version__], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _digest(path: Path) -> str:
    """Hash a file; "" where a name is no file, such as a SOURCE."""
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check(content: dict[str, Any], known: dict[str, str], where: str) -> None:
    """Refuse a key that is not known, and a value of another type."""
    for key, value in content.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
            raise UsageError(f"matrix {where}: key {key!r} is unknown; {hint}")
        kinds = _TYPES.get(key, (list, str) if key in _LISTS else (str,))
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise UsageError(f"matrix {where}: {key} is {value!r}, expected {known[key]}")


def _jobs(settings: dict[str, Any], where: str, folder: Path) -> list[Job]:
    source, file = settings.get("source", ""), settings.get("file", "")
    if bool(source) == bool(file):
        raise UsageError(f"matrix {where}: give either source or file")
    if file and "heads" in settings:
        raise UsageError(f"matrix {where}: heads are for a source; a file has the head that it has")
    if source and "reference" in settings:
        raise UsageError(f"matrix {where}: reference is for a file; a source is its own")
    runtimes = parse_runtimes(",".join(_texts(settings, "runtimes", ["ort-cpu"], where)))
    sizes = tuple(_texts(settings, "sizes", ["auto"], where))
    if sizes != ("auto",):
        sizes = tuple(map(str, parse_sizes(",".join(sizes))))
    batches = tuple(settings.get("batches", (1, 2)))
    if not batches or not all(type(n) is int and n >= 1 for n in batches):
        raise UsageError(f"matrix {where}: batches are {batches}, expected {_MODEL['batches']}")
    arbiter = settings.get("arbiter", "float64")
    if arbiter not in ("float64", "none"):
        raise UsageError(f"matrix {where}: arbiter is {arbiter!r}, expected float64 or none")
    reference = settings.get("reference", "")
    heads = _texts(settings, "heads", [""], where) if source else [""]
    return [
        Job(
            name=f"{source}-{head}" if head else source or file,
            source=source,
            file=str(folder / file) if file else "",
            head=head,
            reference=str(folder / reference) if reference.endswith(".onnx") else reference,
            weights=str(folder / settings["weights"]) if settings.get("weights") else "",
            runtimes=runtimes,
            sizes=sizes,
            batches=batches,
            seed=settings.get("seed", 0),
            atol=settings.get("atol"),
            rtol=settings.get("rtol"),
            arbiter=arbiter,
        )
        for head in heads
    ]


def _texts(settings: dict[str, Any], key: str, otherwise: list[str], where: str) -> list[str]:
    value = settings.get(key, otherwise)
    texts = [value] if isinstance(value, str) else value
    if not texts or not all(isinstance(text, str) for text in texts):
        raise UsageError(f"matrix {where}: {key} is {value!r}, expected {_MODEL[key]}")
    return list(texts)
