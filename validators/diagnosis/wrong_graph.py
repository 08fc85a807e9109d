"""Whether the graph is what is wrong, and where: all that run it give one and the same answer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from anysize.sizes import Size
from anysize.validators.diagnosis.alignment import Difference, first_difference, known_steps
from anysize.validators.diagnosis.intermediates import truncated
from anysize.validators.judging import PROFILES, VERDICTS, Outcome, Profile, Verdict
from anysize.validators.references import (
    NumberType,
    Recorded,
    Reference,
    Rejected,
    Step,
    read_steps,
)
from anysize.validators.references.graph import GraphPair
from anysize.validators.report import Cell, Culprit, Diagnosis, Report
from anysize.words import one_line, shortened

__all__ = ["Arrays", "blame_graph"]

Array = NDArray[np.generic]

# Two kinds of being wrong: a wrong answer or none, and an answer where none is right.
_KINDS = ((Verdict.MISMATCH, Verdict.SHAPE, Verdict.ERROR), (Verdict.ACCEPTED,))
_ITSELF = "onnx-reference"
# A cast to a narrow type is none where all is float64; several runtimes may see it, one could err.
_NUMBERS: tuple[NumberType, ...] = ("float64", "float32")
# Kinds of references that compute on the image as it is.
_WHOLE = ("module", "onnx")
_NOT_KNOWN = "where it begins is not known"


@dataclass(frozen=True, slots=True)
class Arrays:
    """Tells what belongs to a cell.

    Attributes:
        inputs: The images, by name.
        answer: What the runtime answers.
        expected: What the reference answers; () where it answers nothing.
    """

    inputs: Callable[[Cell], Mapping[str, Array]]
    answer: Callable[[Cell], tuple[Array, ...]]
    expected: Callable[[Cell], tuple[Array, ...]]


def blame_graph(
    report: Report,
    path: Path,
    model: onnx.ModelProto,
    *,
    reference: Reference,
    arrays: Arrays,
    step: Callable[[str], None],
) -> Report:
    """Add a diagnosis to the cells in which all runtimes that ran give one wrong answer.

    The graph is evaluated once in float64, for the first such case: a graph that is wrong means
    the wrong answer there, too, and is followed to the first tensor that the reference does not
    make.

    Args:
        report: Report of the file.
        path: The file.
        model: What is in it.
        reference: The original, which is asked once more.
        arrays: The images and answers of each cell.
        step: Called with what is being done.
    """
    found: dict[Cell, Diagnosis] = {}
    for verdicts in _KINDS:
        alike = [cells for cells in _cases(report) if _are_alike(cells, verdicts, arrays)]
        if not alike:
            continue
        first = alike[0]
        step(f"{first[0].size} batch {first[0].batch}: looking for the first wrong layer")
        profile = max(
            (PROFILES[one.profile] for one in report.runtimes), key=lambda one: one.budget(0.0)
        )
        with tempfile.TemporaryDirectory(prefix="anysize-graph-") as folder:
            graph = GraphPair.of_file(path, model=model)
            trial = _Trial(graph, reference, arrays, first, profile, Path(folder))
            try:
                diagnosis = trial.diagnose()
            except Exception as exc:  # of whatever kind: it must not cost the report
                diagnosis = trial.unknown(one_line(exc))
            finally:
                graph.close()
                reference.close()
        if diagnosis is not None:
            cases = alike if diagnosis.runtimes else alike[:1]
            found.update((cell, diagnosis) for case in cases for cell in case)
    cells = tuple(replace(c, diagnosis=found[c]) if c in found else c for c in report.cells)
    return replace(report, cells=cells)


def _cases(report: Report) -> Iterable[tuple[Cell, ...]]:
    """Yield the cells of what ran, by size and batch."""
    cases: dict[tuple[Size, int], list[Cell]] = {}
    for cell in report.cells:
        if VERDICTS[cell.verdict].outcome is not Outcome.NOT_RUN:
            cases.setdefault((cell.size, cell.batch), []).append(cell)
    return map(tuple, cases.values())


def _are_alike(cells: Sequence[Cell], verdicts: Sequence[Verdict], arrays: Arrays) -> bool:
    """Whether all runtimes have one verdict, and one answer, as far as right ones are one."""
    first = cells[0]
    if first.verdict not in verdicts or any(
        (cell.verdict, cell.is_bright) != (first.verdict, first.is_bright) for cell in cells
    ):
        return False
    if first.verdict is Verdict.ERROR:
        return True
    own = arrays.answer(first)
    return bool(own) and all(
        _is_near(arrays.answer(cell), own, _budget(cell) + _budget(first)) for cell in cells[1:]
    )


def _budget(cell: Cell) -> float:
    """Return the largest budget of a cell's outputs; the least there is without one."""
    least = PROFILES["strict"].budget(0.0)
    return max([least, *(output.deviation.budget for output in cell.outputs)])


def _is_near(got: Sequence[Array], meant: Sequence[Array], budget: float) -> bool:
    """Whether answers have the same shapes and, by the largest value, nearly the same values."""
    if [one.shape for one in got] != [one.shape for one in meant]:
        return False
    return all(
        np.allclose(one, other, rtol=0.0, atol=budget * _scale(other), equal_nan=True)
        for one, other in zip(got, meant, strict=True)
    )


def _scale(array: Array) -> float:
    return float(np.abs(array, where=np.isfinite(array), out=np.zeros(array.shape)).max(initial=0))


@dataclass(frozen=True, slots=True)
class _Trial:
    """One case in which all runtimes are wrong alike."""

    graph: GraphPair
    reference: Reference
    arrays: Arrays
    cells: tuple[Cell, ...]
    profile: Profile
    folder: Path

    @property
    def runtimes(self) -> tuple[str, ...]:
        """Those that agree, where there are several."""
        return tuple(cell.runtime for cell in self.cells) if len(self.cells) > 1 else ()

    def diagnose(self) -> Diagnosis | None:
        """Say that the graph is wrong, and where; None where it does not mean that answer."""
        first = self.cells[0]
        inputs = self.arrays.inputs(first)
        arrays, failing = tuple(inputs.values()), ""
        for numbers in _NUMBERS if self.runtimes else _NUMBERS[:1]:
            folder = self._made(f"graph in {numbers}")
            meant = self.graph.run(arrays, Recorded(folder, numbers))
            if isinstance(meant, Rejected):
                if first.verdict is not Verdict.ERROR:
                    return self.unknown(meant.reason)
                failing = self._record_up_to_failure(arrays, folder)
                break
            if self._is_meant(meant, arrays):
                break
        else:
            return None
        if first.verdict is Verdict.ACCEPTED:
            return self._diagnosis("it takes what the reference rejects")
        return self._located(inputs, folder, failing)

    def unknown(self, words: str) -> Diagnosis | None:
        """Blame the graph for what several runtimes do; one alone may be wrong itself."""
        if not self.runtimes:
            return None
        return self._diagnosis(f"{_NOT_KNOWN} ({words})")

    def _is_meant(self, meant: Sequence[Array], arrays: tuple[Array, ...]) -> bool:
        """Whether the graph means what the runtimes answer, and nothing that is right."""
        first = self.cells[0]
        if first.verdict is Verdict.ERROR:
            return False
        voices = [meant]
        if [cell.runtime for cell in self.cells] == [_ITSELF]:  # it is no witness of itself
            other = self.graph.run(arrays, "float32")
            voices.append(() if isinstance(other, Rejected) else other)
        answer, expected = self.arrays.answer(first), self.arrays.expected(first)
        # Of another name or type, answers are wrong all the same.
        is_named = first.verdict is not Verdict.SHAPE or not self.runtimes
        if expected and is_named and _is_near(meant, expected, _budget(first)):
            return False
        return all(_is_near(answer, voice, 2 * _budget(first)) for voice in voices)

    def _record_up_to_failure(self, arrays: tuple[Array, ...], folder: Path) -> str:
        """Record as many nodes as run, and name the one that does not."""
        model = self.graph.model
        low, high = 0, len(model.graph.node)
        while high - low > 1:
            middle = (low + high) // 2
            part = self.graph.changed(truncated(model, middle))
            runs = bool(part.model.graph.output) and not isinstance(
                part.run(arrays, "float64"), Rejected
            )
            part.close()
            low, high = (middle, high) if runs else (low, middle)
        if low:
            part = self.graph.changed(truncated(model, low))
            part.run(arrays, Recorded(folder))
            part.close()
        return f"{self.graph.graph.label(high - 1)} ({model.graph.node[high - 1].op_type})"

    def _located(self, inputs: Mapping[str, Array], graph: Path, failing: str) -> Diagnosis:
        """Follow the graph, as it is recorded, to the first tensor that the reference lacks."""
        precise = self.reference.run(inputs, Recorded(self._made("float64")))
        plain = self.reference.run(inputs, Recorded(self._made("float32"), "float32"))
        double, single = (read_steps(self.folder / name) for name in ("float64", "float32"))
        if not double or len(double) != len(single):
            return self._diagnosis(f"{_NOT_KNOWN}: what the reference computes inside is not seen")
        if isinstance(precise, tuple) and isinstance(plain, tuple):
            double, single = (*double, *_outputs(precise)), (*single, *_outputs(plain))
        known = known_steps(double, single, self.profile)
        found = first_difference(
            self.graph.model,
            read_steps(graph),
            known,
            profile=self.profile,
            has_shapes=self.reference.kind in _WHOLE,
        )
        if found is None:
            end = (
                f"{failing}, which fails"
                if failing
                else "its outputs, which are not the right ones"
            )
            return self._diagnosis(f"each tensor is right up to {end}")
        deviation, meant = found.deviation, found.meant
        return replace(
            self._diagnosis(_place(found)),
            node=found.step.layer,
            operator=found.step.operator,
            tensor=found.step.tensor,
            shape=found.step.values.shape,
            error=deviation.error if deviation else 0.0,
            budget=deviation.budget if deviation else 0.0,
            layer=(meant.tensor or meant.layer) if meant else "",
        )

    def _made(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    def _diagnosis(self, where: str) -> Diagnosis:
        first = self.cells[0]
        agrees = "they all answer alike" if self.runtimes else "it computes what the graph means"
        text = (
            f"the graph is wrong, not the runtime: {agrees}; at {first.size} batch {first.batch} "
            f"{where}"
        )
        return Diagnosis(Culprit.GRAPH, text, runtimes=self.runtimes)


def _outputs(answer: tuple[Array, ...]) -> tuple[Step, ...]:
    return tuple(
        Step("", f"output {place}", "", array.astype(np.float64))
        for place, array in enumerate(answer)
        if np.issubdtype(array.dtype, np.floating)
    )


def _place(found: Difference) -> str:
    """Say where a graph leaves its reference."""
    step, meant, deviation = found.step, found.meant, found.deviation
    name = "" if step.tensor == step.layer else f", tensor {shortened(step.tensor, 60)!r}"
    where = f"{step}{name} {list(step.values.shape)}"
    if found.right is None:
        return f"{_NOT_KNOWN}: nothing that {where} is computed from is the reference's"
    if not found.is_sure:
        behind = f", where it goes on with {meant} {list(meant.values.shape)}" if meant else ""
        return f"wrong behind {found.right}, which is right{behind}; first in doubt is {where}"
    assert meant is not None
    if deviation is None:
        how = f"expected {list(meant.values.shape)}"
    else:
        how = f"error {deviation.error:.2e}, budget {deviation.budget:.2e}"
    return f"first wrong at {meant}, {where}: {how}; the last that is right is {found.right}"
