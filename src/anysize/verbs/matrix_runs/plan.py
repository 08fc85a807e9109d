"""The jobs of a matrix: each of its models with each of its heads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from anysize.errors import UsageError
from anysize.validators import ValidationSpec, parse_runtimes
from anysize.validators.judging import ALL_OUTPUTS
from anysize.verbs.matrix_runs.settings import Model, listed, read_models

__all__ = ["Job", "read_matrix"]

_MOST_LETTERS_OF_FILE = 120  # a system takes 255 bytes


@dataclass(frozen=True, slots=True)
class Job:
    """One file, or one model with one head, on all its runtimes, sizes and batches.

    Attributes:
        name: On the report.
        head: The head to export; "" for the model's own.
        model: What the configuration says; its file, reference and weights as seen from the
            configuration's folder.
        spec: What to compare on; its seed is that of random weights, too.
    """

    name: str
    head: str
    model: Model = field(hash=False)  # it may hold tables
    spec: ValidationSpec

    @property
    def exported_name(self) -> str:
        """The name of the file that a source is exported to; "" for a job that has a file."""
        return f"{self._file_name}.onnx" if self.model.source else ""

    @property
    def report_name(self) -> str:
        """The name of the file that keeps its report."""
        return f"{self._file_name}.json"

    @property
    def _file_name(self) -> str:
        name = re.sub(r"[^\w.-]", "-", self.name)
        return name[-_MOST_LETTERS_OF_FILE:]


def read_matrix(path: Path) -> tuple[Job, ...]:
    """Read a configuration; paths in it are relative to its own folder.

    Raises:
        UsageError: It cannot be read, or a key or value is not understood.
    """
    jobs = [job for model in read_models(path) for job in _jobs(model, path.parent)]
    for names in (
        [job.name for job in jobs],
        [job.exported_name for job in jobs if job.model.source],
        [job.report_name for job in jobs],
    ):
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UsageError(
                f"matrix {path}: {twice} is there twice; give each of the models a name of its own"
            )
    return tuple(jobs)


def _jobs(model: Model, folder: Path) -> list[Job]:
    spec = ValidationSpec(
        runtimes=parse_runtimes(",".join(listed(model.runtimes))),
        sizes=model.read_sizes(),
        batches=model.batches,
        seed=model.seed,
        atol=_by_output(model.atol),
        rtol=_by_output(model.rtol),
        arbiter=model.arbiter,
        tf32=model.tf32,
        # A file that is exported so says it itself.
        half=model.half and bool(model.file),
        amplified=model.bright,
    )
    heads = dict.fromkeys(listed(model.heads) or ("",))
    placed = msgspec.structs.replace(
        model,
        file=str(folder / model.file) if model.file else "",
        reference=_placed(model.reference, folder),
        weights=str(folder / model.weights) if model.weights else "",
    )
    return [Job(_name(model, head, is_alone=len(heads) == 1), head, placed, spec) for head in heads]


def _placed(reference: str, folder: Path) -> str:
    return str(folder / reference) if reference.endswith(".onnx") else reference


def _name(model: Model, head: str, *, is_alone: bool) -> str:
    if model.name is not None and is_alone:
        return model.name
    name = model.name or model.source or model.file
    return f"{name}-{head}" if head else name


def _by_output(given: float | dict[str, float] | None) -> Mapping[str, float] | None:
    numbers = given if isinstance(given, dict) else {ALL_OUTPUTS: given}
    return {output: number for output, number in numbers.items() if number is not None} or None
