"""An exported graph is small, says what it is, and is right at every legal size."""

from __future__ import annotations

import copy
import math

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from anysize.errors import ExportError, UsageError
from anysize.exporters import ExportSpec, export_module
from anysize.models import ZOO, construct, resolve
from anysize.sizes import Size, SizeRange, Steps
from anysize.surgery import find_head, infer_shapes, legal_interval, read_metadata

ort.set_default_logger_severity(4)
FC_NETWORKS = ("digits", "lenet")
HEADS = ("fc", "fcn", "gap", "cam", "spp", "adaptive", "resize")
EPS32 = float(np.finfo(np.float32).eps)


def exported(source, head=None, *, opset=18):
    model = resolve(source, head=head)
    names = getattr(model.module, "output_names", ("logits",))
    spec = ExportSpec(
        name=model.name,
        head=model.head,
        channels=model.channels,
        classes=model.classes,
        size=model.training_size,
        output_names=names,
        opset=opset,
        seed=model.seed,
    )
    return model.module, export_module(model.module, spec)


@pytest.fixture(scope="module", params=HEADS)
def digits(request):
    return request.param, *exported("digits", request.param)


def run(model, images):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": images})


def images(batch, channels, height, width):
    shape = (batch, channels, height, width)
    return np.random.default_rng(7).random(shape, dtype=np.float32)


def as_tuple(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)


def check_within_budget(model, module, x):
    """Compare in float64 terms with the error budget of a strict runtime."""
    with torch.inference_mode():
        single = as_tuple(module(torch.from_numpy(x)))
        double = as_tuple(copy.deepcopy(module).double()(torch.from_numpy(x).double()))
    for got, y32, y64 in zip(run(model, x), single, double, strict=True):
        truth, scale = y64.numpy(), float(y64.abs().max())
        assert got.shape == truth.shape
        own_error = float((y32.double() - y64).abs().max()) / scale
        assert np.abs(got - truth).max() / scale <= 8 * max(own_error, 4 * EPS32)


def operators(model):
    return [node.op_type for node in model.graph.node]


def test_a_file_is_valid_and_named_as_the_contract_says(digits):
    head, _, done = digits
    onnx.checker.check_model(done.loaded(), full_check=True)
    (source,) = done.loaded().graph.input
    dims = source.type.tensor_type.shape.dim
    assert source.name == "input"
    assert [d.dim_param or d.dim_value for d in dims] == ["batch", 1, "height", "width"]
    expected = {"fcn": ["map"], "cam": ["logits", "map"]}.get(head, ["logits"])
    assert [output.name for output in done.loaded().graph.output] == expected
    for output in done.loaded().graph.output:
        dims = [d.dim_param or d.dim_value for d in output.type.tensor_type.shape.dim]
        sides = ["map_height", "map_width"] if output.name == "map" else []
        assert dims == ["batch", 11, *sides]


def test_the_metadata_say_what_the_file_is(digits):
    head, _, done = digits
    found = read_metadata(done.loaded())
    assert (found.model, found.head, found.classes) == ("digits", head, 11)
    assert found.size == Size(32, 32)
    assert SizeRange(found.min_size, found.max_size) == done.sizes
    assert (found.map_stride == (4, 4)) == (head in ("fcn", "cam"))
    if head == "fcn":
        assert (found.map_offset, found.receptive_field) == ((16.0, 16.0), (32, 32))


def test_nothing_of_the_tracer_is_left(digits):
    _, _, done = digits
    text = done.loaded().SerializeToString()
    for trace in (b"pkg.torch", b"stack_trace", b".py", b"anysize.lowering"):
        assert trace not in text
    assert operators(done.loaded()).count("Dropout") == 0


def test_no_initializer_and_no_node_is_dead(digits):
    _, _, done = digits
    graph = done.loaded().graph
    read = {name for node in graph.node for name in node.input}
    read |= {output.name for output in graph.output}
    assert {tensor.name for tensor in graph.initializer} <= read
    assert all(set(node.output) & read for node in graph.node)


@pytest.mark.parametrize("size", ["32x32", "33x47", "61x37", "97x35"])
@pytest.mark.parametrize("batch", [1, 4])
def test_a_graph_computes_what_the_module_computes(digits, size, batch):
    _, module, done = digits
    at = Size.parse(size)
    if at not in done.sizes:
        pytest.skip("an FC head does not take this size")
    check_within_budget(done.loaded(), module, images(batch, 1, at.height, at.width))


@pytest.mark.parametrize("run_graph", ["onnxruntime", "reference evaluator"])
def test_a_graph_refuses_what_the_module_refuses(digits, run_graph):
    _, module, done = digits
    low = done.sizes.minimum
    if low == Size(1, 1):
        pytest.skip("takes every size")
    illegal = [(low.height - 1, low.width), (low.height, low.width - 1), (1, 40), (40, 1)]
    if done.sizes.maximum:
        illegal += [(done.sizes.maximum.height + 1, low.width), (2 * low.height, 2 * low.width)]
    for height, width in illegal:
        x = images(2, 1, height, width)
        with pytest.raises(RuntimeError), torch.inference_mode():
            module(torch.from_numpy(x))
        if run_graph == "onnxruntime":
            with pytest.raises(Exception, match="ONNXRuntimeError"):
                run(done.loaded(), x)
        else:
            with pytest.raises(Exception):  # noqa: B017 - numpy raises what it likes
                ReferenceEvaluator(done.loaded()).run(None, {"input": x})


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("fcn", ["Conv", "Relu"]),
        ("gap", ["Conv", "Relu", "MaxPool", "GlobalAveragePool", "Flatten", "Gemm"]),
        ("cam", ["Conv", "Relu", "MaxPool", "GlobalAveragePool", "Flatten"]),
    ],
)
def test_a_head_is_written_with_the_operators_that_say_it(head, expected):
    _, done = exported("lenet", head)
    nodes = done.model.graph.node
    guard = {node.op_type for node in nodes if node.name.startswith("anysize_")}
    plain = {node.op_type for node in nodes if not node.name.startswith("anysize_")}
    assert plain - {"MaxPool"} == set(expected) - {"MaxPool"}
    assert guard <= {"Shape", "Sub", "Max", "Concat", "Expand"}


def test_a_wrong_graph_is_outside_the_budget():
    module, done = exported("digits", "gap")
    wrong = done.loaded()
    gemm = wrong.graph.node[-1]
    (bias,) = [t for t in wrong.graph.initializer if t.name == gemm.input[2]]
    bias.raw_data = bytes(len(bias.raw_data))
    with pytest.raises(AssertionError):
        check_within_budget(wrong, module, images(2, 1, 40, 50))


@pytest.mark.slow
@pytest.mark.parametrize("head", ["fc", "fcn"])
def test_overlapping_pooling_below_its_window_is_refused_and_ends_no_process(head):
    _, done = exported("alexnet", head)
    with pytest.raises(Exception, match="Expand"):
        run(done.loaded(), images(1, 3, 40, 50))


def test_flatten_stays_flatten():
    _, done = exported("lenet", "fc")
    assert operators(done.loaded()).count("Flatten") == 1
    assert "Reshape" not in operators(done.loaded())


def test_residual_networks_pool_globally_at_any_size():
    module, done = exported("resnet18")
    assert done.sizes == SizeRange(Size(1, 1))
    assert "ReduceMean" not in operators(done.loaded())
    check_within_budget(done.loaded(), module, images(2, 3, 65, 97))


def test_a_module_in_training_mode_is_refused():
    spec = ExportSpec(name="x", head=None, channels=3, classes=2, size=Size(8, 8))
    with pytest.raises(UsageError, match="training mode"):
        export_module(nn.Conv2d(3, 2, 3), spec)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "low", "top"),
    [("vgg16", 224, 255), ("vgg11", 224, 255), ("alexnet", 223, 254), ("lenet", 32, 35)],
)
def test_the_interval_of_an_fc_head_is_what_pytorch_takes(name, low, top):
    module = construct(name, head="fc")
    weights = (p for p in module.parameters())
    assert next(weights).is_meta
    side = ZOO[name].training_size.height

    def accepts(height, width):
        image = torch.empty(1, module.channels, height, width, device="meta")
        try:
            module(image)
        except RuntimeError:
            return False
        return True

    assert accepts(low, side)
    assert accepts(side, top)
    assert not accepts(low - 1, side)
    assert not accepts(side, top + 1)


def test_the_interval_is_computed_from_the_graph():
    _, done = exported("lenet", "fc")
    feature_map = find_head(done.loaded(), Size(32, 32)).feature_map
    interval = legal_interval(done.loaded(), feature_map, Size(32, 32))
    assert interval == done.sizes == SizeRange(Size(32, 32), Size(35, 35))
    assert infer_shapes(done.loaded(), Size(35, 32))["logits"] == (1, 10)


class Baked(nn.Module):
    """A classifier that writes the traced height into a reshape."""

    def __init__(self, spoil):
        super().__init__()
        self.features = nn.Conv2d(3, 4, 3, padding=1)
        self.classifier = nn.Linear(4, 5)
        self.spoil = spoil

    def forward(self, x):
        return self.classifier(self.spoil(self.features(x)).mean((2, 3)))


def local_pooling(m):
    return torch.nn.functional.avg_pool2d(m, (m.shape[2] // 2, m.shape[3] // 2))


def scaled_by_size(m):
    return m / math.sin(m.shape[2])


def other_path(m):
    return m.relu() if m.shape[2] % 2 else m.tanh()


def extra_path(m):
    return m.relu().tanh() if m.shape[2] % 2 else m.relu()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (local_pooling, "AveragePool has"),
        (scaled_by_size, "has an input"),
    ],
)
def test_a_baked_size_is_refused_with_the_layer_and_its_line(spoil, said):
    spec = ExportSpec(name="baked", head=None, channels=3, classes=5, size=Size(24, 24))
    with pytest.raises(ExportError, match=said) as error:
        export_module(Baked(spoil).eval(), spec)
    assert "test_export.py" in str(error.value)
    assert "24x24" in str(error.value)


@pytest.mark.parametrize("spoil", [other_path, extra_path])
def test_a_path_of_even_heights_alone_is_exported_for_even_heights(spoil):
    spec = ExportSpec(name="baked", head=None, channels=3, classes=5, size=Size(24, 24))
    done = export_module(Baked(spoil).eval(), spec)
    assert done.sizes == SizeRange(Size(2, 1), None, Steps(2))
    assert "where it runs" in (done.metadata.other_path or "")


def test_what_the_optimiser_of_onnxscript_raises_is_told_in_one_line():
    def halves(m):  # as many rows and one more, of an odd map
        first, second = m.chunk(2, 2)
        return torch.cat([first.amax(2, keepdim=True), second.amax(2, keepdim=True)], 2)

    spec = ExportSpec(name="baked", head=None, channels=3, classes=5, size=Size(24, 24))
    with pytest.raises(ExportError, match="gives Split 1 inputs at 24x24") as error:
        export_module(Baked(halves).eval(), spec)
    assert "; torch.export cannot: " in str(error.value)
    assert "\n" not in str(error.value)


def test_the_healthy_twin_of_a_baked_module_is_exported():
    spec = ExportSpec(name="healthy", head=None, channels=3, classes=5, size=Size(24, 24))
    done = export_module(Baked(torch.relu).eval(), spec)
    assert done.sizes == SizeRange(Size(1, 1))
    assert done.metadata.head == "as-is"


class PlainClassifier(nn.Module):
    """A user's own module: forward written by hand, flattened by view."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4 * 5 * 5, 6)

    def forward(self, x):
        x = torch.relu(self.first(x))
        x = torch.max_pool2d(x, 2)
        return self.fc(x.view(x.size(0), -1))


def test_a_module_of_the_users_own_is_exported_inside_its_interval():
    spec = ExportSpec(name="own", head=None, channels=3, classes=6, size=Size(12, 12))
    module = PlainClassifier().eval()
    done = export_module(module, spec)
    assert done.metadata.head == "fc"
    assert done.sizes == SizeRange(Size(12, 12), Size(13, 13))
    check_within_budget(done.loaded(), module, images(5, 3, 13, 12))
    with pytest.raises(Exception, match="ONNXRuntimeError"):
        run(done.loaded(), images(5, 3, 14, 12))
