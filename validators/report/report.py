"""The report of a validation: frozen records, from which every format is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from anysize.sizes import Size
from anysize.validators.judging import VERDICTS, Outcome, OutputResult, Verdict, exit_code
from anysize.validators.report.diagnosis import Diagnosis
from anysize.validators.report.formats import Written
from anysize.validators.runtimes import Provenance

__all__ = [
    "SCHEMA_VERSION",
    "Cell",
    "ModelRecord",
    "PackageVersion",
    "QuantisationRecord",
    "ReferenceRecord",
    "Report",
    "RuntimeRecord",
]

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """The file under test.

    Attributes:
        path: As it was given.
        sha256: The file's hash; external weights are not part of it.
        opset: Version of the standard operators.
        head: From the file's metadata.
        min_size: Smallest size that the file declares legal.
        max_size: Largest one.
    """

    path: str
    sha256: str
    opset: int
    head: str | None = None
    min_size: Size | None = None
    max_size: Size | None = None


@dataclass(frozen=True, slots=True)
class ReferenceRecord:
    """What it was compared with.

    Attributes:
        name: The original's name.
        kind: `module` (eager PyTorch), `onnx` (another graph), `windows` (the original's fully
            connected layers on every window of its feature map), or `quantised` (the file itself,
            as its operators are defined, which is held against this original).
        arbiter: `float64`, or `none` where the float32 reference stands in for it.
        argument: What `--reference` takes to name it again; "" where the file under test says so
            itself, None where it was an object in Python.
        weights: The checkpoint that was given for it; "" for none.
        device: What it computed on: `cpu`, or `cuda`, where TF32 is off.
        model_args: What its SOURCE was called with, as JSON; "" for nothing.
    """

    name: str
    kind: str
    arbiter: str
    argument: str | None = None
    weights: str = ""
    device: str = "cpu"
    model_args: str = ""

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        where = "" if self.device == "cpu" else f" on {self.device}"
        return f"{self.name} ({self.kind}{where})"


@dataclass(frozen=True, slots=True)
class RuntimeRecord:
    """A runtime that was asked for.

    Attributes:
        name: The word for `--runtimes`.
        version: "" where it is not installed.
        device: What it computes on.
        profile: The error profile that its cells are judged by.
        provenance: What really computed the outputs.
    """

    name: str
    version: str
    device: str
    profile: str
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class PackageVersion:
    """A package that took part, and its version."""

    package: str
    version: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One runtime × size × batch.

    Attributes:
        runtime: The runtime's name.
        size: Height and width of the images, in pixels.
        batch: Number of images.
        verdict: What happened.
        message: Why, in one line; "" for a pass.
        outputs: Error, budget and worst element of each output, where there was something to
            compare.
        run_s: The faster of the two runs, in seconds; None where there was none.
        diagnosis: Where it begins, where that was asked for and found out.
        is_bright: The outputs are those for other, brighter images, which are wrong where those
            for the seeded images are right.
    """

    runtime: str
    size: Size
    batch: int
    verdict: Verdict
    message: str = ""
    outputs: tuple[OutputResult, ...] = ()
    run_s: float | None = None
    diagnosis: Diagnosis | None = None
    is_bright: bool = False

    @property
    def is_good(self) -> bool:
        """Whether the verdict is a good one."""
        return VERDICTS[self.verdict].outcome is Outcome.GOOD

    @property
    def words(self) -> str:
        """What happened, why, and where it begins, as far as that is known."""
        found = self.diagnosis.text if self.diagnosis is not None else ""
        return "; ".join(filter(None, (f"{self.verdict}: {self.message}", found)))

    @property
    def advice(self) -> str:
        """What to do about it; "" where the verdict is good."""
        return VERDICTS[self.verdict].advice

    @property
    def worst(self) -> OutputResult | None:
        """The output with the largest error in multiples of its budget."""
        return max(self.outputs, key=lambda output: output.deviation.ratio, default=None)

    @property
    def ratio(self) -> float:
        """The largest error in multiples of its budget; −1 where nothing was compared."""
        return self.worst.deviation.ratio if self.worst is not None else -1.0

    def __str__(self) -> str:
        return f"{self.runtime} {self.size} batch {self.batch}"


@dataclass(frozen=True, slots=True)
class QuantisationRecord:
    """How far a quantised file's own numbers are from those of what it was made of.

    Attributes:
        size: Height and width of the images, in pixels.
        batch: Number of images.
        verdict: `pass` where they are no further than its roundings cost.
        message: Why it is none, in one line.
        outputs: Error, what the roundings may cost, and top-1 agreement of each output.
    """

    size: Size
    batch: int
    verdict: Verdict
    message: str
    outputs: tuple[OutputResult, ...]


@dataclass(frozen=True, slots=True)
class Report(Written):
    """Everything that one validation found.

    Attributes:
        model: The file under test.
        reference: What it was compared with.
        seed: What the images are drawn from.
        vacuity_seed: What the second images are drawn from, which show that the reference depends
            on its input.
        tolerance: `atol=… rtol=…` where the user gave one, and `OUTPUT:atol=… OUTPUT:rtol=…` for
            one of the outputs, quoted as a shell wants it; else "".
        threads: Threads that one operator may use.
        runtimes: In the order in which they were asked for.
        packages: Versions of what took part, by name.
        cells: By runtime, then size, then batch.
        schema_version: Version of the JSON form.
        notes: What is not checked, or proves less than it seems.
        machine: System, architecture and processor that it ran on; "" where that is not known.
        quantisation: Of a quantised file, whose cells are held to what the file itself means: how
            far that is from the original, by size and batch.
    """

    JSON_ADDS: ClassVar = ("ok", "exit_code")

    model: ModelRecord
    reference: ReferenceRecord
    seed: int
    vacuity_seed: int
    tolerance: str
    threads: int
    runtimes: tuple[RuntimeRecord, ...]
    packages: tuple[PackageVersion, ...]
    cells: tuple[Cell, ...]
    schema_version: int = SCHEMA_VERSION
    notes: tuple[str, ...] = ()
    machine: str = ""
    quantisation: tuple[QuantisationRecord, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 where all holds, 1 where a comparison failed, 3 where something did not run."""
        return exit_code(cell.verdict for cell in self.cells)

    @property
    def ok(self) -> bool:
        """Whether every cell is good and at least one is a pass."""
        return self.exit_code == 0
