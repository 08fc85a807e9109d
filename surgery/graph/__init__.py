"""A model's graph: who makes and reads each tensor, and what the model declares."""

from __future__ import annotations

from anysize.surgery.graph.inputs import (
    channels_last_reader,
    channels_last_words,
    image_input,
    opset_version,
    required_inputs,
    static_size,
)
from anysize.surgery.graph.nodes import attribute, reads, subgraphs
from anysize.surgery.graph.view import GraphView

__all__ = [
    "GraphView",
    "attribute",
    "channels_last_reader",
    "channels_last_words",
    "image_input",
    "opset_version",
    "reads",
    "required_inputs",
    "static_size",
    "subgraphs",
]
