"""Rewrite a fixed-size FC graph into a fully convolutional one, and prove it right."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from anysize.errors import VerificationError
from anysize.files import staged_output
from anysize.sizes import Size
from anysize.verbs.progress import Progress, silent

if TYPE_CHECKING:
    from anysize.surgery import Rewrite
    from anysize.validators.windows import WindowProof

__all__ = ["OutputKind", "RewriteResult", "rewrite"]

OutputKind = Literal["map", "logits", "both"]


@dataclass(frozen=True, slots=True)
class RewriteResult:
    """What was written.

    Attributes:
        path: The file.
        applied: Whether anything was rewritten; where not, the file is a copy.
        size: The training size.
        min_size: The smallest legal size of the new graph.
        size_bytes: Of the file, without weights beside it.
        proof: The window proof; None where it was not asked for or nothing was rewritten.
        notes: What the user should know about the file.
    """

    path: Path
    applied: bool
    size: Size
    min_size: Size
    size_bytes: int
    proof: WindowProof | None
    notes: tuple[str, ...]

    def summary(self) -> str:
        """Return the result in one line."""
        if not self.applied:
            return f"{self.path}: nothing to rewrite, copied as it is"
        proof = "not verified" if self.proof is None else f"verified: {self.proof.message}"
        return (
            f"{self.path}: fully convolutional, sizes {self.min_size} and up, "
            f"{self.size_bytes / 2**20:.1f} MiB; {proof}"
        )


def rewrite(
    model: Path | str,
    output: Path | str,
    *,
    to: str = "fcn",
    size: Size | str | None = None,
    output_kind: OutputKind = "map",
    verify: bool = True,
    progress: Progress = silent,
) -> RewriteResult:
    """Turn the FC head of an ONNX file into convolutions; weights are not touched.

    Args:
        model: The file with the FC head, whoever exported it.
        output: The file to write; it appears whole or not at all, and may be `model` itself.
        to: The head to write: `fcn`.
        size: The training size, where the file does not tell.
        output_kind: What the graph puts out: the class `map`, its mean as `logits`, or `both`.
        verify: Prove, before the file appears, that the output at the training size equals the
            original's and that every map cell at two larger sizes equals the original FC layers on
            its window.
        progress: Told how far it is.

    Raises:
        AnysizeError: A subclass says what cannot be used.
        DeclinedError: The head has a form that would have to be guessed; the node is named.
        VerificationError: The proof failed; nothing is written.
    """
    from anysize import surgery

    model, output = Path(model), Path(output)
    size = Size.parse(size) if isinstance(size, str) else size
    with staged_output(output) as staged:
        progress(0, 2, f"rewriting {model}")
        done = surgery.rewrite(surgery.load_model(model), to=to, size=size, output=output_kind)
        surgery.save_model(done.model, staged, source=model)
        size_bytes = staged.stat().st_size
        proof = None
        if verify and done.applied:
            progress(1, 2, "proving every window against the original layers")
            proof = _prove(model, staged, done)
    metadata = surgery.read_metadata(done.model)
    return RewriteResult(
        path=output,
        applied=done.applied,
        size=done.size,
        min_size=metadata.min_size or done.size,
        size_bytes=size_bytes,
        proof=proof,
        notes=() if done.applied else (f"{model}: {done.reason}",),
    )


def _prove(original: Path, rewritten: Path, done: Rewrite) -> WindowProof:
    from anysize.surgery import read_metadata
    from anysize.validators.windows import prove_windows

    stride = read_metadata(done.model).map_stride or (32, 32)
    proof = prove_windows(original, rewritten, _proof_sizes(done.size, stride), training=done.size)
    if not proof.ok:
        raise VerificationError(
            f"{original}: the rewrite is wrong and was not written: {proof.message}"
        )
    return proof


def _proof_sizes(size: Size, stride: tuple[int, int]) -> tuple[Size, Size]:
    """Choose two larger sizes, neither square: one is wider, one higher and off the stride grid."""
    down, across = stride
    return (
        Size(size.height + down, size.width + 2 * across),
        Size(size.height + 2 * down + 1, size.width + across + 1),
    )
