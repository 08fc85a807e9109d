"""The proof behind `anysize rewrite --verify`: a rewrite equals its original.

At the training size the rewritten graph must give what the whole original graph gives. At every
size it must give what the original's own layers give: on the matching window of the original's
feature map for each cell of a class map (fcn, cam), on the pooled feature map (adaptive, gap), on
the resized image (resize). All on ONNX Runtime, within the error budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from anysize.errors import SourceError, UnsupportedModelError, UsageError
from anysize.sizes import Size
from anysize.validators.budget import PROFILES
from anysize.validators.cases import Case
from anysize.validators.expectation import Arbiter, variations
from anysize.validators.inputs import make_images
from anysize.validators.parity import Expected, Judgement, judge
from anysize.validators.references.protocol import Precision, Rejected
from anysize.validators.report.report import Cell
from anysize.validators.verdicts import Verdict, exit_code

if TYPE_CHECKING:
    import onnx

    from anysize.validators.references.onnx_graph import GraphPair

__all__ = ["RewriteProof", "prove_rewrite"]

Array = NDArray[np.generic]

_RUNTIME = "ort-cpu"
_NAME = "image"


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
    batch: int = 2,
    seed: int = 0,
    source: Path | None = None,
    arbiter: Arbiter = "float64",
    threads: int = 1,
) -> RewriteProof:
    """Compare a rewrite with its original, by the reference that the rewrite's head asks for.

    Args:
        original: The graph that was rewritten, or its file.
        rewritten: The new graph, or its file. One that says nothing of its head counts as fully
            convolutional; it may hand out its map, the average of the map, or both.
        sizes: Image sizes that the rewritten graph takes.
        training: Where the whole original is compared, too; by default what the original declares.
        batch: Images at a time; an original that declares batch 1 takes them one by one.
        seed: Of the images.
        source: The file whose external weights models given as `ModelProto` refer to.
        arbiter: `float64`, or `none` to let the float32 original stand in for it.
        threads: Threads for ONNX Runtime.

    Raises:
        DeclinedError: The original has no FC head; the message names the node.
        ModelFileError: A file is unreadable, or ONNX Runtime cannot load a graph.
        UsageError: There is no size at all.
    """
    from anysize.surgery import read_metadata, trained_size
    from anysize.validators.references.choose import output_layout
    from anysize.validators.references.converted import AVERAGED, converted_reference
    from anysize.validators.references.onnx_fc import OnnxFc
    from anysize.validators.references.onnx_graph import GraphPair, OnnxReference

    first, first_folder, first_path = _open(original, source)
    second, second_folder, second_path = _open(rewritten, source)
    name = first_path.name if first_path else "original"
    training = training or trained_size(first)
    if not sizes and training is None:
        raise UsageError("proof of a rewrite: no size to compare at; give --size")
    head, layout = read_metadata(second).head, output_layout(second)
    whole = OnnxReference(first, name=name, folder=first_folder, path=first_path, threads=threads)
    folder = first_path or source
    parts = converted_reference(
        head,
        halves=lambda: OnnxFc(
            first,
            name=name,
            size=training,
            source=folder,
            is_pooled=head in AVERAGED,
            threads=threads,
        ),
        whole=lambda: whole,
        size=training,
        layout=layout,
    )
    has_windows = parts.kind == "windows" and layout == "map"
    graph = GraphPair(
        second, name="rewritten", folder=second_folder, path=second_path, threads=threads
    )
    subject = _Subject(graph, tuple(o.name for o in second.graph.output), _channels(first), seed)
    cells: list[Cell] = []
    answers = 0

    # One shape is one batch of images here: only those of the first seed are arbitrated.
    arbitrated: dict[tuple[int, ...], tuple[Array, ...] | Rejected] = {}

    def in_parts(images: Array, precision: Precision) -> tuple[Array, ...] | Rejected:
        if precision == "float32":
            return parts.run({_NAME: images}, precision)
        if images.shape not in arbitrated:
            arbitrated[images.shape] = parts.run({_NAME: images}, precision)
        return arbitrated[images.shape]

    def trained(images: Array, precision: Precision) -> tuple[Array, ...] | Rejected:
        if precision == "float64":  # cut or whole, the graph means the same; half the memory
            return in_parts(images, precision)
        answer = whole.run({_NAME: images}, precision)
        if isinstance(answer, Rejected) or not has_windows:
            return answer
        return tuple(one[..., None, None] for one in answer)

    try:
        if training is not None:
            cells.append(
                _compare(subject, Case(training, batch), trained, arbiter, is_whole=True)[0]
            )
        for size in dict.fromkeys((*([training] if training else ()), *sizes)):
            cell, count = _compare(subject, Case(size, batch), in_parts, arbiter)
            cells.append(cell)
            answers += count
    finally:
        parts.close()
        whole.close()
        graph.close()
    return RewriteProof(tuple(cells), answers)


_Answer = Callable[[Array, Precision], tuple[Array, ...] | Rejected]


@dataclass(frozen=True, slots=True)
class _Subject:
    """The rewritten graph, and the images that both get."""

    graph: GraphPair
    outputs: tuple[str, ...]
    channels: int
    seed: int

    def images(self, case: Case, *, other: bool = False) -> Array:
        seed = self.seed + 1 if other else self.seed
        return make_images(case.size, case.batch, channels=self.channels, seed=seed)


def _compare(
    subject: _Subject, case: Case, answer: _Answer, arbiter: Arbiter, *, is_whole: bool = False
) -> tuple[Cell, int]:
    """Judge the rewritten graph at one size, and count the answers that were compared.

    With `is_whole`, only the outputs that the whole original has are looked at: the map that the
    rewrite adds to its logits is left to the parts.
    """
    images = subject.images(case)
    float32 = answer(images, "float32")
    if isinstance(float32, Rejected):
        judgement = Judgement(Verdict.REJECTED, f"original: {float32.reason}")
        return _cell(case, judgement), 0
    float64 = answer(images, "float64") if arbiter == "float64" else None
    if isinstance(float64, Rejected):
        raise SourceError(
            f"original: runs in float32 but not in float64 ({float64.reason}); skip the proof"
        )
    got = subject.graph.run((images,), "float32")
    if isinstance(got, Rejected):
        return _cell(case, Judgement(Verdict.ERROR, got.reason)), 0
    other = answer(subject.images(case, other=True), "float32")
    varies = variations(float32, other)
    expected = Expected(None, float32, float64, varies)
    named = dict(zip(subject.outputs, got, strict=True))
    if is_whole:
        named = dict(list(named.items())[: len(float32)])
        float64 = float64 and float64[: len(float32)]
    judgement = judge(named, expected, profile=PROFILES["strict"])
    shape = float32[-1].shape
    count = shape[0] * shape[-2] * shape[-1] if len(shape) == 4 else shape[0]
    return _cell(case, judgement), count


def _cell(case: Case, judgement: Judgement) -> Cell:
    return Cell(
        _RUNTIME, case.size, case.batch, judgement.verdict, judgement.message, judgement.outputs
    )


def _open(
    model: onnx.ModelProto | Path, source: Path | None
) -> tuple[onnx.ModelProto, Path | None, Path | None]:
    from anysize.surgery import load_model
    from anysize.validators.references.onnx_graph import external_folder

    if isinstance(model, Path):
        loaded = load_model(model)
        return loaded, external_folder(loaded, model), model
    return model, external_folder(model, source) if source else None, None


def _channels(model: onnx.ModelProto) -> int:
    from anysize.surgery.graph import image_input

    value = image_input(model)
    channels = value.type.tensor_type.shape.dim[1].dim_value
    if channels < 1:
        raise UnsupportedModelError(
            f"input {value.name!r}: channels are not declared; expected a number in axis 1"
        )
    return int(channels)
