"""A file has exactly the opset that was asked for, with the same weights and the same answers."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator
from torch import nn

from anysize.errors import ExportError, UsageError
from anysize.exporters import ExportSpec, export_module
from anysize.exporters.writing.opset import convert_opset
from anysize.exporters.writing.opset_downgrade import DOWNGRADES
from anysize.models import resolve
from anysize.sizes import Size

ort.set_default_logger_severity(4)
OPSETS = range(13, 25)
HEADS = [
    *(("digits", head) for head in ("fc", "fcn", "gap", "cam", "spp", "adaptive", "resize")),
    *(("lenet", head) for head in ("fcn", "adaptive")),
]
EPS32 = float(np.finfo(np.float32).eps)
# The oldest IR version that an opset may be declared with, from ONNX's table of releases.
IR_VERSIONS = dict(zip(OPSETS, [7, 7, 8, 8, 8, 8, 9, 9, 10, 10, 11, 12], strict=True))


def exported(source, head=None, *, opset=18):
    model = resolve(source, head=head)
    spec = ExportSpec(
        name=model.name,
        head=model.head,
        channels=model.channels,
        classes=model.classes,
        size=model.training_size,
        output_names=model.module.output_names,
        opset=opset,
    )
    return model.module, export_module(model.module, spec).loaded()


@pytest.fixture(scope="module", params=HEADS, ids=lambda pair: "-".join(pair))
def traced(request):
    """The graph as it was traced, and what the module answers."""
    source, head = request.param
    module, model = exported(source, head)
    side = module.training_size.height
    shape = (2, module.channels, side + 1, side + 2)
    images = np.random.default_rng(7).random(shape, dtype=np.float32)
    with torch.inference_mode():
        single = module(torch.from_numpy(images))
        double = copy.deepcopy(module).double()(torch.from_numpy(images).double())
    pairs = [
        (y.double().numpy(), truth.numpy())
        for y, truth in zip(
            *(t if isinstance(t, tuple) else (t,) for t in (single, double)), strict=True
        )
    ]
    return model, images, pairs


def at_opset(traced, opset):
    """Convert the graph as the exporter does: as its last pass."""
    model = onnx.ModelProto()
    model.CopyFrom(traced)
    convert_opset(model, opset)
    return model


def check_answers(model, images, pairs, *, evaluator):
    if evaluator == "reference evaluator":
        answers = ReferenceEvaluator(model).run(None, {"input": images})
    else:
        data = model.SerializeToString()
        session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
        answers = session.run(None, {"input": images})
    for got, (single, truth) in zip(answers, pairs, strict=True):
        scale = np.abs(truth).max()
        own_error = np.abs(single - truth).max() / scale
        assert got.shape == truth.shape
        assert np.abs(got - truth).max() / scale <= 8 * max(own_error, 4 * EPS32)


@pytest.mark.parametrize("opset", OPSETS)
def test_every_head_is_valid_and_right_at_every_opset(traced, opset):
    graph, images, pairs = traced
    model = at_opset(graph, opset)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    assert model.ir_version == IR_VERSIONS[opset]
    check_answers(model, images, pairs, evaluator="onnxruntime")


@pytest.mark.parametrize("opset", [13, 17, 24])
def test_the_reference_evaluator_agrees(traced, opset):
    graph, images, pairs = traced
    check_answers(at_opset(graph, opset), images, pairs, evaluator="reference evaluator")


def test_weights_are_the_same_bytes_at_every_opset(traced):
    graph, _, _ = traced

    def weights(model):
        parameters = (t for t in model.graph.initializer if len(t.dims) > 1)
        return {t.name: (tuple(t.dims), numpy_helper.to_array(t).tobytes()) for t in parameters}

    expected = weights(graph)
    for opset in OPSETS:
        assert weights(at_opset(graph, opset)) == expected


@pytest.mark.parametrize("opset", [13, 18, 24])
def test_an_export_has_the_opset_that_was_asked_for(opset):
    _, model = exported("digits", "spp", opset=opset)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    read = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= read


@pytest.mark.parametrize("opset", [12, 25])
def test_an_opset_out_of_range_is_refused(opset):
    with pytest.raises(UsageError, match=f"opset {opset}: expected 13 to 24"):
        exported("lenet", opset=opset)


def make(body, *, opset=18, image="float[batch, 4, h, w] x", constants=None):
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g ({image}) => (y) {{ {body} }}'
    model = parser.parse_model(text)
    for name, value in (constants or {}).items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    return model


AXES = {"axes": np.array([2, 3])}
NORM = {"s": np.linspace(0.5, 2, 6, dtype=np.float32), "b": np.arange(6, dtype=np.float32)}
NORM4 = {
    "s": np.linspace(0.5, 2, 4, dtype=np.float32),
    "b": np.arange(4, dtype=np.float32),
    "v": np.full(4, 0.7, np.float32),
}
CASES = {
    "reduction": ("y = ReduceL2 <keepdims = 0> (x, axes)", AXES, 13),
    "reduction of all": ("y = ReduceMin (x)", None, 13),
    "split": ("a, y = Split <axis = 1, num_outputs = 2> (x)", None, 13),
    "split by sizes": ("a, y = Split <axis = 1> (x, n)", {"n": np.array([1, 3])}, 13),
    "shape": ("n = Shape <start = -3, end = -1> (x)\n y = Cast <to = 1> (n)", None, 14),
    "shape from": ("n = Shape <start = 1> (x)\n y = Cast <to = 1> (n)", None, 13),
    "resize": (
        'y = Resize <mode = "linear", antialias = 0> (x, , f)',
        {"f": np.array([1, 1, 2, 1.5], np.float32)},
        13,
    ),
    "pad": ("y = Pad (x, p)", {"p": np.array([0, 0, 1, 2, 0, 0, 3, 0])}, 13),
    "pad of axes": (
        "y = Pad (x, p, , axes)",
        {"p": np.array([1, 2, 3, 0]), "axes": np.array([-1, 2])},
        13,
    ),
    "reshape": ("y = Reshape <allowzero = 1> (x, n)", {"n": np.array([-1, 6])}, 13),
    "layer normalisation": ("y = LayerNormalization <epsilon = 0.25> (x, s, b)", NORM, 13),
    "layer normalisation by scale": ("y = LayerNormalization <axis = 3> (x, s)", NORM, 16),
    "hard swish": ("y = HardSwish (x)", None, 13),
    "mish": ("y = Mish (x)", None, 17),
    "batch normalisation": ("y = BatchNormalization <training_mode=0> (x, s, b, b, v)", NORM4, 13),
    "comparison": ("c = GreaterOrEqual (x, z)\n y = Where (c, x, z)", {"z": np.float32(0.5)}, 13),
}


@pytest.mark.parametrize("case", CASES)
def test_an_older_form_means_the_same(case):
    body, constants, opset = CASES[case]
    image = "float[batch, 4, h, 6] x"
    model = make(body, constants=constants, image=image)
    images = np.random.default_rng(3).normal(size=(3, 4, 5, 6)).astype(np.float32)
    (before,) = ReferenceEvaluator(model).run(None, {"x": images})
    model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("y", TensorProto.FLOAT, before.shape)
    )
    convert_opset(model, opset)
    assert model.opset_import[0].version == opset
    for node in model.graph.node:
        schema = onnx.defs.get_schema(node.op_type, opset)
        assert {entry.name for entry in node.attribute} <= set(schema.attributes)
    for run in (ReferenceEvaluator, _OnnxRuntime):
        (after,) = run(model).run(None, {"x": images})
        assert after.shape == before.shape
        np.testing.assert_allclose(after, before, rtol=2e-6, atol=2e-6)


class _OnnxRuntime:
    def __init__(self, model):
        self._session = ort.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )

    def run(self, names, feeds):
        return self._session.run(names, feeds)


def test_every_older_form_is_tested():
    written = {helper_word for body, _, _ in CASES.values() for helper_word in body.split()}
    reductions = {name for name in DOWNGRADES if name.startswith("Reduce")}
    assert set(DOWNGRADES) - reductions - {"RoiAlign"} <= written


@pytest.mark.parametrize(
    ("body", "constants", "opset", "said"),
    [
        ('y = Gelu <approximate = "tanh"> (x)', None, 18, "exists from opset 20"),
        ("y = Reshape <allowzero = 1> (x, n)", {"n": np.array([0, 4, 5])}, 13, "allowzero"),
        ("a, y = Split <axis = 2, num_outputs = 2> (x)", None, 17, "not known to be equal"),
        ("y = ReduceMax (x, n)", None, 13, "axes are computed"),
        ('y = Resize <antialias = 1> (x, , f)', {"f": np.ones(4, np.float32)}, 13, "antialias"),
        ("y = GroupNormalization <num_groups = 2> (x, s, b)", NORM4, 23, "changed at opset 21"),
        ("y = ScatterND <reduction = \"add\"> (x, i, u)", None, 13, "attribute reduction"),
    ],
)  # fmt: skip
def test_what_has_no_older_form_is_refused_with_operator_and_layer(body, constants, opset, said):
    traced = 20 if opset == 18 else 18
    image = "float[batch, 4, h, w] x, int64[k] n, int64[k, 1] i, float[k, 4, h, w] u"
    if "n" in (constants or {}):
        image = "float[batch, 4, h, w] x"
    model = make(body, opset=traced, image=image, constants=constants)
    model.graph.node[-1].name = "features.7"
    with pytest.raises(ExportError, match=said) as error:
        convert_opset(model, opset)
    assert f"opset {opset}: {model.graph.node[-1].op_type} of layer 'features.7'" in str(
        error.value
    )
    assert f"give --opset {traced}" in str(error.value)


def test_another_domain_is_refused():
    model = make("y = Relu (x)")
    model.graph.node[0].domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(ExportError, match=r"'com\.example' is not ONNX's own"):
        convert_opset(model, 13)


def test_gelu_is_one_operator_where_there_is_one():
    layers = [nn.Conv2d(3, 4, 3), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)]
    for opset, expected in ((19, 0), (20, 1), (24, 1)):
        spec = ExportSpec(
            name="m", head=None, channels=3, classes=5, size=Size(16, 16), opset=opset
        )
        model = export_module(nn.Sequential(*layers).eval(), spec).loaded()
        assert sum(node.op_type == "Gelu" for node in model.graph.node) == expected
