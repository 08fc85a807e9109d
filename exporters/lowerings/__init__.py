"""Lower the placeholders of a traced graph to standard operators that are right at every size."""

from __future__ import annotations

from anysize.exporters.lowerings.lower import lower_placeholders

__all__ = ["lower_placeholders"]
