"""A model and what is known of it: who makes and reads each tensor, and edits of it."""

from __future__ import annotations

from anysize.surgery.graph.axis_moves import as_transpose
from anysize.surgery.graph.edits import Derived, Edits, NameMaker, Trial, unique_name
from anysize.surgery.graph.functions import inlined
from anysize.surgery.graph.graph import Graph, Model
from anysize.surgery.graph.inputs import (
    image_input,
    opset_version,
    required_inputs,
)
from anysize.surgery.graph.layout import (
    ImageLayout,
    image_layout,
    is_turned_image,
    require_sides_together,
    static_size,
)
from anysize.surgery.graph.nodes import attribute, reads, set_attributes, subgraphs
from anysize.surgery.graph.types import element_type, inferred

__all__ = [
    "Derived",
    "Edits",
    "Graph",
    "ImageLayout",
    "Model",
    "NameMaker",
    "Trial",
    "as_transpose",
    "attribute",
    "element_type",
    "image_input",
    "image_layout",
    "inferred",
    "inlined",
    "is_turned_image",
    "opset_version",
    "reads",
    "require_sides_together",
    "required_inputs",
    "set_attributes",
    "static_size",
    "subgraphs",
    "unique_name",
]
