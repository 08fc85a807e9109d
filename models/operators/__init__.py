"""Operators that PyTorch lacks, kept whole by torch.export so that an exporter can lower them.

Each is registered as `torch.ops.anysize.NAME`, written in plain PyTorch for the CPU and for CUDA,
and has a gradient with respect to the feature map.
"""

from __future__ import annotations

from anysize.models.operators.paper_max_pool import paper_bins, paper_max_pool
from anysize.models.operators.roi_align import roi_align
from anysize.models.operators.roi_max_pool import roi_max_pool

__all__ = ["paper_bins", "paper_max_pool", "roi_align", "roi_max_pool"]
