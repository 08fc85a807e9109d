"""The proof behind `anysize rewrite`: a rewrite equals its original.

At the training size the rewritten graph must give what the whole original graph gives. At every
size it must give what the original's own layers give: on the matching window of the original's
feature map for each cell of a class map (fcn, cam), on the pooled feature map (adaptive, gap), on
the resized image (resize). Where axes were freed and no layer changed (dynamic) the original has no
answer at other sizes; it is compared at its own, image by image. All on ONNX Runtime, within the
error budget.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from anysize.errors import DeclinedError, UsageError
from anysize.heads import AS_IS, GAP
from anysize.sizes import Size
from anysize.validators.inputs import (
    Case,
    GraphInputs,
    declared_outputs,
    graph_inputs,
    saturated_outputs,
)
from anysize.validators.judging import (
    PROFILES,
    DeclaredShape,
    Expected,
    Judgement,
    Verdict,
)
from anysize.validators.references import Reference, Rejected
from anysize.validators.report import Cell
from anysize.validators.rewrite_proof import RewriteProof
from anysize.validators.run import (
    FLOAT64,
    IN_FLOAT32,
    IN_FLOAT64,
    CaseExpectation,
    Expectations,
    Progress,
    Spool,
    Steps,
    Work,
    as_cell,
    judge_by_spread,
)

if TYPE_CHECKING:
    import onnx

    from anysize.surgery.graph import Graph, Model
    from anysize.validators.references.graph import GraphPair

__all__ = ["prove_rewrite"]

Array = NDArray[np.generic]

_RUNTIME = "ort-cpu"
# All is one phase: each part of it loads the weights once more, and runs a few times.
_PROOF = "proof"
# How a rewrite names the axes of a map.
_MAP_SIDES = ("map_height", "map_width")
# Images at a time where a label is all that an image gets.
_LABELLED = 8


def prove_rewrite(
    original: Model | Path | GraphPair,
    rewritten: Model | Path | GraphPair,
    sizes: Sequence[Size],
    *,
    training: Size | None = None,
    batch: int = 1,
    trained_batch: int = 2,
    several: int = 2,
    seed: int = 0,
    source: Path | None = None,
    arbiter: str = "float64",
    scores: bool = False,
    keep: Collection[str] = (),
    threads: int = 1,
    progress: Callable[[Progress], None] | None = None,
) -> RewriteProof:
    """Compare a rewrite with its original, by the reference that the rewrite's head asks for.

    The weights are in memory once or twice, never more: all answers of one precision are computed
    before those of the next, and sessions are closed in between.

    Args:
        original: The graph that was rewritten, or its file, or both.
        rewritten: The new graph, or its file, or both. One that says nothing of its head counts as
            fully convolutional; it may hand out its map, the average of the map, or both.
        sizes: Image sizes that the rewritten graph takes.
        training: Where the whole original is compared, too; by default what the original declares.
        batch: Images at a time, and eight at least where they get labels; an original that declares
            batch 1 takes them one by one.
        trained_batch: Images at a time at the training size.
        several: Images at a time at the first of the others.
        seed: What the images are drawn from.
        source: The file that holds the weights of models given as `ModelProto`.
        arbiter: `float64`, or `none` to let the float32 original stand in for it.
        scores: Compare the scores that labels and probabilities are read from, and not these.
        keep: Nodes whose numbers are constants, as the rewrite was told.
        threads: Threads for ONNX Runtime.
        progress: Called before each run.

    Raises:
        DeclinedError: The original has no FC head; the message names the node.
        ModelFileError: A file is unreadable, or ONNX Runtime cannot load a graph.
        SourceError: The original answers differently each time, or not in float64.
        UsageError: There is no size at all.
    """
    from anysize.surgery import read_metadata, trained_size
    from anysize.validators.references.graph import (
        OnnxReference,
        answers_labels,
    )

    old, new = _open(original, rewritten, source, scores=scores, threads=threads)
    if not scores and answers_labels(old.model):
        batch = trained_batch = several = max(batch, trained_batch, several, _LABELLED)
    training = training or trained_size(old.graph)
    if not sizes and training is None:
        raise UsageError("proof of a rewrite: no size to compare at; give --size")
    parts = None
    if read_metadata(new.graph).head != AS_IS:
        parts = _parts(old, new, training, keep)
    is_kept = parts is None  # only axes were freed
    further = [size for size in dict.fromkeys(sizes) if size != training]
    cases = [
        Case(size, batch if place else max(batch, several)) for place, size in enumerate(further)
    ]
    if training is not None and is_kept:  # the original answers at no other size
        cases = [
            Case(training, count) for count in _batches(old.model, max(trained_batch, several))
        ]
    elif training is not None:
        cases.insert(0, Case(training, trained_batch))
    signature = graph_inputs(old.graph, seed)
    has_whole, has_arbiter = training is not None and not is_kept, arbiter == "float64"
    work, first = Work.of(new.graph, training), cases[0]
    amount = (3 + has_whole) * work.loading + sum(map(work.run, cases))
    amount += sum(work.run(case, IN_FLOAT32) for case in (*cases[:has_whole], *cases))
    amount += work.run(first, IN_FLOAT64)
    total = 2 * len(cases) + 1 + has_whole
    step = Steps(progress, total=total, work={_PROOF: amount})

    def tell(text: str, case: Case, runs: float = 1.0) -> None:
        loading = work.loading if case == first else 0.0
        step(f"{text} at {case}", _PROOF, work.run(case, runs) + loading)

    with contextlib.ExitStack() as stack:
        spool, whole_spool = stack.enter_context(Spool()), stack.enter_context(Spool())
        whole = OnnxReference(old)
        stack.callback(whole.close)
        parts = parts or whole
        stack.callback(parts.close)
        at_training = None
        asked_whole = _asked(whole, whole_spool, signature, has_arbiter=False)
        if has_whole:
            tell("original", first, IN_FLOAT32)
            at_training = asked_whole.ask(cases[0])
            whole.close()
        asked = _asked(
            parts, spool, signature, has_arbiter=has_arbiter, is_repeatable=at_training is not None
        )
        expectations = []
        for case in cases:
            tell("the original's layers", case, IN_FLOAT32)
            expectations.append(asked.ask(case))
        parts.close()
        stack.callback(new.close)
        got = {}
        for case in cases:
            tell("rewritten", case)
            got[case] = new.run(tuple(spool.inputs(case).values()), "float32")
        new.close()
        answered = next((n for n, one in enumerate(expectations) if one.is_answered), None)
        if answered is not None:
            tell("original in float64", cases[answered], IN_FLOAT64)
            expectations[answered] = asked.measure(expectations[answered])
        cells = []
        if at_training is not None:
            # Cut or whole means the same in float64; a map that the rewrite adds to its logits is
            # left to the parts.
            expected, answer = _shaped(at_training.read(whole_spool), new.model), got[cases[0]]
            count = len(expected.float32)
            expected = replace(expected, float64=spool.read(cases[0], FLOAT64)[:count] or None)
            answer = answer if isinstance(answer, Rejected) else answer[:count]
            judge = partial(_judge_whole, asked_whole, cases[0], expected)
            cells.append(_cell(at_training, answer, new.graph, judge))
        answers = 0
        for one in expectations:
            judge = partial(asked.judge, replace(one, names=None), profile=PROFILES["strict"])
            cells.append(_cell(one, got[one.case], new.graph, judge))
            answers += _answers(one.read(spool), new.model) if cells[-1].outputs else 0
    return RewriteProof(tuple(cells), answers, is_at_training_only=is_kept)


def _parts(
    original: GraphPair, rewritten: GraphPair, training: Size | None, keep: Collection[str]
) -> Reference | None:
    """Make the reference of the original's own layers; None where pooling was global before.

    Such layers were not changed, so they would be the same numbers on both sides.
    """
    from anysize.surgery import read_metadata
    from anysize.validators.references.graph import converted_graph, has_whole_windows

    try:
        return converted_graph(rewritten.graph, original, size=training, keep=keep)
    except DeclinedError:
        is_gap = read_metadata(rewritten.graph).head == GAP
        if not is_gap or training is None or has_whole_windows(original.graph, training):
            raise
    return None


def _open(
    original: Model | Path | GraphPair,
    rewritten: Model | Path | GraphPair,
    source: Path | None,
    *,
    scores: bool,
    threads: int,
) -> tuple[GraphPair, GraphPair]:
    """Open both, cut at the scores that labels are read from where that is asked for."""
    from anysize.validators.references import output_layout
    from anysize.validators.references.graph import GraphPair, with_scores

    def graph(one: Model | Path | GraphPair, name: str) -> GraphPair:
        if isinstance(one, GraphPair):
            return one
        if isinstance(one, Path):
            return GraphPair.of_file(one, name=name, threads=threads)
        return GraphPair(one, name=name, source=source, threads=threads)

    name = original.name if isinstance(original, Path) else "original"
    old, new = graph(original, name), graph(rewritten, "rewritten")
    if not scores:
        return old, new
    is_map = output_layout(new.model, old.model) == "map"
    return (
        old.changed(with_scores(old.graph, is_map=False)),
        new.changed(with_scores(new.graph, is_map=is_map)),
    )


def _asked(
    reference: Reference,
    spool: Spool,
    signature: GraphInputs,
    *,
    has_arbiter: bool,
    is_repeatable: bool = False,
) -> Expectations:
    """Ask in float64 where it matters alone; labels are compared image by image."""
    return Expectations(
        reference,
        spool,
        signature,
        has_arbiter=has_arbiter,
        arbitrates_all=False,
        is_repeatable=is_repeatable,
        trusts_whole_numbers=True,
    )


def _shaped(expected: Expected, rewritten: onnx.ModelProto) -> Expected:
    """Let an answer for an image stand for a map of one cell where the rewrite has such a map."""
    ranks = (_rank(output) for output in rewritten.graph.output)
    pairs = zip(expected.float32, ranks, strict=False)
    shaped = tuple(a[..., None, None] if rank == a.ndim + 2 else a for a, rank in pairs)
    return replace(expected, float32=shaped)


def _judge_whole(
    asked: Expectations,
    case: Case,
    expected: Expected,
    got: Mapping[str, Array],
    *,
    declared: Mapping[str, DeclaredShape],
    saturated: Collection[str],
) -> Judgement:
    """Judge by the whole original, whose answer in float64 came from its parts."""
    return judge_by_spread(
        got,
        replace(expected, names=None, saturated=saturated),
        partial(asked.spreads, case),
        profile=PROFILES["strict"],
        declared=declared,
    )


def _cell(
    one: CaseExpectation,
    got: tuple[Array, ...] | Rejected,
    rewritten: Graph,
    judge: Callable[..., Judgement],
) -> Cell:
    """Judge what the rewritten graph answers for a case, in the order of its outputs."""
    if one.rejection is not None:
        judgement = Judgement(Verdict.REJECTED, f"original: {one.rejection}")
    elif isinstance(got, Rejected):
        judgement = Judgement(Verdict.ERROR, got.reason)
    else:
        names = [output.name for output in rewritten.model.graph.output]
        judgement = judge(
            dict(zip(names, got, strict=False)),
            declared=declared_outputs(rewritten.model),
            saturated=saturated_outputs(rewritten),
        )
    return as_cell(_RUNTIME, one.case, judgement)


def _answers(expected: Expected, rewritten: onnx.ModelProto) -> int:
    """How many answers the last output holds: cells of a map, or images."""
    shape = expected.float32[-1].shape
    dims = rewritten.graph.output[-1].type.tensor_type.shape.dim
    sides = (side for side, dim in zip(shape, dims, strict=False) if dim.dim_param in _MAP_SIDES)
    return math.prod((shape[0], *sides))


def _rank(output: onnx.ValueInfoProto) -> int | None:
    declared = output.type.tensor_type
    return len(declared.shape.dim) if declared.HasField("shape") else None


def _batches(original: onnx.ModelProto, batch: int) -> tuple[int, ...]:
    """Choose batches that the original answers: its own, or images one by one."""
    from anysize.surgery.graph import image_input

    declared = image_input(original).type.tensor_type.shape.dim[0].dim_value
    return (declared,) if declared > 1 else (1, batch)
