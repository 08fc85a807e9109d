"""Which head a model is built with, and which one its graph is converted to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anysize.errors import UsageError
from anysize.heads import AS_IS, HEAD_KINDS, Output, check_output, head_kind
from anysize.sources import is_of_zoo

if TYPE_CHECKING:
    from torch import nn

__all__ = ["conversion"]


def conversion(
    source: str | nn.Module, head: str | None, output: Output | None
) -> tuple[str | None, str | None]:
    """Tell the head that a network is built with from the one that it is converted to."""
    head = AS_IS if head == HEAD_KINDS[AS_IS].target else head
    if output is not None:
        _check_output(head, output)
    if isinstance(source, str) and is_of_zoo(source):
        kind = head_kind(head)
        # The network hands out what the head does by itself; anything else is surgery.
        is_kept = output in (None, kind.output)
        return (head, None) if is_kept else (kind.checkpoint, head)
    if head in (None, AS_IS, getattr(source, "head", None)):
        return None, None
    if not head_kind(head).converts_modules:
        to = (name for name, kind in HEAD_KINDS.items() if kind.converts_modules)
        heads = ", ".join((AS_IS, *to))
        raise UsageError(
            f"head {head!r}: expected one of {heads}; {AS_IS} is the network's own, other heads "
            "have weights that only a network of the zoo is built with"
        )
    return None, head


def _check_output(head: str | None, output: Output) -> None:
    """Refuse an output that a head cannot hand out."""
    check_output(output)
    kind = head_kind(head)
    if head is not None and (kind.is_fully_convolutional or output == kind.output):
        return
    if kind.has_map:
        raise UsageError(f"--output {output}: head {head} hands out both, logits first")
    what = f"head {head} has no map" if head else "a model as it stands hands out its own"
    raise UsageError(f"--output {output}: {what}; --head fcn has all of map, logits and both")
