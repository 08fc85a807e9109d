"""Write an exported graph into its file, and prove it right there.

What two traces differ in is computed from the image, and may have more than one explanation. Where
the proof shows that the wrong one was taken, the module is traced anew with symbols for the axes,
which leaves none to be guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from anysize.errors import AnysizeError, VerificationError
from anysize.heads import HEAD_KINDS, head_kind
from anysize.preprocessing import Preprocessing
from anysize.sizes import AXES, SizeRange
from anysize.verbs.description import describe, size_text
from anysize.verbs.export_proof import unproved, verified, verify_export
from anysize.verbs.progress import Progress
from anysize.verbs.verification import Verify

if TYPE_CHECKING:
    from anysize.exporters import ExportSpec
    from anysize.models import ResolvedModel
    from anysize.validators import Report

__all__ = ["ExportResult", "write_proved"]

# What a file is verified at; one with numbers computed from the image also at a batch of which
# neither is a multiple.
_BATCHES, _BATCHES_COMPUTED = (1, 2), (1, 2, 3)


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was written.

    Attributes:
        path: The file.
        source: The name of the model.
        head: The head that the file records.
        sizes: The legal sizes.
        outputs: Names of the graph's outputs, in order.
        nodes: Number of nodes.
        size_bytes: Bytes of the file, without weights beside it.
        weights_beside: Names of the files beside it that hold its weights.
        report: The verification; None where it was not asked for. Below the training size it may
            have vacuous cells, which are in `notes`.
        notes: What the user should know about the file.
    """

    path: Path
    source: str
    head: str
    sizes: SizeRange
    outputs: tuple[str, ...]
    nodes: int
    size_bytes: int
    report: Report | None
    notes: tuple[str, ...]
    weights_beside: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return the result in one line."""
        proof = "not verified" if self.report is None else verified(self.report)
        return (
            f"{self.path}: {self.source}, head {self.head}, sizes {self.sizes}, "
            f"{self.nodes} nodes, {size_text(self.size_bytes, self.weights_beside)}; {proof}"
        )


def write_proved(
    model: ResolvedModel,
    spec: ExportSpec,
    out: Path,
    staged: Path,
    *,
    external_data: Literal["auto", "always", "never"],
    verify: Verify,
    preprocessing: Preprocessing,
    class_names: Sequence[str] | None,
    progress: Progress,
) -> ExportResult:
    """Export a module, write it to `staged`, which will be `out`, and compare the two.

    Raises:
        AnysizeError: A subclass says what cannot be exported.
        VerificationError: The file does not compute what the module computes, with symbols either.
    """
    from anysize.exporters import export_module
    from anysize.surgery import save_model

    exported = export_module(model.module, spec)
    known = preprocessing.over(model.preprocessing)
    describe(exported.model, known, class_names)
    beside = save_model(
        exported.model,
        staged,
        source=exported.weights,
        external_data=external_data,
        target=out,
    )
    nodes, size_bytes = len(exported.model.graph.node), staged.stat().st_size
    sizes, kind = exported.sizes, exported.metadata.head or ""
    names = tuple(value.name for value in exported.model.graph.output)
    notes = _notes(model.name, kind, sizes, spec.to, exported.not_converted)
    notes += (*_axes_note(model.name, exported.held), *model.notes)
    if exported.metadata.other_path:
        notes += (f"{model.name}: takes {sizes} alone: {exported.metadata.other_path}",)
    if exported.others:
        more = f"though the module takes more: it {exported.others}"
        notes += (
            f"{model.name}: takes {sizes}, {more}; --max-size and --min-size give other bounds",
        )
    is_computed = exported.is_computed
    del exported  # the weights are on disk now
    report = None
    if verify != "off":
        batches = _BATCHES_COMPUTED if is_computed else _BATCHES
        try:
            report = verify_export(
                staged, model, progress, batches=batches, is_full=verify == "full"
            )
        except VerificationError as error:
            if not is_computed or spec.with_symbols:
                raise
            progress(1, 2, f"tracing {model.name} with symbols for its axes")
            try:
                return write_proved(
                    model,
                    replace(spec, with_symbols=True),
                    out,
                    staged,
                    external_data=external_data,
                    verify=verify,
                    preprocessing=preprocessing,
                    class_names=class_names,
                    progress=progress,
                )
            except AnysizeError:
                raise error from None
        notes += unproved(report, model)
    return ExportResult(
        path=out,
        source=model.name,
        head=kind,
        sizes=sizes,
        outputs=names,
        nodes=nodes,
        size_bytes=size_bytes,
        report=report,
        notes=notes,
        weights_beside=beside,
    )


def _axes_note(name: str, held: Mapping[str, str]) -> tuple[str, ...]:
    """Say which axes are free and what holds the others; nothing where all are free."""
    if not held:
        return ()
    free = [axis for axis in AXES if axis not in held]
    fixed = "; ".join(f"{axis} is fixed at {why}" for axis, why in held.items())
    return (f"{name}: free axes: {', '.join(free)}; {fixed}",)


def _notes(
    name: str, head: str, sizes: SizeRange, to: str | None, not_converted: str
) -> tuple[str, ...]:
    if not_converted:
        return (f"{name}: --head {to}: {not_converted}; exported as it stands",)
    if not head_kind(head).fixes_size:
        return ()
    from anysize.models import ZOO

    others = (
        [one for one in ZOO[name].heads if not HEAD_KINDS[one].fixes_size] if name in ZOO else ()
    )
    way = f"--head {', '.join(others)}" if others else "--head fcn, or anysize rewrite --to fcn"
    only = str(sizes).removesuffix(" only")
    note = f"{name}: an FC head takes only {only}; outside, the file fails on purpose."
    return (f"{note} For any size: {way}",)
