"""The proof behind `anysize rewrite --verify`: a rewrite equals its original.

At the training size the rewritten graph must give what the whole original graph gives. At every
size it must give what the original's own layers give: on the matching window of the original's
feature map for each cell of a class map (fcn, cam), on the pooled feature map (adaptive, gap), on
the resized image (resize). Where axes were freed and no layer changed (dynamic) the original has no
answer at other sizes; it is compared at its own, image by image. All on ONNX Runtime, within the
error budget.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from anysize.errors import SourceError, UnsupportedModelError, UsageError
from anysize.sizes import Size
from anysize.validators.inputs import Case, make_images
from anysize.validators.judging import PROFILES, Expected, Judgement, Verdict, exit_code, judge
from anysize.validators.references import Reference, Rejected
from anysize.validators.report import Cell
from anysize.validators.run import variations

if TYPE_CHECKING:
    import onnx

    from anysize.validators.references.graph import GraphPair, OnnxReference

__all__ = ["RewriteProof", "prove_rewrite"]

Array = NDArray[np.generic]

_RUNTIME = "ort-cpu"
_NAME = "image"
# Images at a time where a label is all that an image gets.
_LABELLED = 8


@dataclass(frozen=True, slots=True)
class RewriteProof:
    """What the proof found.

    Attributes:
        cells: One for the whole original at the training size, if there is one, then one for its
            parts at each size.
        answers: How many answers of the rewritten graph equal the original's: cells of its maps, or
            images where it hands out the average alone.
    """

    cells: tuple[Cell, ...]
    answers: int

    @property
    def ok(self) -> bool:
        """Whether every comparison passed and there was at least one."""
        return exit_code(cell.verdict for cell in self.cells) == 0

    @property
    def worst(self) -> Cell | None:
        """The cell that failed worst, or, where none failed, the one closest to its budget."""
        return max(
            self.cells,
            key=lambda c: (not c.is_good, c.worst.deviation.ratio if c.worst else 0.0),
            default=None,
        )

    @property
    def message(self) -> str:
        """One line: the worst cell and what is wrong with it, or what was proved."""
        worst = self.worst
        if worst is None:
            return "nothing was compared"
        if not self.ok:
            return f"{worst.size} batch {worst.batch}: {worst.message or worst.verdict}"
        assert worst.worst is not None
        deviation = worst.worst.deviation
        return (
            f"{self.answers} answers equal the original's; largest error {deviation.error:.2e}, "
            f"budget {deviation.budget:.2e}"
        )


def prove_rewrite(
    original: onnx.ModelProto | Path,
    rewritten: onnx.ModelProto | Path,
    sizes: Sequence[Size],
    *,
    training: Size | None = None,
    batch: int = 1,
    trained_batch: int = 2,
    seed: int = 0,
    source: Path | None = None,
    arbiter: str = "float64",
    scores: bool = False,
    threads: int = 1,
) -> RewriteProof:
    """Compare a rewrite with its original, by the reference that the rewrite's head asks for.

    The weights are in memory once or twice, never more: all answers of one precision are computed
    before those of the next, and sessions are closed in between.

    Args:
        original: The graph that was rewritten, or its file.
        rewritten: The new graph, or its file. One that says nothing of its head counts as fully
            convolutional; it may hand out its map, the average of the map, or both.
        sizes: Image sizes that the rewritten graph takes.
        training: Where the whole original is compared, too; by default what the original declares.
        batch: Images at a time, and eight at least where they get labels; an original that declares
            batch 1 takes them one by one.
        trained_batch: The same at the training size and at the first of the others.
        seed: Of the images.
        source: The file that holds the weights of models given as `ModelProto`.
        arbiter: `float64`, or `none` to let the float32 original stand in for it.
        scores: Compare the scores that labels and probabilities are read from, and not these.
        threads: Threads for ONNX Runtime.

    Raises:
        DeclinedError: The original has no FC head; the message names the node.
        ModelFileError: A file is unreadable, or ONNX Runtime cannot load a graph.
        UsageError: There is no size at all.
    """
    from anysize.surgery import trained_size
    from anysize.validators.references.graph import answers_labels

    opened = _open(original, rewritten, source, scores=scores)
    if not scores and answers_labels(opened.original):
        batch = trained_batch = max(batch, trained_batch, _LABELLED)
    training = training or trained_size(opened.original)
    if not sizes and training is None:
        raise UsageError("proof of a rewrite: no size to compare at; give --size")
    further = [size for size in dict.fromkeys(sizes) if size != training]
    cases = [Case(size, batch if place else trained_batch) for place, size in enumerate(further)]
    if training is not None and opened.is_kept:  # the original answers at no other size
        cases = [Case(training, count) for count in _batches(opened.original, trained_batch)]
    elif training is not None:
        cases.insert(0, Case(training, trained_batch))
    images = _Images(_channels(opened.original), seed, _takes_half(opened.original))
    with contextlib.ExitStack() as stack:
        whole = stack.enter_context(contextlib.closing(opened.whole(threads)))
        parts = whole if opened.is_kept else opened.parts(whole, training, threads)
        stack.callback(parts.close)
        graph = stack.enter_context(contextlib.closing(opened.graph(threads)))
        questions = [_Question(parts, case) for case in cases]
        if training is not None and not opened.is_kept:
            ranks = tuple(_rank(output) for output in opened.rewritten.graph.output)
            questions.insert(0, _Question(whole, cases[0], is_whole=True, ranks=ranks))
        expected = [_ask(question, images) for question in questions]
        parts.close()
        got = {case: graph.run((images.of(case),), "float32") for case in cases}
        graph.close()
        if arbiter == "float64":
            expected = _arbitrated(expected, parts, images)
    names = tuple(output.name for output in opened.rewritten.graph.output)
    cells = tuple(_judge(one, got[one.case], names) for one in expected)
    passed = zip(cells, expected, strict=True)
    answers = sum(one.answers for cell, one in passed if cell.outputs and not one.is_whole)
    return RewriteProof(cells, answers)


@dataclass(frozen=True, slots=True)
class _Opened:
    """The two graphs, their weights in their files where they have any.

    Attributes:
        original: The graph that was rewritten.
        rewritten: The new one.
        name: How messages call the original.
        original_file: The file with the original's weights, where they are not in memory.
        rewritten_file: The same of the new graph.
        loads_from: The new graph's own file, where that is what shall be loaded.
    """

    original: onnx.ModelProto
    rewritten: onnx.ModelProto
    name: str
    original_file: Path | None
    rewritten_file: Path | None
    loads_from: Path | None

    @property
    def is_kept(self) -> bool:
        """Whether no layer was changed, and only axes were freed."""
        return self._head == "as-is"

    @property
    def _head(self) -> str | None:
        from anysize.surgery import read_metadata

        return read_metadata(self.rewritten).head

    def whole(self, threads: int) -> OnnxReference:
        """The original as it is."""
        from anysize.validators.references.graph import OnnxReference, external_folder

        path = self.original_file
        folder = external_folder(self.original, path) if path else None
        return OnnxReference(self.original, name=self.name, folder=folder, threads=threads)

    def parts(self, whole: OnnxReference, size: Size | None, threads: int) -> Reference:
        """The original's features and layers, put together as the new head asks for."""
        from anysize.validators.references import output_layout
        from anysize.validators.references.graph import converted_graph

        return converted_graph(
            self.original,
            whole,
            head=self._head,
            layout=output_layout(self.rewritten, self.original),
            size=size,
            path=self.original_file,
            threads=threads,
        )

    def graph(self, threads: int) -> GraphPair:
        """The new graph."""
        from anysize.validators.references.graph import GraphPair, external_folder

        path = self.rewritten_file
        return GraphPair(
            self.rewritten,
            name="rewritten",
            folder=external_folder(self.rewritten, path) if path else None,
            path=self.loads_from,
            threads=threads,
        )


def _open(
    original: onnx.ModelProto | Path,
    rewritten: onnx.ModelProto | Path,
    source: Path | None,
    *,
    scores: bool,
) -> _Opened:
    """Open both, cut at the scores that labels are read from where that is asked for."""
    from anysize.surgery import load_model
    from anysize.validators.references import output_layout
    from anysize.validators.references.graph import with_scores

    first, second = (
        load_model(one, weights="in_file") if isinstance(one, Path) else one
        for one in (original, rewritten)
    )
    if scores:
        is_map = output_layout(second, first) == "map"
        first, second = with_scores(first, is_map=False), with_scores(second, is_map=is_map)
    return _Opened(
        first,
        second,
        name=original.name if isinstance(original, Path) else "original",
        original_file=original if isinstance(original, Path) else source,
        rewritten_file=rewritten if isinstance(rewritten, Path) else source,
        loads_from=rewritten if isinstance(rewritten, Path) and not scores else None,
    )


@dataclass(frozen=True, slots=True)
class _Images:
    """Seeded images, rounded to what the graph takes, so that both precisions see the same."""

    channels: int
    seed: int
    is_half: bool

    def of(self, case: Case, *, other: bool = False) -> Array:
        seed = self.seed + 1 if other else self.seed
        images = make_images(case.size, case.batch, channels=self.channels, seed=seed)
        return images.astype(np.float16) if self.is_half else images


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked of the original at one size.

    Attributes:
        original: The whole of it, or its parts.
        case: Size and batch.
        is_whole: Only the outputs that the whole original has are looked at: the map that the
            rewrite adds to its logits is left to the parts.
        ranks: Of the outputs of the rewrite, None where one does not say: where it has two axes
            more, what the original answers for an image stands for a map of one cell.
    """

    original: Reference
    case: Case
    is_whole: bool = False
    ranks: tuple[int | None, ...] = ()


@dataclass(frozen=True, slots=True)
class _Expected:
    case: Case
    is_whole: bool
    float32: tuple[Array, ...] | Rejected
    varies: tuple[float, ...]
    float64: tuple[Array, ...] | Rejected | None = None

    @property
    def answers(self) -> int:
        """How many answers the last output holds: cells of a map, or images."""
        if isinstance(self.float32, Rejected):
            return 0
        shape = self.float32[-1].shape
        return int(shape[0] * shape[-2] * shape[-1]) if len(shape) == 4 else int(shape[0])


def _ask(question: _Question, images: _Images) -> _Expected:
    """Let the original answer in float32, and see how its answers vary between images."""
    case, original = question.case, question.original
    answer = original.run({_NAME: images.of(case)}, "float32")
    varies: tuple[float, ...] = ()
    if not isinstance(answer, Rejected):
        if case.batch > 1 and all(len(one) == case.batch for one in answer):
            other: tuple[Array, ...] | Rejected = tuple(np.roll(one, 1, axis=0) for one in answer)
        else:
            other = original.run({_NAME: images.of(case, other=True)}, "float32")
        varies = variations(answer, other, whole=np.inf)
        if question.ranks:
            pairs = zip(answer, question.ranks, strict=False)
            answer = tuple(a[..., None, None] if r == a.ndim + 2 else a for a, r in pairs)
    if question.is_whole:
        original.close()
    return _Expected(case, question.is_whole, answer, varies)


def _arbitrated(
    expected: Sequence[_Expected], parts: Reference, images: _Images
) -> list[_Expected]:
    """Add what the original answers in float64; cut or whole it means the same, so its parts do."""
    asked = [one.case for one in expected if not isinstance(one.float32, Rejected)]
    precise = {
        case: parts.run({_NAME: images.of(case)}, "float64") for case in dict.fromkeys(asked)
    }
    return [replace(one, float64=precise.get(one.case)) for one in expected]


def _judge(expected: _Expected, got: tuple[Array, ...] | Rejected, names: tuple[str, ...]) -> Cell:
    """Judge what the rewritten graph answers at one size."""
    case, float32, float64 = expected.case, expected.float32, expected.float64
    if isinstance(float32, Rejected):
        return _cell(case, Judgement(Verdict.REJECTED, f"original: {float32.reason}"))
    if isinstance(float64, Rejected):
        raise SourceError(
            f"original: runs in float32 but not in float64 ({float64.reason}); skip the proof"
        )
    if isinstance(got, Rejected):
        return _cell(case, Judgement(Verdict.ERROR, got.reason))
    named = dict(zip(names, got, strict=True))
    if expected.is_whole:
        named = dict(list(named.items())[: len(float32)])
        float64 = float64 and float64[: len(float32)]
    reference = Expected(None, float32, float64, expected.varies)
    return _cell(case, judge(named, reference, profile=PROFILES["strict"]))


def _cell(case: Case, judgement: Judgement) -> Cell:
    return Cell(
        _RUNTIME, case.size, case.batch, judgement.verdict, judgement.message, judgement.outputs
    )


def _rank(output: onnx.ValueInfoProto) -> int | None:
    declared = output.type.tensor_type
    return len(declared.shape.dim) if declared.HasField("shape") else None


def _batches(original: onnx.ModelProto, batch: int) -> tuple[int, ...]:
    """Choose batches that the original answers: its own, or images one by one."""
    from anysize.surgery.graph import image_input

    declared = image_input(original).type.tensor_type.shape.dim[0].dim_value
    return (declared,) if declared > 1 else (1, batch)


def _takes_half(model: onnx.ModelProto) -> bool:
    import onnx

    from anysize.surgery.graph import image_input

    kind = image_input(model).type.tensor_type.elem_type
    return int(kind) == onnx.TensorProto.FLOAT16


def _channels(model: onnx.ModelProto) -> int:
    from anysize.surgery.graph import image_input

    value = image_input(model)
    channels = value.type.tensor_type.shape.dim[1].dim_value
    if channels < 1:
        raise UnsupportedModelError(
            f"input {value.name!r}: channels are not declared; expected a number in axis 1"
        )
    return int(channels)
