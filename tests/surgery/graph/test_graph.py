"""What a node has as an attribute in one opset and as an input in the next is read alike."""

import numpy as np
import onnx
import onnx.parser
import pytest

from anysize.surgery.graph import Graph

SPELLINGS = {
    "attribute": ("y = ReduceSum <axes = [1, -1]> (x)", (1, -1)),
    "initializer": ("y = ReduceSum (x, axes)", (1, -1)),
    "Constant behind Identity": (
        "t = Constant <value = int64[2] {1, -1}> () u = Identity (t) y = ReduceSum (x, u)",
        (1, -1),
    ),
    "neither": ("y = ReduceSum (x)", ()),
    "input left out": ("y = ReduceSum (x, )", ()),
    "computed": ("s = Shape (x) y = ReduceSum (x, s)", None),
}


@pytest.mark.parametrize(("text", "expected"), SPELLINGS.values(), ids=SPELLINGS)
def test_integers_are_read_from_attribute_or_input(text, expected):
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 13]> g (float[2, 3] x) => (float y) {{ {text} }}'
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, -1]), "axes"))
    if text.endswith(", )"):
        model.graph.node[-1].input.append("")
    graph = Graph(model)
    assert graph.integers(graph.nodes[-1], "axes", 1) == expected
