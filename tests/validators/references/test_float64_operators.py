"""The arbiter's operators mean what ONNX Runtime's do, at every opset that classifiers are in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from anysize.errors import ModelFileError
from anysize.validators.references.graph.evaluator import double_session
from anysize.validators.references.graph.model import GraphPair
from anysize.validators.references.graph.operators import ARBITER_OPERATORS
from anysize.validators.references.protocol import Rejected

EPS32 = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Case:
    """One node on `x`, with its further inputs as initializers and its attributes."""

    operator: str
    opset: int
    inputs: Sequence[np.ndarray | None] = ()
    attributes: dict[str, object] = field(default_factory=dict)
    dims: tuple[int, ...] = (2, 3, 5, 7)
    outputs: int = 1
    kind: type = np.float32
    # Roundings on the way to one element, for the bound.
    terms: int = 16

    def model(self) -> onnx.ModelProto:
        names = [f"c{place}" if one is not None else "" for place, one in enumerate(self.inputs)]
        tensors = [
            numpy_helper.from_array(np.asarray(one), name)
            for one, name in zip(self.inputs, names, strict=True)
            if one is not None
        ]
        made = [f"y{place}" for place in range(self.outputs)]
        node = helper.make_node(self.operator, ["x", *names], made, **self.attributes)
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.kind))
        image = helper.make_tensor_value_info("x", kind, self.dims)
        outputs = [onnx.ValueInfoProto(name=name) for name in made]
        graph = helper.make_graph([node], "one", [image], outputs, tensors)
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=4)

    def image(self) -> np.ndarray:
        random = np.random.default_rng(3)
        if issubclass(self.kind, np.integer):
            return random.integers(0, 100, self.dims).astype(self.kind)
        return random.uniform(-2, 2, self.dims).astype(self.kind)


def normal(*dims: int) -> np.ndarray:
    return np.random.default_rng(5).standard_normal(dims).astype(np.float32)


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


STATISTICS = [normal(3), normal(3), normal(3), np.abs(normal(3)) + 0.5]
WINDOW = {"kernel_shape": [3, 3], "strides": [2, 2]}


def across(name: str, opsets: Sequence[int], *inputs: np.ndarray | None, **more: object) -> list:
    attributes = more.pop("attributes", {})
    return [Case(name, opset, inputs, attributes, **more) for opset in opsets]


ALL = (5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 18, 21)


def since(first: int, until: int = 99) -> tuple[int, ...]:
    return tuple(opset for opset in ALL if first <= opset < until)


def _activations() -> list[Case]:
    cases = []
    for operator, attributes in (
        ("Relu", {}),
        ("Sigmoid", {}),
        ("Tanh", {}),
        ("Elu", {"alpha": 0.7}),
        ("Selu", {"alpha": 1.5, "gamma": 0.9}),
        ("LeakyRelu", {"alpha": 0.3}),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
        ("Softplus", {}),
        ("Softsign", {}),
        ("Abs", {}),
        ("Neg", {}),
        ("Exp", {}),
        ("Identity", {}),
        ("Elu", {}),
        ("Selu", {}),
        ("LeakyRelu", {}),
        ("HardSigmoid", {}),
    ):
        cases += across(operator, since(6), attributes=attributes)
    cases += across("Ceil", since(6)) + across("Floor", since(6))
    cases += across("Erf", since(9)) + across("HardSwish", since(14)) + across("Mish", since(18))
    cases += across("ThresholdedRelu", since(10), attributes={"alpha": 0.4})
    cases += across("Celu", since(12), attributes={"alpha": 0.4})
    cases += across("Gelu", (20, 21)) + across("Gelu", (20,), attributes={"approximate": "tanh"})
    return cases


def _softmaxes() -> list[Case]:
    return [
        case
        for operator in ("Softmax", "LogSoftmax", "Hardmax")
        for attributes in ({}, {"axis": 1}, {"axis": 2}, {"axis": 3}, {"axis": 0})
        for case in across(operator, ALL, attributes=attributes)
    ] + [
        case
        for operator in ("Softmax", "LogSoftmax", "Hardmax")
        for case in across(operator, since(11), attributes={"axis": -1})
        + across(operator, since(11), attributes={"axis": -2})
    ]


def _arithmetic() -> list[Case]:
    cases = []
    for operator in ("Add", "Sub", "Mul", "Div"):
        old = {"broadcast": 1}
        cases += across(operator, (5, 6), normal(2, 3, 5, 7))
        cases += across(operator, (5, 6), normal(7), attributes=old)
        cases += across(operator, (5, 6), normal(1), attributes=old)
        cases += across(operator, (5, 6), normal(3), attributes={**old, "axis": 1})
        cases += across(operator, (5, 6), normal(3, 5), attributes={**old, "axis": 1})
        cases += across(operator, (6,), normal(3), attributes={**old, "axis": -3})
        cases += across(operator, since(7), normal(3, 1, 1))
        cases += across(operator, since(7), normal(7))
    cases += across("Pow", since(7), np.array(2, np.float32))
    cases += across("Pow", (5, 6), np.array([2], np.float32), attributes={"broadcast": 1})
    cases += across("PRelu", (6,), normal(3)) + across("PRelu", (6,), normal(1))
    cases += across("PRelu", since(7), normal(3, 1, 1)) + across("PRelu", since(7), normal(1))
    for operator in ("Sum", "Max", "Min", "Mean"):
        cases += across(operator, since(6), normal(2, 3, 5, 7))
        cases += across(operator, since(8), normal(3, 1, 1))
    cases += across("Clip", (6, 7, 9, 10), attributes={"min": -0.5, "max": 1.0})
    cases += across("Clip", (6, 9), attributes={"min": 0.0}) + across("Clip", (6, 10))
    bounds = [np.array(-0.5, np.float32), np.array(1, np.float32)]
    cases += across("Clip", since(11), *bounds) + across("Clip", since(11), None, bounds[1])
    cases += across("Clip", since(11), bounds[0])
    return cases


def _gemms() -> list[Case]:
    cases = []
    flat = {"dims": (4, 6)}
    for bias in (normal(4, 5), normal(5), normal(1), normal(1, 5), normal(4, 1)):
        cases += across("Gemm", since(7), normal(6, 5), bias, **flat)
    cases += across("Gemm", (5, 6), normal(6, 5), normal(4, 5), **flat)
    for bias in (normal(5), normal(1), normal(1, 5)):
        cases += across("Gemm", (5, 6), normal(6, 5), bias, attributes={"broadcast": 1}, **flat)
    scaled = {"alpha": 0.5, "beta": 2.0, "transB": 1}
    cases += across("Gemm", since(7), normal(5, 6), normal(5), attributes=scaled, **flat)
    old = {**scaled, "broadcast": 1}
    cases += across("Gemm", (5, 6), normal(5, 6), normal(5), attributes=old, **flat)
    cases += across("Gemm", since(11), normal(6, 5), **flat)
    turned = {"transA": 1}
    cases += across("Gemm", since(7), normal(4, 5), normal(5), attributes=turned, **flat)
    cases += across("MatMul", ALL, normal(6, 5), **flat) + across("MatMul", ALL, normal(7, 4))
    return cases


def _normalisations() -> list[Case]:
    cases = []
    for attributes in ({}, {"epsilon": 0.01}, {"epsilon": 0.01, "momentum": 0.8}):
        cases += across("BatchNormalization", since(7), *STATISTICS, attributes=attributes)
    cases += across("BatchNormalization", since(7), *STATISTICS, dims=(4, 3))
    testing = {"is_test": 1, "epsilon": 0.01}
    cases += across("BatchNormalization", (5, 6), *STATISTICS, attributes=testing)
    cases += across("BatchNormalization", (7, 8), *STATISTICS, attributes={"spatial": 1})
    apart = [normal(3, 5, 7), normal(3, 5, 7), normal(3, 5, 7), np.abs(normal(3, 5, 7)) + 0.5]
    cases += across("BatchNormalization", (7, 8), *apart, attributes={"spatial": 0})
    cases += across("InstanceNormalization", since(6), normal(3), normal(3), terms=64)
    for size in (3, 5):  # ONNX Runtime has no even ones
        cases += across("LRN", ALL, attributes={"size": size, "alpha": 0.5, "beta": 0.75})
    cases += across("LRN", ALL, attributes={"size": 5, "alpha": 2e-4, "bias": 2.0})
    cases += across("LRN", ALL, attributes={"size": 3}, dims=(1, 9, 4, 4))
    for axis in (0, 1, 2, 3, -1):
        for p in (1, 2):
            cases += across("LpNormalization", ALL, attributes={"axis": axis, "p": p}, terms=64)
    cases += across("MeanVarianceNormalization", since(9), terms=128)
    weight = [normal(7), normal(7)]
    cases += across("LayerNormalization", since(17), *weight, terms=64)
    cases += across("LayerNormalization", since(17), normal(5, 7), attributes={"axis": 2}, terms=96)
    return cases


def _poolings() -> list[Case]:
    cases = across("GlobalAveragePool", ALL, terms=64) + across("GlobalMaxPool", ALL)
    cases += across("GlobalLpPool", ALL, attributes={"p": 2}, terms=64)
    cases += across("LpPool", ALL, attributes={**WINDOW, "p": 2}, terms=64)
    cases += across("LpPool", ALL, attributes={**WINDOW, "p": 1, "pads": [1, 1, 1, 1]}, terms=64)
    padded = {**WINDOW, "pads": [1, 0, 1, 1]}
    for operator in ("AveragePool", "MaxPool"):
        cases += across(operator, ALL, attributes=WINDOW)
        cases += across(operator, ALL, attributes=padded)
        cases += across(operator, ALL, attributes={"kernel_shape": [2, 3]})
        cases += across(operator, ALL, attributes={**WINDOW, "auto_pad": "SAME_UPPER"})
        cases += across(operator, ALL, attributes={**WINDOW, "auto_pad": "SAME_LOWER"})
        cases += across(operator, ALL, attributes={**WINDOW, "auto_pad": "VALID"})
        ceil = {**WINDOW, "ceil_mode": 1}
        for dims in ((2, 3, 6, 8), (2, 3, 5, 7), (1, 1, 9, 4)):
            cases += across(operator, since(10), attributes=ceil, dims=dims)
            cases += across(operator, since(10), attributes={**ceil, "pads": [1] * 4}, dims=dims)
    for extra in ({}, {"pads": [1, 0, 1, 1]}, {"pads": [1] * 4, "ceil_mode": 1}):
        included = {**WINDOW, **extra, "count_include_pad": 1}
        opsets = since(10) if "ceil_mode" in extra else since(7)
        for dims in ((2, 3, 6, 8), (2, 3, 5, 7)):
            cases += across("AveragePool", opsets, attributes=included, dims=dims)
    cases += across("MaxPool", since(10), attributes={**WINDOW, "dilations": [2, 1]})
    cases += across("AveragePool", since(19), attributes={**WINDOW, "dilations": [2, 1]})
    return cases


def _convolutions() -> list[Case]:
    cases = across("Conv", ALL, normal(4, 3, 3, 3), normal(4), terms=64)
    for attributes in (
        {"strides": [2, 1], "pads": [1, 0, 2, 1]},
        {"dilations": [2, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"auto_pad": "VALID"},
    ):
        cases += across("Conv", ALL, normal(4, 3, 3, 3), attributes=attributes, terms=64)
    group = {"group": 3}
    cases += across("Conv", ALL, normal(6, 1, 3, 3), normal(6), attributes=group, terms=64)
    turned = {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}
    cases += across("ConvTranspose", ALL, normal(3, 4, 3, 3), normal(4), terms=64)
    cases += across("ConvTranspose", ALL, normal(3, 4, 3, 3), attributes=turned, terms=64)
    return cases


def _shapes() -> list[Case]:
    pads = [0, 0, 1, 2, 0, 0, 0, 1]
    cases = []
    for mode in ("constant", "reflect", "edge"):
        cases += across("Pad", since(5, 11), attributes={"pads": pads, "mode": mode, "value": 0.5})
        value = [np.array(0.5, np.float32)] if mode == "constant" else []
        cases += across("Pad", since(11), ints(*pads), *value, attributes={"mode": mode})
    cases += across("Pad", (5, 10), attributes={"pads": [0, 0, -1, 2, 0, 0, 0, -2]})
    cases += across("Pad", (11, 17), ints(0, 0, -1, 2, 0, 0, 0, -2))
    sliced = {"starts": [1, -5], "ends": [100, -1], "axes": [2, 3]}
    cases += across("Slice", since(5, 10), attributes=sliced)
    cases += across("Slice", (5, 9), attributes={"starts": [0, 1], "ends": [1, 3]})
    cases += across("Slice", since(10), ints(1, -5), ints(100, -1), ints(2, 3), ints(2, 1))
    cases += across("Slice", since(10), ints(-1), ints(-100), ints(3), ints(-2))
    thin = (2, 1, 5, 1)
    cases += across("Squeeze", since(5, 13), attributes={"axes": [1, 3]}, dims=thin)
    cases += across("Squeeze", ALL, dims=thin)
    cases += across("Squeeze", since(13), ints(1, -1), dims=thin)
    cases += across("Unsqueeze", since(5, 13), attributes={"axes": [0, 2]})
    cases += across("Unsqueeze", since(13), ints(0, -1))
    cases += across("Flatten", ALL) + across("Flatten", ALL, attributes={"axis": 2})
    cases += across("Flatten", ALL, attributes={"axis": 0})
    cases += across("Flatten", since(11), attributes={"axis": -1})
    cases += across("Reshape", ALL, ints(0, -1)) + across("Reshape", ALL, ints(2, 3, 35))
    cases += across("Transpose", ALL) + across("Transpose", ALL, attributes={"perm": [0, 2, 3, 1]})
    cases += across("Concat", ALL, normal(2, 1, 5, 7), attributes={"axis": 1})
    cases += across("Split", since(5, 13), attributes={"axis": 1, "split": [1, 2]}, outputs=2)
    cases += across("Split", since(13), ints(1, 2), attributes={"axis": 1}, outputs=2)
    cases += across("Gather", ALL, ints(2, 0), attributes={"axis": 1})
    cases += across("Expand", since(8), ints(2, 3, 5, 7), dims=(1, 3, 1, 7))
    cases += across("Tile", since(6), ints(1, 2, 1, 3))
    cases += across("SpaceToDepth", ALL, attributes={"blocksize": 2}, dims=(1, 3, 4, 6))
    cases += across("DepthToSpace", ALL, attributes={"blocksize": 2}, dims=(1, 8, 2, 3))
    column = {"blocksize": 2, "mode": "CRD"}
    cases += across("DepthToSpace", since(11), attributes=column, dims=(1, 8, 2, 3))
    return cases


def _reductions() -> list[Case]:
    cases = []
    for operator in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceL1"):
        first = 13 if operator == "ReduceSum" else 18
        for attributes in (
            {"axes": [2, 3]},
            {"axes": [2, 3], "keepdims": 0},
            {"axes": [1], "keepdims": 1},
            {},
        ):
            cases += across(operator, since(5, first), attributes=attributes, terms=256)
        cases += across(operator, since(11, first), attributes={"axes": [-1, -2]}, terms=64)
        cases += across(operator, since(first), ints(2, 3), terms=64)
        cases += across(operator, since(first), ints(-1, -2), attributes={"keepdims": 0}, terms=64)
        cases += across(operator, since(first), terms=256)
    return cases


def _resizes() -> list[Case]:
    cases = []
    scales = np.array([1, 1, 2, 3], np.float32)
    for mode in ("nearest", "linear"):
        as_list = {"mode": mode, "scales": [1.0, 1.0, 2.0, 3.0]}
        cases += across("Upsample", (7, 8), attributes=as_list)
        cases += across("Upsample", (9,), scales, attributes={"mode": mode})
        cases += across("Resize", (10,), scales, attributes={"mode": mode})
        for kind in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"):
            attributes = {"mode": mode, "coordinate_transformation_mode": kind}
            opsets = since(11)
            cases += across(
                "Resize", opsets, np.zeros(0, np.float32), scales, attributes=attributes
            )
            if mode == "linear":
                broken = np.array([1.0, 1.0, 1.75, 2.25], np.float32)  # 8.75 and 15.75 cells
                inputs = (np.zeros(0, np.float32), broken)
                cases += across("Resize", opsets, *inputs, attributes=attributes, terms=64)
            sizes = ints(2, 3, 9, 4)
            cases += across("Resize", since(13), None, None, sizes, attributes=attributes)
    return cases


def _dropouts() -> list[Case]:
    cases = across("Dropout", since(7, 12), attributes={"ratio": 0.5}) + across("Dropout", since(7))
    cases += across("Dropout", (6,), attributes={"ratio": 0.5, "is_test": 1})
    ratio, training = np.array(0.5, np.float32), np.array(False)
    return cases + across("Dropout", since(12), ratio, training)


def _quantising() -> list[Case]:
    one, zero = np.array(0.25, np.float32), np.array(3, np.uint8)
    each, zeros = np.array([0.25, 0.5, 2], np.float32), np.array([3, 0, 9], np.uint8)
    signed = np.array([3, 0, -9], np.int8)
    cases = []
    for scale, point in ((one, zero), (one, None), (one, np.array(-7, np.int8))):
        cases += across("QuantizeLinear", since(10), scale, point)
    for kind, point in ((np.uint8, zero), (np.uint8, None), (np.int8, np.array(-7, np.int8))):
        cases += across("DequantizeLinear", since(10), one, point, kind=kind)
    cases += across("DequantizeLinear", since(10), one, kind=np.int32)
    for attributes in ({}, {"axis": 1}, {"axis": -3}):
        for points in (zeros, signed, None):
            options = {"attributes": attributes}
            cases += across("QuantizeLinear", since(13), each, points, **options)
            kind = np.uint8 if points is None else points.dtype.type
            cases += across("DequantizeLinear", since(13), each, points, kind=kind, **options)
    blocks = np.abs(normal(2, 3, 3, 7)) + 0.5
    blocked = {"axis": 2, "block_size": 2}
    return cases + across("DequantizeLinear", (21,), blocks, kind=np.uint8, attributes=blocked)


TABLE = [
    *_activations(),
    *_softmaxes(),
    *_arithmetic(),
    *_gemms(),
    *_normalisations(),
    *_poolings(),
    *_convolutions(),
    *_shapes(),
    *_reductions(),
    *_resizes(),
    *_dropouts(),
    *_quantising(),
]

# What ONNX Runtime has no kernel for, and below which opset: there is nothing to hold against.
WITHOUT_KERNEL = {
    "Add": 7, "AveragePool": 7, "BatchNormalization": 7, "Div": 7, "Dropout": 7, "Gemm": 7,
    "Mul": 7, "PRelu": 7, "Pow": 7, "Sub": 7,
}  # fmt: skip
# What the arbiter cannot evaluate: it says so, and nothing is proved.
REFUSED = {
    "GlobalLpPool": lambda _case: True,
    "MeanVarianceNormalization": lambda _case: True,
    "Pad": lambda case: -1 in np.ravel(case.attributes.get("pads", case.inputs[:1])),
    "Resize": lambda case: case.opset == 10,
    "Upsample": lambda case: case.opset < 9 or case.attributes["mode"] == "linear",
}


def complaint(case: Case) -> str:
    """Run a case in both precisions; say what is wrong, "" where they agree."""
    model = case.model()
    pair = GraphPair(model, name="one")
    try:
        float32 = pair.run((case.image(),), "float32")
    except ModelFileError:
        is_listed = case.opset < WITHOUT_KERNEL.get(case.operator, 0)
        return "" if is_listed else "ONNX Runtime has no kernel"
    try:
        float64 = evaluated(model, case.image())
    except Exception as exc:  # the evaluator raises whatever an operator's class raises
        float64 = Rejected(str(exc))
    assert not isinstance(float32, Rejected), float32
    is_refused = case.operator in REFUSED and REFUSED[case.operator](case)
    if isinstance(float64, Rejected):
        return "" if is_refused else f"refused: {float64.reason}"
    if is_refused:
        return "evaluated, and listed as refused"
    return "".join(map(difference, float32, float64, [case.terms] * len(float32)))


def evaluated(model: onnx.ModelProto, image: np.ndarray) -> tuple[np.ndarray, ...]:
    """Run a graph as the arbiter's worker does, in this process."""
    double = image.astype(np.float64) if np.issubdtype(image.dtype, np.floating) else image
    return tuple(double_session(model).run({"x": double}).values())


def difference(float32: np.ndarray, float64: np.ndarray, terms: int) -> str:
    if float32.shape != float64.shape:
        return f"shape {float64.shape}, expected {float32.shape}"
    if float32.dtype != np.float32:
        return "" if np.array_equal(float32, float64) else "whole numbers differ"
    if float64.dtype != np.float64:
        return f"computed in {float64.dtype}"
    error = np.abs(float32 - float64).max() / np.abs(float64).max()
    return "" if error <= terms * EPS32 else f"off by {error:.1e}"


def case_name(case: Case) -> str:
    shapes = [None if one is None else np.shape(one) for one in case.inputs]
    return f"opset {case.opset} {case.attributes} {shapes} on {case.dims}"


@pytest.mark.parametrize("operator", sorted({case.operator for case in TABLE}))
def test_an_operator_means_the_same_to_the_arbiter_and_to_onnx_runtime(operator):
    cases = [case for case in TABLE if case.operator == operator]
    found = {case_name(case): complaint(case) for case in cases}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize(
    "operator",
    [o.__name__ for o in ARBITER_OPERATORS if o.__name__ != "Conv"],  # that one is for speed
)
def test_the_evaluator_alone_would_not_do(operator, monkeypatch):
    monkeypatch.setattr("anysize.validators.references.graph.operators.ARBITER_OPERATORS", ())
    assert any(complaint(case) for case in TABLE if case.operator == operator)


def test_an_operator_that_is_slightly_off_is_seen():
    right = np.ones((2, 3), np.float32)
    assert difference(right, right.astype(np.float64) + 1e-5, 16) == "off by 1.0e-05"
    assert "expected (2, 3)" in difference(right, np.ones((3, 2)), 16)
    assert difference(right, right, 16) == "computed in float32"
    assert difference(np.arange(3), np.arange(3)[::-1], 16) == "whole numbers differ"
