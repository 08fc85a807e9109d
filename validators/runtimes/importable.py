"""Whether the packages of a runtime can be imported, and if not, why."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from anysize.validators.runtimes.protocol import Availability

__all__ = ["importable"]


def importable(
    *modules: str, by: Callable[[str], object] = importlib.import_module
) -> Availability:
    """Import modules; the first that cannot be imported is the reason.

    Args:
        modules: Their names.
        by: What imports one, where that takes some care.
    """
    for module in modules:
        try:
            by(module)
        # A broken wheel raises OSError, a mismatch of protobuf TypeError, others what they like.
        except Exception as exc:
            reason = f"{module} cannot be imported: {exc}"
            return Availability(is_available=False, reason=reason)
    return Availability(is_available=True)
