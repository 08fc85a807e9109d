"""A graph's names are the module's own, and nothing in it says nothing."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper, parser
from onnx.reference import ReferenceEvaluator
from torch import nn

from anysize.exporters import ExportSpec, export_module
from anysize.exporters.writing.clean_graph import clean_graph
from anysize.sizes import Size


class Block(nn.Module):
    """A residual block whose activation is used twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.act, self.soft = nn.ReLU(), nn.SiLU()

    def forward(self, x):
        return self.soft(self.act(self.act(self.norm(self.conv(x))) + x))


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), Block())
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        x = torch.nn.functional.max_pool2d(self.features(x), 2)
        return self.fc(x.mean((2, 3)))


@pytest.fixture(scope="module")
def graph():
    torch.manual_seed(1)
    spec = ExportSpec(name="m", head=None, channels=3, classes=5, size=Size(20, 20))
    return export_module(Network().eval(), spec).loaded().graph


def test_nodes_are_called_as_the_layers_are(graph):
    names = [node.name for node in graph.node if not node.name.startswith("anysize_")]
    assert names[:6] == [
        "features.0",
        "features.1.conv",
        "features.1.act",
        "features.1/add",
        "features.1.act_2",
        "features.1.soft/sigmoid",
    ]
    assert names[6] == "features.1.soft/mul"
    assert names[7:9] == ["max_pool2d", "mean"]
    assert names[-1] == "fc"


def test_a_tensor_is_called_as_the_node_that_makes_it(graph):
    outputs = {output.name for output in graph.output}
    for node in graph.node:
        if node.op_type not in ("GlobalAveragePool", "Flatten"):  # a mean is written as two
            assert set(node.output) & outputs or list(node.output) == [node.name]


def test_initializers_are_the_modules_parameters_and_nothing_of_the_tracer(graph):
    parameters = {name for name, _ in Network().named_parameters()}
    weights = {tensor.name for tensor in graph.initializer if len(tensor.dims) > 1}
    assert weights <= parameters
    text = graph.SerializeToString()
    for word in (b"val_", b"node_", b"getitem", b"anysize/", b"convolution"):
        assert word not in text


def test_names_are_unique(graph):
    names = [node.name for node in graph.node]
    tensors = [name for node in graph.node for name in node.output]
    tensors += [value.name for value in (*graph.initializer, *graph.input)]
    assert len(names) == len(set(names))
    assert len(tensors) == len(set(tensors))


def make(body, constants=None, outputs="float[a, b] y"):
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 18]> g (float[a, b] x) => ({outputs}) {{ {body} }}'
    )
    for name, value in (constants or {}).items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    return model


@pytest.mark.parametrize(
    ("body", "constants", "expected"),
    [
        ("a = Identity (x)\n y = Relu (a)", None, ["Relu"]),
        ("a = Relu (x)\n y = Identity (a)", None, ["Relu"]),
        ("y = Identity (x)", None, ["Identity"]),
        ("b = Add (k, k)\n c = Cast <to = 1> (b)\n y = Mul (x, c)", {"k": 2}, ["Mul"]),
        ("a = Tanh (x)\n y = Relu (x)", None, ["Relu"]),
        ("a = Shape (x)\n b = Mul (k, k)\n c = Div (a, b)\n y = Expand (x, c)", {"k": 1},
         ["Shape", "Div", "Expand"]),
    ],
)  # fmt: skip
def test_what_says_nothing_is_removed(body, constants, expected):
    model = make(body, constants)
    x = np.random.default_rng(0).random((3, 4), dtype=np.float32)
    (before,) = ReferenceEvaluator(model).run(None, {"x": x})
    clean_graph(model)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == expected
    (after,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_array_equal(after, before)


def test_equal_constants_are_shared_and_equal_parameters_are_not():
    names = ("a/shape", "b/shape", "c.bias", "d.bias")
    body = "p = Add (x, a/shape)\n q = Add (p, b/shape)\n r = Add (q, c.bias)\n y = Add (r, d.bias)"
    for index, name in enumerate(names):
        body = body.replace(name, f"n{index}")
    model = make(body)
    for index, name in enumerate(names):
        for node in model.graph.node:
            for place, read in enumerate(node.input):
                if read == f"n{index}":
                    node.input[place] = name
        model.graph.initializer.append(numpy_helper.from_array(np.float32(1.5), name))
    clean_graph(model)
    assert [tensor.name for tensor in model.graph.initializer] == ["a/shape", "c.bias", "d.bias"]
