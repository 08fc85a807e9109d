"""References that are ONNX files, run as they stand and in float64."""

from __future__ import annotations

from anysize.validators.references.graph.converted import converted_graph
from anysize.validators.references.graph.evaluator import DOUBLE, OWN
from anysize.validators.references.graph.global_windows import freed_original, has_whole_windows
from anysize.validators.references.graph.insides import (
    Tensor,
    declared,
    may_be_float,
    shown,
    tensors_of,
)
from anysize.validators.references.graph.labels import answers_labels, reads_scores, with_scores
from anysize.validators.references.graph.literal_ort import MappedOrt
from anysize.validators.references.graph.model import GraphPair, OnnxReference
from anysize.validators.references.graph.plan import GraphPlan
from anysize.validators.references.graph.quantised import dithered, image_range, is_quantised

__all__ = [
    "DOUBLE",
    "OWN",
    "GraphPair",
    "GraphPlan",
    "MappedOrt",
    "OnnxReference",
    "Tensor",
    "answers_labels",
    "converted_graph",
    "declared",
    "dithered",
    "freed_original",
    "has_whole_windows",
    "image_range",
    "is_quantised",
    "may_be_float",
    "reads_scores",
    "shown",
    "tensors_of",
    "with_scores",
]
