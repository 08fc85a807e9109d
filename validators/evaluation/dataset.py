"""Labelled images: a folder of classes as torchvision's ImageFolder reads it, or a CSV."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from anysize.errors import ModelFileError, UsageError
from anysize.images import require_picture
from anysize.words import cleaned

__all__ = ["Dataset", "Sample", "output_of_class", "read_dataset"]

_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_MOST_CLASSES = 100_000
_HEADER = ("path", "label")


@dataclass(frozen=True, slots=True)
class Sample:
    """An image's file, and its class as a place in `Dataset.classes`."""

    path: Path
    label: int


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled images; each pass over them reads the listing anew and holds one folder of it.

    Attributes:
        path: The folder, or the CSV.
        classes: Names of the folders, or the labels of the CSV, sorted.
        count: Number of images.
        sha256: Hash of paths, labels, sizes and times of all files.
    """

    path: Path
    classes: tuple[str, ...]
    count: int = 0
    sha256: str = ""

    @property
    def has_numbers(self) -> bool:
        """Whether its labels are the outputs' numbers, as a CSV may have them."""
        return self.path.is_file() and all(name.isdecimal() for name in self.classes)

    def __iter__(self) -> Iterator[Sample]:
        place = {name: label for label, name in enumerate(self.classes)}
        if self.path.is_dir():
            for name, label in place.items():
                yield from (Sample(path, label) for path in _images(self.path / name))
        else:
            for path, name in _rows(self.path):
                yield Sample(path, place[name])

    def names(self, indices: Sequence[int]) -> tuple[str, ...]:
        """Return the paths of the images at these places, as seen from the dataset's folder."""
        wanted, last = set(indices), max(indices, default=-1)
        found = islice(self, last + 1)
        return tuple(_shown(s.path, self.path) for at, s in enumerate(found) if at in wanted)


def read_dataset(path: Path) -> Dataset:
    """List a dataset, and look at the first bytes of each file.

    Raises:
        UsageError: There is no image, a class has none, or a file is no image; the first is named.
    """
    if path.is_dir():
        entries = sorted(entry.name for entry in os.scandir(path) if entry.is_dir())
        classes = tuple(name for name in entries if not name.startswith("."))
        if not classes:
            raise UsageError(
                f"data {path}: has no folder; expected {path}/CLASS/IMAGE.jpg, or a CSV of path,"
                "label"
            )
    else:
        classes = tuple(sorted({label for _, label in _rows(path)}))
        if not classes:
            raise UsageError(f"data {path}: has no row; expected one path,label a line")
    if len(classes) > _MOST_CLASSES:
        raise UsageError(
            f"data {path}: has {len(classes)} classes, expected {_MOST_CLASSES} at most"
        )
    digest, count, seen = hashlib.sha256(), 0, set()
    first, others = "", 0
    for sample in Dataset(path, classes):
        try:
            require_picture(sample.path)
        except ModelFileError as exc:
            first, others = first or str(exc), others + bool(first)
            continue
        status = sample.path.stat()
        known = (_shown(sample.path, path), sample.label, status.st_size, status.st_mtime_ns)
        digest.update(repr(known).encode(errors="surrogateescape"))
        seen.add(sample.label)
        count += 1
    if first:
        more = f", nor can {others} more files" if others else ""
        raise UsageError(f"data {path}: {first}{more}; remove what is no image")
    empty = next((name for label, name in enumerate(classes) if label not in seen), None)
    if empty is not None:
        raise UsageError(
            f"data {path}: class {empty!r} has no image ({', '.join(_SUFFIXES)}); add some, or "
            "remove the folder"
        )
    return Dataset(path, classes, count, digest.hexdigest())


def output_of_class(
    dataset: Dataset, outputs: int | None, names: Sequence[str] | None, model: str
) -> tuple[int, ...]:
    """Say which output of a network stands for each class of a dataset.

    That is the one of the same name, where the network's classes have names and the dataset uses
    them; the one of that number, where a CSV has numbers; else they are in the same order.

    Args:
        dataset: The dataset.
        outputs: How many the network has; None where it is not known.
        names: Names of its classes, in order.
        model: What messages call it.

    Raises:
        UsageError: They do not fit together.
    """
    if names is not None and outputs not in (None, len(names)):
        raise UsageError(f"classes: {len(names)} names for the {outputs} outputs of {model}")
    place = {name: at for at, name in enumerate(names or ())}
    known = [name for name in dataset.classes if name in place]
    if known:
        if len(known) < len(dataset.classes):
            other = next(name for name in dataset.classes if name not in place)
            raise UsageError(f"data {dataset.path}: class {other!r} is none of {model}'s classes")
        return tuple(place[name] for name in dataset.classes)
    if dataset.has_numbers:
        found = tuple(int(name) for name in dataset.classes)
        if outputs is None or max(found) < outputs:
            return found
        raise UsageError(
            f"data {dataset.path}: has label {max(found)}, and {model} has {outputs} outputs"
        )
    if outputs not in (None, len(dataset.classes)):
        raise UsageError(
            f"data {dataset.path}: has {len(dataset.classes)} classes, and {model} has {outputs} "
            "outputs; name these in order with --classes FILE"
        )
    return tuple(range(len(dataset.classes)))


def _images(folder: Path) -> Iterator[Path]:
    """Yield the images below a folder, in the order of ImageFolder."""
    for place, _, files in sorted(os.walk(folder)):
        for name in sorted(files):
            if name.lower().endswith(_SUFFIXES):
                yield Path(place, name)


def _rows(path: Path) -> Iterator[tuple[Path, str]]:
    """Yield the rows of a CSV: files, as seen from its folder, and their labels."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            for number, row in enumerate(csv.reader(stream), 1):
                fields = tuple(field.strip() for field in row)
                if not any(fields) or (number == 1 and fields == _HEADER):
                    continue
                if len(fields) != len(_HEADER) or not all(fields):
                    got = cleaned(",".join(row), most=60)
                    raise UsageError(
                        f"data {path}, line {number}: got {got!r}, expected path,label"
                    )
                yield path.parent / fields[0], fields[1]
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        reason = getattr(exc, "strerror", None) or str(exc)
        raise UsageError(
            f"data {path}: {reason}; expected a folder of classes, or a CSV of path,label"
        ) from exc


def _shown(path: Path, root: Path) -> str:
    folder = root if root.is_dir() else root.parent
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)
