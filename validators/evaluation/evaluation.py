"""The result of an evaluation: one row for each model or head, size and runtime."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

from anysize.as_json import as_json
from anysize.lazy import load
from anysize.sizes import Size
from anysize.validators.report import PackageVersion

__all__ = ["Accuracy", "Confusion", "Evaluation", "EvaluationRow", "ModelFacts", "Timing"]

_ROOM = "anysize.validators.evaluation"
_FORMS: Mapping[str, str] = MappingProxyType(
    {
        "text": f"{_ROOM}.table:text_table",
        "notebook": f"{_ROOM}.table:html_table",
        "page": f"{_ROOM}.page:evaluation_page",
    }
)


@dataclass(frozen=True, slots=True)
class Confusion:
    """How many images of a class were taken for another one."""

    label: str
    taken_for: str
    count: int


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What a model made of the images.

    Attributes:
        images: Those that could be read, and that the shares are of.
        top1: Share whose class is the strongest output.
        top5: Share whose class is one of the five strongest.
        agreement: Share with the strongest output of the reference; None without one.
        refused: Images of a size that the model does not take, which count as wrong.
        not_finite: Images that were answered with NaN or infinity, which count as wrong.
        confusions: The most frequent ones, at most ten.
    """

    images: int
    top1: float
    top5: float
    agreement: float | None
    refused: int
    not_finite: int
    confusions: tuple[Confusion, ...]


@dataclass(frozen=True, slots=True)
class Timing:
    """What a run took, in the runtime's process.

    Attributes:
        batch: Images in a run.
        runs: Timed runs, behind the warm-up.
        latency_ms: Their median.
        low_ms: A quarter of them took no longer.
        high_ms: Three quarters took no longer.
        images_per_s: Images in a second, at the median.
        peak_memory_bytes: The most memory that the process held; None where it is not known.
        ran_on: Which providers executed how many nodes.
    """

    batch: int
    runs: int
    latency_ms: float
    low_ms: float
    high_ms: float
    images_per_s: float
    peak_memory_bytes: int | None
    ran_on: str


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """One model or head at one size on one runtime.

    Attributes:
        model: What the user named.
        head: The head that the file records, or that was asked for; "" where there is none.
        size: The images' size; None where each is taken as it is.
        runtime: Where it ran.
        status: `ran`; `rejected`, where the model does not take the size; `failed`.
        reason: Why it did not run; "" where it did.
        accuracy: None where it did not run, or without data.
        timing: None where it did not run.
    """

    model: str
    head: str
    size: Size | None
    runtime: str
    status: Literal["ran", "rejected", "failed"]
    reason: str = ""
    accuracy: Accuracy | None = None
    timing: Timing | None = None

    @property
    def label(self) -> str:
        """Which row it is, in words."""
        return " ".join(filter(None, (self.model, self.head, str(self.size or ""))))


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One file that was evaluated.

    Attributes:
        model: What the user named.
        head: Its head.
        sha256: The file's hash.
        sizes: The sizes that it takes, in words; "" where it does not say.
        preprocessing: What was done to the images, in words.
        preprocessing_from: Who said so: `flags`, `file`, or `assumed`.
    """

    model: str
    head: str
    sha256: str
    sizes: str
    preprocessing: str
    preprocessing_from: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Accuracy, agreement, latency and memory, by model or head and size.

    Attributes:
        data: The dataset; "" for a benchmark.
        images: Its images.
        classes: Its classes.
        broken: Names of images that could not be decoded, the first twenty.
        broken_count: How many there are; they count nowhere.
        fit: How images were brought to the sizes.
        reference: What `agreement` is with; "" without one.
        models: The files.
        rows: The results.
        runtimes: Their versions.
        threads: Threads that one operator may use.
        machine: What it ran on.
        packages: Versions that may change a number.
        notes: What else should be known.
    """

    JSON_ADDS: ClassVar = ("schema", "schema_version", "ok", "exit_code")
    schema: ClassVar = "anysize.evaluation"
    schema_version: ClassVar = 1

    data: str
    images: int
    classes: int
    broken: tuple[str, ...]
    broken_count: int
    fit: str
    reference: str
    models: tuple[ModelFacts, ...]
    rows: tuple[EvaluationRow, ...]
    runtimes: tuple[PackageVersion, ...]
    threads: int
    machine: str
    packages: tuple[PackageVersion, ...]
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 where everything ran that the models take; 3 where something failed or nothing ran."""
        statuses = {row.status for row in self.rows}
        return 0 if "ran" in statuses and "failed" not in statuses else 3

    @property
    def ok(self) -> bool:
        """Whether everything ran that the models take."""
        return self.exit_code == 0

    def to_dict(self) -> dict[str, object]:
        """Return everything as dicts, lists, texts and numbers."""
        found: dict[str, object] = json.loads(self.to_json())
        return found

    def to_json(self) -> str:
        """Return `to_dict` as JSON."""
        return as_json(self)

    def to_html(self) -> str:
        """Return one HTML page with plots over the size; it needs nothing from the network.

        Raises:
            UsageError: jinja2, of the extra `report`, is not installed.
        """
        return self._written("page")

    def __str__(self) -> str:
        return self._written("text")

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        return self._written("notebook")

    def _written(self, form: str) -> str:
        return str(load(_FORMS[form])(self))
