"""Lower the placeholders of a traced graph to standard operators that are right at every size."""

from __future__ import annotations

from anysize.exporters.lowerings.lower import lower_placeholders
from anysize.exporters.lowerings.paper_max import has_paper_bins

__all__ = ["has_paper_bins", "lower_placeholders"]
