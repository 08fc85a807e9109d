"""Find where a runtime goes wrong: the first tensor in graph order that leaves its budget.

What the graph means is computed in float64 by the specification's evaluator, and how far float32
may be from it, tensor by tensor, by that evaluator in float32. The graph itself may be what is
wrong: a runtime that agrees with it everywhere is not to blame.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from anysize.errors import RuntimeFailedError, UsageError
from anysize.validators.diagnosis.failing_input import save_inputs
from anysize.validators.diagnosis.intermediates import batches, evaluate, truncated
from anysize.validators.judging import (
    PROFILES,
    Deviation,
    Profile,
    Verdict,
    exact_deviation,
    float_deviation,
)
from anysize.validators.references.graph import Tensor, shown, tensors_of
from anysize.validators.report import Cell, Culprit, Diagnosis, Report
from anysize.validators.runtimes import Runtime, Session
from anysize.words import one_line

__all__ = ["bisect_report", "diagnose"]

Array = NDArray[np.generic]

_VALUES = (Verdict.MISMATCH, Verdict.SHAPE)
_FAILURES = (Verdict.ERROR, Verdict.UNSUPPORTED)


_RANDOM = frozenset(
    {
        "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
        "RandomUniformLike",
    }
)  # fmt: skip


def bisect_report(
    report: Report,
    path: Path,
    *,
    runtimes: Sequence[Runtime],
    inputs_of: Callable[[Cell], Mapping[str, Array]],
    folder: Path,
    step: Callable[[str], None],
) -> Report:
    """Add a diagnosis to the first cell of each runtime that can be diagnosed, and has none.

    Args:
        report: Report of the file.
        path: The file.
        runtimes: Those of the report, in its order.
        inputs_of: Gives the images of a cell.
        folder: Receives the failing inputs, one `.npz` file for each diagnosis.
        step: Called with what is being done.
    """
    found: dict[Cell, Diagnosis] = {}
    for runtime, record in zip(runtimes, report.runtimes, strict=True):
        failing = (
            c
            for c in report.cells
            if c.runtime == record.name and c.verdict in (*_VALUES, *_FAILURES)
        )
        cell = next(failing, None)
        if cell is None:
            continue
        inputs = inputs_of(cell)
        diagnosis = cell.diagnosis
        if diagnosis is None:
            step(f"{cell}: looking for the first wrong tensor")
            profile = PROFILES[record.profile]
            diagnosis = diagnose(
                runtime, path, inputs, cell, profile=profile, threads=report.threads
            )
        name = re.sub(r"[^\w.@-]", "-", cell.runtime)  # a package may call its runtime as it likes
        saved = folder / f"{path.stem}-{name}-{cell.size}-b{cell.batch}.npz"
        save_inputs(inputs, saved)
        found[cell] = replace(diagnosis, inputs=str(saved))
    cells = tuple(replace(c, diagnosis=found[c]) if c in found else c for c in report.cells)
    return replace(report, cells=cells)


def diagnose(
    runtime: Runtime,
    path: Path,
    inputs: Mapping[str, Array],
    cell: Cell,
    *,
    profile: Profile,
    threads: int = 1,
) -> Diagnosis:
    """Say what a failing cell is to be blamed on, and where it begins.

    Args:
        runtime: That the cell is of.
        path: The file under test.
        inputs: Inputs of the cell, by name.
        cell: With the verdict `mismatch`, `shape`, `error` or `unsupported`.
        profile: The error profile that the cell was judged by.
        threads: Threads that one operator may use.
    """
    from anysize.surgery import load_model

    if cell.verdict not in (*_VALUES, *_FAILURES):
        raise UsageError(f"{cell}: {cell.verdict.value} has no first wrong tensor")
    with tempfile.TemporaryDirectory(prefix="anysize-bisect-") as folder:
        try:
            model = load_model(path, weights="in_file")
            search = _Search(runtime, model, path, inputs, profile, threads, Path(folder))
            look = search.for_failure if cell.verdict in _FAILURES else search.for_values
            return look(cell)
        except Exception as exc:  # the evaluator raises whatever an operator's class raises
            text = f"no diagnosis: the graph cannot be followed ({one_line(exc)})"
            return Diagnosis(Culprit.UNKNOWN, text)


@dataclass(frozen=True, slots=True)
class _Search:
    """One failing cell, taken apart."""

    runtime: Runtime
    model: onnx.ModelProto
    path: Path
    inputs: Mapping[str, Array]
    profile: Profile
    threads: int
    folder: Path

    def for_values(self, cell: Cell) -> Diagnosis:
        """Find the first tensor with a wrong value."""
        outputs = tuple(output.name for output in self.model.graph.output)
        if (random := _random_node(self.model)) is not None:
            where = f"node {random.name or random.output[0]!r} ({random.op_type})"
            text = f"the graph is wrong, not the runtime: {where} makes other numbers in each run"
            return Diagnosis(Culprit.GRAPH, text, random.name, random.op_type, random.output[0])
        answer = self._run(self.model)
        if self._first_wrong([Tensor(name, 0, "", "") for name in outputs], answer) is None:
            return _not_the_runtime(cell, answer)
        if self._is_the_graph(cell):
            return Diagnosis(
                Culprit.GRAPH,
                "the graph is wrong, not the runtime: in float64, too, it is far from what the "
                "reference computes; the runtime adds less than that",
            )
        tensors = tensors_of(self.model)
        for batch in batches(tensors):
            got = self._run(shown(self.model, [tensor.name for tensor in batch]))
            wrong = self._first_wrong(batch, got)
            if wrong is not None:
                return _runtime_is_wrong(*wrong)
        return Diagnosis(
            Culprit.OPTIMISATION,
            "runtime wrong: an optimisation of it; every tensor is right where it is asked for, "
            "and the outputs are wrong where it is not",
        )

    def for_failure(self, cell: Cell) -> Diagnosis:
        """Find the first node without which the runtime does not fail."""
        loads = cell.verdict is Verdict.UNSUPPORTED
        if not self._fails(self.model, only_loads=loads):
            return Diagnosis(
                Culprit.STATE,
                "a new session runs this input: the failure depends on what ran before",
            )
        low, high = 0, len(self.model.graph.node)
        while high - low > 1:
            middle = (low + high) // 2
            if self._fails(truncated(self.model, middle), only_loads=loads):
                high = middle
            else:
                low = middle
        node = self.model.graph.node[high - 1]
        name = node.name or f"{node.op_type} number {high - 1}"
        where = f"node {name!r} ({node.op_type})"
        made = [output for output in node.output if output]
        if cell.verdict is Verdict.UNSUPPORTED:
            text = f"the runtime cannot load {where}: without it it loads the graph up to there"
            return Diagnosis(Culprit.RUNTIME, text, name, node.op_type, made[0])
        try:
            self._evaluate(made, is_double=False)
        except RuntimeFailedError as exc:
            text = (
                f"the graph is wrong, not the runtime: the specification's own evaluator fails at "
                f"{where}, too: {one_line(exc)}"
            )
            return Diagnosis(Culprit.GRAPH, text, name, node.op_type, made[0])
        text = f"runtime wrong: without {where} it does not fail, with it it does"
        return Diagnosis(Culprit.RUNTIME, text, name, node.op_type, made[0])

    def _is_the_graph(self, cell: Cell) -> bool:
        """Whether the worst element is off by the graph's meaning more than by the runtime."""
        if cell.worst is None:
            return False
        deviation = cell.worst.deviation
        meant = self._evaluate([cell.worst.name], is_double=True)[cell.worst.name]
        value = float(meant[deviation.index])
        return abs(value - deviation.expected) > abs(value - deviation.got)

    def _first_wrong(
        self, tensors: Sequence[Tensor], got: Mapping[str, Array]
    ) -> tuple[Tensor, Array, Array, Deviation | None] | None:
        """Return the first tensor that is off, with what it is and should be."""
        names = [tensor.name for tensor in tensors]
        float64 = self._evaluate(names, is_double=True)
        float32 = self._evaluate(names, is_double=False)
        for tensor in tensors:
            answer, plain, double = (each[tensor.name] for each in (got, float32, float64))
            if answer.shape != double.shape:
                return tensor, answer, double, None
            if plain.dtype.kind == "f":
                deviation = float_deviation(answer, plain, double, profile=self.profile)
            else:
                deviation = exact_deviation(answer, plain)
            if not deviation.is_within:
                return tensor, answer, double, deviation
        return None

    def _evaluate(self, names: Sequence[str], *, is_double: bool) -> dict[str, Array]:
        if not is_double and self.runtime.name == "onnx-reference":
            # It cannot be the measure of itself.
            from anysize.validators.runtimes import OrtCpu

            answer = self._run(shown(self.model, names), OrtCpu())
            return {name: answer[name] for name in names}
        return evaluate(self.model, self.inputs, names, source=self.path, is_double=is_double)

    def _run(self, model: onnx.ModelProto, runtime: Runtime | None = None) -> Mapping[str, Array]:
        """Run a model on a session of its own."""
        session = self._load(model, runtime or self.runtime)
        try:
            return session.run(self.inputs)
        finally:
            session.close()

    def _load(self, model: onnx.ModelProto, runtime: Runtime) -> Session:
        from anysize.surgery import save_model

        path = self.folder / "model.onnx"
        save_model(model, path, source=self.path)
        return runtime.load(path, threads=self.threads)

    def _fails(self, model: onnx.ModelProto, *, only_loads: bool) -> bool:
        """Whether a model fails to run, or to load; one without an output cannot be asked."""
        if not model.graph.output:
            return False
        with contextlib.suppress(Exception):  # each runtime has exceptions of its own
            if only_loads:
                self._load(model, self.runtime).close()
            else:
                self._run(model)
            return False
        return True


def _random_node(model: onnx.ModelProto) -> onnx.NodeProto | None:
    """Return the first node that draws numbers which an output is computed from."""
    from anysize.surgery.graph import Graph

    graph = Graph.of(model)
    behind = graph.upstream(*(output.name for output in model.graph.output))
    drawing = (graph.node(index) for index in sorted(behind))
    return next((node for node in drawing if node.op_type in _RANDOM), None)


def _not_the_runtime(cell: Cell, answer: Mapping[str, Array]) -> Diagnosis:
    """The runtime means what the graph means; say whether it did so in the cell, too."""
    worst = cell.worst
    is_state = cell.verdict is Verdict.MISMATCH and worst is None  # right on the way up alone
    if worst is not None and worst.name in answer:
        deviation, array = worst.deviation, answer[worst.name]
        value = float(array[deviation.index])
        is_nearer = abs(value - deviation.got) > abs(value - deviation.expected)
        is_state = is_nearer or deviation.is_within
    if is_state:
        return Diagnosis(
            Culprit.STATE,
            "a new session answers this input right: the answer depends on what ran before",
        )
    return Diagnosis(
        Culprit.GRAPH,
        "the graph is wrong, not the runtime: it agrees with the graph in float64, which is not "
        "what the reference computes",
    )


def _runtime_is_wrong(
    tensor: Tensor, answer: Array, expected: Array, deviation: Deviation | None
) -> Diagnosis:
    where = f"node {tensor.node!r} ({tensor.operator}), tensor {tensor.name!r}"
    if deviation is None:
        text = (
            f"runtime wrong: first at {where}: shape {list(answer.shape)}, expected "
            f"{list(expected.shape)}"
        )
    else:
        text = (
            f"runtime wrong: first at {where} {list(expected.shape)}: error {deviation.error:.2e}, "
            f"budget {deviation.budget:.2e}"
        )
    return Diagnosis(
        Culprit.RUNTIME,
        text,
        tensor.node,
        tensor.operator,
        tensor.name,
        tuple(expected.shape),
        deviation.error if deviation else 0.0,
        deviation.budget if deviation else 0.0,
    )
