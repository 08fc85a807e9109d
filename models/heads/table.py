"""The one table of heads: name → the function that builds it, imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from anysize.errors import UsageError
from anysize.lazy import load
from anysize.models.heads.head import HeadParts, HeadRequest

__all__ = ["HEAD_PATHS", "attach_head"]

HEAD_PATHS: Mapping[str, str] = MappingProxyType(
    {
        "adaptive": "anysize.models.heads.adaptive:adaptive",
        "cam": "anysize.models.heads.cam:cam",
        "fc": "anysize.models.heads.fc:fc",
        "fcn": "anysize.models.heads.fcn:fcn",
        "gap": "anysize.models.heads.gap:gap",
        "resize": "anysize.models.heads.resize:resize",
        "roi": "anysize.models.heads.roi:roi",
        "spp": "anysize.models.heads.spp:spp",
    }
)


def attach_head(head: str, request: HeadRequest) -> HeadParts:
    """Build the head of that name.

    Raises:
        UsageError: No such head is built here, or its options make no sense.
    """
    path = HEAD_PATHS.get(head)
    if path is None:
        raise UsageError(f"head {head!r}: expected one of {', '.join(HEAD_PATHS)}")
    build: Callable[[HeadRequest], HeadParts] = load(path)
    return build(request)
