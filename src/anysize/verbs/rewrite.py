"""Rewrite the head of an ONNX file for any image size, and prove it."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from anysize.errors import (
    AnysizeError,
    DeclinedError,
    ModelFileError,
    NotRunError,
    SourceError,
    UnsupportedModelError,
    UsageError,
    VerificationError,
)
from anysize.files import check_output_path
from anysize.heads import AS_IS, HEAD_KINDS, Output, check_output, head_kind
from anysize.preprocessing import Preprocessing
from anysize.sizes import AXES, AnySize, Size, SizeRange
from anysize.verbs.description import describe, size_text
from anysize.verbs.export_proof import verified
from anysize.verbs.progress import Progress, silent, validation_progress
from anysize.verbs.verification import UNPROVED, Verify, to_verify
from anysize.words import and_list, without_validate

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from anysize.surgery import Rewrite
    from anysize.surgery.graph import Graph
    from anysize.validators import Report, RewriteProof

__all__ = ["RewriteResult", "rewrite"]

AUTO = "auto"

_WHAT = {"fcn": "fully convolutional"}
# A file has no module behind it; "verified" is said against one alone.
_COMPARED = "consistent with the file's own layers"
_VERIFIED = "verified against the module"


@dataclass(frozen=True, slots=True)
class RewriteResult:
    """What was written.

    Attributes:
        path: The file.
        head: The head that was asked for, or the one that `auto` found.
        applied: Whether anything was rewritten; where not, the file is a copy.
        size: The training size; None where it is not known and nothing was rewritten.
        sizes: The images that the new graph takes; None as above.
        size_bytes: Bytes of the file, without weights beside it.
        weights_beside: Names of the files beside it that hold its weights.
        proof: The proof; None where it was not asked for or nothing was rewritten.
        report: The comparison with the module, where that was given; there is no other proof then.
        notes: What the user should know about the file.
        was_found: Whether `auto` chose the head.
    """

    path: Path
    head: str
    applied: bool
    size: Size | None
    sizes: SizeRange | None
    size_bytes: int
    proof: RewriteProof | None
    notes: tuple[str, ...]
    was_found: bool = False
    report: Report | None = None
    weights_beside: tuple[str, ...] = ()

    @property
    def min_size(self) -> Size | None:
        """The smallest image that the new graph takes."""
        return self.sizes.minimum if self.sizes is not None else None

    def summary(self) -> str:
        """Return the result in one line."""
        if not self.applied:
            return f"{self.path}: nothing to rewrite, copied as it is"
        proof = "not verified" if self.proof is None else f"{_COMPARED}: {self.proof.message}"
        if self.report is not None:
            proof = f"{_VERIFIED} {self.report.reference.name}: {verified(self.report)}"
        what = _WHAT.get(self.head, f"head {self.head}")
        if self.head == "dynamic":
            fixed = self.sizes.fixed_sides if self.sizes else ()
            what = f"{and_list([axis for axis in AXES if axis not in fixed])} freed"
        what += f" (--to {self.head})" if self.was_found else ""
        return (
            f"{self.path}: {what}, sizes {self.sizes}, "
            f"{size_text(self.size_bytes, self.weights_beside)}; {proof}"
        )


def rewrite(
    model: Path | str,
    out: Path | str,
    *,
    to: str = "auto",
    size: AnySize | None = None,
    output: Output = "map",
    keep: Collection[str] = (),
    reference: str | nn.Module | None = None,
    weights: Path | str | None = None,
    model_args: Mapping[str, object] | None = None,
    verify: Verify | bool = "quick",
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] | None = None,
    progress: Progress = silent,
) -> RewriteResult:
    """Rewrite the head of an ONNX file; weights are not touched.

    Args:
        model: The classifier's file, whoever exported it.
        out: The file to write; it appears whole or not at all, and may be `model` itself.
        to: The head to write: `auto`, the one of `fcn`, `gap` and `dynamic` that changes what is
            fixed and nothing else; `fcn`, convolutions in the place of FC layers; `cam`, the class
            map of a head that pools globally; `gap`, global pooling in the place of windows as
            large as the trained map; `adaptive`, the feature map pooled to the size that the FC
            layers take; `resize`, the image resized to the training size; `dynamic`, no other
            layer, but batch, height and width free.
        size: The training size, where the file does not tell.
        output: What the graph puts out: the class `map`, its mean as `logits`, or `both`;
            `gap`, `adaptive` and `resize` keep the outputs and take only the default.
        keep: Nodes, by their name or that of what they make, whose numbers are constants of the
            network; where one could stem from the training size, the rewrite declines otherwise.
        reference: The module that the file was exported from, or its SOURCE. The new file is
            compared with it as an export is, which also settles what a number means that could
            stem from the training size.
        weights: A checkpoint for a SOURCE.
        model_args: What a SOURCE is called with.
        verify: Prove, before the file appears, that the output at the training size equals the
            original's, and at other sizes what the original's own layers answer: for every window
            of the feature map (fcn, cam), for the pooled map, or for the resized image. What
            `dynamic` answers at other sizes only the original module can tell. `quick` does so at
            two other sizes, close to the training size for a heavy network; `full` at all sizes
            `auto` that the new file takes; `off` not at all.
        preprocessing: How images are prepared for it, recorded in the file; what is not said stays
            as the file has it.
        class_names: Names of the classes, in order, recorded likewise.
        progress: Told how far it is.

    Raises:
        AnysizeError: A subclass says what cannot be used.
        DeclinedError: The head has a form that would have to be guessed; the node is named. Or
            no layer fixes the size, the file declares one, and another target was asked for.
        VerificationError: The proof failed; nothing is written.
    """
    from anysize import surgery
    from anysize.surgery.graph import Graph, require_sides_together

    check_output(output)
    model, out, verify = Path(model), Path(out), to_verify(verify)
    to = HEAD_KINDS[AS_IS].target or to if to == AS_IS else to
    if reference is not None and verify == "off":
        raise UsageError("reference: proves the file; leave out --verify off")
    if reference is None and (weights is not None or model_args):
        what = "weights" if weights is not None else "model args"
        raise UsageError(f"{what}: are for the module; give it with --reference")
    size = None if size is None else Size.of(size)
    # Large weights stay in the file: what is read is light, and read once for rewrite and proof.
    original = Graph(surgery.load_model(model, weights="in_file"))
    _protect_weights(model, out, original.model)
    require_sides_together(original)  # which leaving out the proof would not help
    unprovable = _unprovable(original) if verify != "off" and reference is None else ""
    with surgery.staged_model(out) as staged:
        progress(0, 2, f"rewriting {model}")
        with _told_first(model, unprovable):
            head = surgery.find_target(original, size) if to == AUTO else to
            done = surgery.rewrite(
                original,
                to=head,
                size=size,
                output=output,
                keep=keep,
                declines_numbers=reference is None,
                source=model,
            )
        if not done.applied:
            _refuse_fixed_copy(original, model, done.reason)
        elif unprovable:
            raise UnsupportedModelError(f"{model}: cannot be proved: {unprovable}; {UNPROVED}")
        describe(done.model, preprocessing, class_names)
        beside = surgery.save_model(done.model, staged, source=model, target=out)
        recorded, size_bytes = surgery.read_metadata(original), staged.stat().st_size
        proof, report = None, None
        if reference is not None and done.applied:
            report = _verify(model, staged, reference, weights, model_args, progress, verify)
        elif verify != "off" and done.applied:
            proof = _prove(original, model, staged, done, head, keep, verify, progress)
    return RewriteResult(
        path=out,
        head=head,
        applied=done.applied,
        size=done.size or recorded.size,
        sizes=done.sizes or recorded.sizes,
        size_bytes=size_bytes,
        proof=proof,
        notes=_notes(model, out, done, proof),
        was_found=to == AUTO,
        report=report,
        weights_beside=beside,
    )


def _verify(
    original: Path,
    rewritten: Path,
    reference: str | nn.Module,
    weights: Path | str | None,
    model_args: Mapping[str, object] | None,
    progress: Progress,
    verify: Verify,
) -> Report:
    """Compare a new file with the module that the original was exported from."""
    from anysize.verbs.export_proof import proof_spec
    from anysize.verbs.validate import validate_file

    spec = proof_spec(is_full=verify == "full")
    try:
        report = validate_file(
            rewritten, reference, spec, weights=weights, model_args=model_args, progress=progress
        )
    except AnysizeError as exc:
        raise type(exc)(without_validate(str(exc))) from exc
    bad = [cell for cell in report.cells if not cell.is_good]
    if bad or all(cell.verdict != "pass" for cell in report.cells):
        story = f"{bad[0]}: {without_validate(bad[0].words)}" if bad else "no cell passed"
        more = f" (and {len(bad) - 1} more cells)" if len(bad) > 1 else ""
        raise VerificationError(
            f"{original}: the rewrite is not what {report.reference.name} computes, and was not "
            f"written: {story}{more}"
        )
    return report


def _notes(model: Path, output: Path, done: Rewrite, proof: RewriteProof | None) -> tuple[str, ...]:
    if not done.applied:
        return (f"{model}: {done.reason}",)
    notes = [f"{output}: {note}" for note in done.notes]
    if proof is not None and proof.is_at_training_only:
        notes.append(
            f"{output}: compared at {done.size}; {model} takes no other size to compare with, the "
            f"module it was made of does: anysize validate {output} --reference SOURCE"
        )
    return tuple(notes)


def _refuse_fixed_copy(original: Graph, model: Path, reason: str) -> None:
    """Refuse to copy a file that no layer holds at its size, but what it declares."""
    from anysize.surgery import fixed_axes, trained_size

    fixed = fixed_axes(original)
    if fixed:
        size = "" if trained_size(original) else " --size HEIGHTxWIDTH"
        raise DeclinedError(
            f"{model}: {reason}, but the file declares its {and_list(fixed)}; "
            f"give --to auto{size}, which frees what is declared"
        )


def _protect_weights(model: Path, output: Path, read: onnx.ModelProto) -> None:
    """Refuse an output that would overwrite external weights of the input; in place is fine."""
    from anysize.surgery import model_files

    weights = set(model_files(model, read)) - {model}
    check_output_path(output, inputs=weights)
    is_in_place = output.exists() and output.samefile(model)
    if weights and not is_in_place:
        check_output_path(output.with_name(f"{output.name}.data"), inputs=weights)


def _unprovable(original: Graph) -> str:
    """Say why a graph of this kind cannot be proved; "" where it can."""
    from anysize.validators.inputs import graph_inputs

    try:
        spec = graph_inputs(original, seed=0)
    except UnsupportedModelError as error:
        return str(error)
    if spec.others:
        return f"input {spec.others[0].name!r}: has no place in a class map"
    if spec.dtype not in ("float32", "float16", "uint8"):
        return f"input {spec.image!r}: is {spec.dtype}, expected float32, float16 or uint8"
    return ""


@contextlib.contextmanager
def _told_first(model: Path, reason: str) -> Iterator[None]:
    """Let what is wrong with a file from the start stand before why it is declined as well."""
    try:
        yield
    except UnsupportedModelError as error:
        if not reason:
            raise
        raise UnsupportedModelError(f"{model}: {reason}; and without a proof: {error}") from error


def _prove(
    graph: Graph,
    original: Path,
    rewritten: Path,
    done: Rewrite,
    head: str,
    keep: Collection[str],
    verify: Verify,
    progress: Progress,
) -> RewriteProof:
    from anysize.surgery import multiply_adds
    from anysize.validators import prove_rewrite
    from anysize.validators.inputs import rewrite_plan
    from anysize.validators.references.graph import GraphPair, reads_scores
    from anysize.validators.run import usable_cpus

    assert done.size is not None  # both are known wherever a rewrite was applied
    assert done.sizes is not None
    threads = usable_cpus()
    old = GraphPair.of_file(original, model=graph, threads=threads)
    new = GraphPair.of_file(rewritten, name="rewritten", threads=threads)
    plan = rewrite_plan(
        done.size,
        done.sizes,
        cost=sum(multiply_adds(new.graph, done.size).values()),
        stride=done.geometry.stride if done.geometry else None,
        is_below=head_kind(head).is_proved_below,
        is_full=verify == "full",
    )
    prove = partial(
        prove_rewrite,
        old,
        new,
        plan.sizes,
        training=done.size,
        trained_batch=plan.trained_batch,
        batch=plan.batch,
        keep=keep,
        progress=validation_progress(progress, "proving: "),
    )
    try:
        proof = prove()
        if _is_vacuous(proof) and reads_scores(new.graph):
            # Labels and saturated probabilities agree; what they are read from varies.
            proof = prove(scores=True)
    except (ModelFileError, NotRunError, SourceError) as exc:  # no kernel: double, opset 6
        reason = without_validate(str(exc))
        raise NotRunError(f"{original}: cannot be proved: {reason}; {UNPROVED}") from exc
    refused = next((cell for cell in proof.cells if cell.verdict == "rejected"), None)
    if refused is not None:
        raise NotRunError(
            f"{original}: cannot be proved: at {refused.size} batch {refused.batch} the original's "
            f"own layers do not run: {refused.message}; {UNPROVED}"
        )
    if _is_vacuous(proof):
        raise NotRunError(
            f"{original}: cannot be proved, since its answers hardly depend on the image: "
            f"{without_validate(proof.message)}; {UNPROVED}"
        )
    if not proof.ok:
        raise VerificationError(
            f"{original}: the rewrite is wrong and was not written: {proof.message}"
        )
    return proof


def _is_vacuous(proof: RewriteProof) -> bool:
    """Whether nothing is wrong but that too little was compared."""
    return {cell.verdict for cell in proof.cells if not cell.is_good} == {"vacuous"}
