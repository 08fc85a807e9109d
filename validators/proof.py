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
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from anysize.errors import UsageError
from anysize.heads import AS_IS
from anysize.sizes import Size
from anysize.validators.inputs import (
    Case,
    GraphInputs,
    declared_outputs,
    graph_inputs,
    saturated_outputs,
)
from anysize.validators.judging import PROFILES, QUANTISED, Expected, Judgement, Verdict
from anysize.validators.proof_graphs import open_graphs, own_layers
from anysize.validators.references import Reference, Rejected
from anysize.validators.report import Cell
from anysize.validators.rewrite_proof import RewriteProof
from anysize.validators.run import (
    IN_FLOAT32,
    CaseExpectation,
    Expectations,
    Progress,
    Spool,
    Steps,
    Work,
    as_cell,
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
    from anysize.validators.references.graph import OnnxReference, answers_labels

    old, new = open_graphs(original, rewritten, source, scores=scores, threads=threads)
    if not scores and answers_labels(old.model):
        batch = trained_batch = several = max(batch, trained_batch, several, _LABELLED)
    training = training or trained_size(old.graph)
    if not sizes and training is None:
        raise UsageError("proof of a rewrite: no size to compare at; give --size")
    parts = None
    if read_metadata(new.graph).head != AS_IS:
        parts = own_layers(old, new, training, keep)
    is_kept = parts is None  # only axes were freed
    further = [size for size in dict.fromkeys(sizes) if size != training]
    cases = [
        Case(size, batch if place else max(batch, several)) for place, size in enumerate(further)
    ]
    if training is not None and is_kept:  # the original answers at no other size
        cases = _at_its_size(old.model, training, max(trained_batch, several))
    elif training is not None:
        cases.insert(0, Case(training, trained_batch))
    signature = graph_inputs(old.graph, seed)
    has_whole = training is not None and not is_kept
    work, first = Work.of(new.graph, training), cases[0]
    amount = (2 + has_whole) * work.loading + sum(map(work.run, cases))
    amount += sum(work.run(case, IN_FLOAT32) for case in (*cases[:has_whole], *cases))
    step = Steps(progress, total=2 * len(cases) + has_whole, work={_PROOF: amount})

    def tell(text: str, case: Case, runs: float = 1.0) -> None:
        loading = work.loading if case == first else 0.0
        step(f"{text} at {case}", _PROOF, work.run(case, runs) + loading)

    ask = partial(_asked, signature=signature, has_arbiter=arbiter == "float64")
    with contextlib.ExitStack() as stack:
        at_training = None
        standing: Reference = OnnxReference(old)
        if has_whole:
            tell("original", first, IN_FLOAT32)
            # Its parts say how it varies.
            whole = stack.enter_context(ask(_shaped(standing, new.model), several=(first.size,)))
            at_training = whole.ask(first)
            whole.reference.close()
        asked = stack.enter_context(ask(parts or standing, is_repeatable=has_whole))
        expectations = []
        for case in cases:
            tell("the original's layers", case, IN_FLOAT32)
            expectations.append(asked.ask(case))
        asked.reference.close()
        stack.callback(new.close)
        got = {}
        for case in cases:
            tell("rewritten", case)
            got[case] = new.run(tuple(asked.spool.inputs(case).values()), "float32")
        new.close()
        cells = []
        if at_training is not None and expectations[0].is_answered:
            # A map that the rewrite adds to its logits is left to the parts.
            count, answer = len(old.model.graph.output), got[first]
            answer = answer if isinstance(answer, Rejected) else answer[:count]
            varied = replace(at_training, variations=expectations[0].variations[:count])
            cells.append(_cell(varied, answer, new.graph, whole))
        answers = 0
        for one in expectations:
            cells.append(_cell(one, got[one.case], new.graph, asked))
            answers += _answers(one.read(asked.spool), new.model) if cells[-1].outputs else 0
    return RewriteProof(tuple(cells), answers, is_at_training_only=is_kept)


@contextlib.contextmanager
def _asked(
    reference: Reference,
    *,
    signature: GraphInputs,
    has_arbiter: bool,
    several: Collection[Size] = (),
    is_repeatable: bool = False,
) -> Iterator[Expectations]:
    """Ask in float64 where it matters alone; labels are compared image by image."""
    with Spool() as spool:
        try:
            yield Expectations(
                reference,
                spool,
                signature,
                has_arbiter=has_arbiter,
                arbitrates_all=False,
                several=several,
                is_repeatable=is_repeatable,
                trusts_whole_numbers=True,
            )
        finally:
            reference.close()


def _shaped(original: Reference, rewritten: onnx.ModelProto) -> Reference:
    """Let an answer for an image stand for a map of one cell where the rewrite has such a map."""
    from anysize.validators.references.composed import OneCellReference

    return OneCellReference(original, [_rank(output) for output in rewritten.graph.output])


def _cell(
    one: CaseExpectation, got: tuple[Array, ...] | Rejected, rewritten: Graph, asked: Expectations
) -> Cell:
    """Judge what the rewritten graph answers for a case, in the order of its outputs."""
    from anysize.validators.references.graph import is_quantised

    if one.rejection is not None:
        judgement = Judgement(Verdict.REJECTED, f"original: {one.rejection}")
    elif isinstance(got, Rejected):
        judgement = Judgement(Verdict.ERROR, got.reason)
    else:
        names = [output.name for output in rewritten.model.graph.output]
        judgement = asked.judge(
            replace(one, names=None),
            dict(zip(names, got, strict=False)),
            profile=PROFILES[QUANTISED if is_quantised(rewritten.model) else "strict"],
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


def _at_its_size(original: onnx.ModelProto, training: Size, batch: int) -> list[Case]:
    """Choose batches that the original answers: its own, or images one by one."""
    from anysize.surgery.graph import image_input

    declared = image_input(original).type.tensor_type.shape.dim[0].dim_value
    return [Case(training, count) for count in ((declared,) if declared > 1 else (1, batch))]
