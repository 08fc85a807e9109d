"""Small seeded graphs, and the original layers on every window as the judge of a rewrite."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest

from anysize.sizes import Size
from anysize.surgery import free_axes, rewrite, split_at

# conv 3×3 s2 p1 and pool 2×2: a 32×32 image gives a 4-channel 8×8 map, as do sides 31 to 34.
BACKBONE = """
    conv = Conv <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>
        (image, conv_w, conv_b)
    active = Relu (conv)
    fmap = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (active)
"""
BACKBONE_WEIGHTS = {"conv_w": (4, 3, 3, 3), "conv_b": (4,)}
FLAT = 4 * 8 * 8


def run_onnx(model: onnx.ModelProto, *inputs: np.ndarray) -> list[np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))


def random_images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def make_model(
    body: str,
    *,
    weights: Mapping[str, Sequence[int]] | None = None,
    constants: Mapping[str, Sequence[int]] | None = None,
    floats: Mapping[str, Sequence[float]] | None = None,
    image: str = "1, 3, 32, 32",
    outputs: str = "float[1, 5] scores",
    opset: int = 17,
    ir_version: int = 8,
) -> onnx.ModelProto:
    """Parse a graph in ONNX's textual form and fill its weights with seeded numbers."""
    text = f"""<ir_version: {ir_version}, opset_import: ["" : {opset}]>
        net (float[{image}] image) => ({outputs}) {{ {body} }}"""
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(7)
    for name, dims in (weights or {}).items():
        values = rng.standard_normal(dims).astype(np.float32)
        if len(dims) > 1:  # by the fan-in: activations stay near 1, so that a bias counts
            values *= np.float32(np.sqrt(min(dims) / values.size))
        if name.endswith("var"):
            values = np.abs(values) + 0.5
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    for name, values in (constants or {}).items():
        array = np.array(values, np.int64)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for name, values in (floats or {}).items():
        array = np.array(values, np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for node in model.graph.node:
        node.name = node.output[0]
    onnx.checker.check_model(model, full_check=True)
    return model


def fc_model(
    head: str, weights: Mapping[str, Sequence[int]] | None = None, **options: object
) -> onnx.ModelProto:
    """A 32×32 classifier with `head` behind the tensor `fmap` (1, 4, 8, 8)."""
    return make_model(
        BACKBONE + head,
        weights={**BACKBONE_WEIGHTS, **(weights or {})},
        **options,
    )


def plain_fc() -> onnx.ModelProto:
    return fc_model(
        """flat = Flatten <axis = 1> (fmap)
           hidden = Gemm <transB = 1> (flat, w1, b1)
           warm = Relu (hidden)
           scores = Gemm <transB = 1> (warm, w2, b2)""",
        {"w1": (16, FLAT), "b1": (16,), "w2": (5, 16), "b2": (5,)},
    )


def window_error(
    original: onnx.ModelProto,
    rewritten: onnx.ModelProto,
    feature_map: str,
    window: Size,
    image: Size,
    training: Size | None = None,
) -> float:
    """Largest difference between a map's cells and the original layers on their windows."""
    features, layers = split_at(original, feature_map, size=training)
    images = random_images(1, 3, image.height, image.width)
    fmap = run_onnx(free_axes(features), images)[0]
    dense = run_onnx(rewritten, images)[0]
    rows, columns = fmap.shape[2] - window.height + 1, fmap.shape[3] - window.width + 1
    assert dense.shape[-2:] == (rows, columns)
    assert rows > 1
    assert columns > 1
    worst, spread = 0.0, float(np.ptp(dense))
    assert spread > 1e-3, "the map does not vary: it would prove nothing"
    for row in range(rows):
        for column in range(columns):
            crop = fmap[:, :, row : row + window.height, column : column + window.width]
            expected = run_onnx(layers, np.ascontiguousarray(crop))[0]
            cell = dense[..., row, column].reshape(expected.shape)
            worst = max(worst, float(np.abs(expected - cell).max()) / spread)
    return worst


def assert_same_on_windows(original: onnx.ModelProto, size: Size | None = None) -> onnx.ModelProto:
    """Rewrite, and hold every cell at two larger non-square sizes against the original layers."""
    before = original.SerializeToString()
    result = rewrite(original, size=size)
    assert result.applied, result.reason
    assert original.SerializeToString() == before, "the original was modified"
    trained, window = result.head.image_size, result.head.map_size
    for image in (
        Size(trained.height + 20, trained.width + 37),
        Size(trained.height + 33, trained.width + 17),
    ):
        error = window_error(
            original, result.model, result.head.feature_map, window, image, trained
        )
        assert error < 1e-5
    return result.model


@cache
def torch_export(mode: str, bias: bool = True) -> onnx.ModelProto:
    """An AlexNet-like network traced at its trained size by torch.onnx in one of its modes."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv2d(3, 8, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
                nn.Conv2d(8, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            )  # fmt: skip
            self.avgpool = nn.AdaptiveAvgPool2d((3, 3))
            self.classifier = nn.Sequential(
                nn.Dropout(), nn.Linear(54, 16, bias=bias), nn.ReLU(), nn.Dropout(),
                nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 5, bias=bias),
            )  # fmt: skip

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))

    torch.manual_seed(0)
    net = Net().eval()
    batch = 1 if mode in ("torchscript", "torchscript-batch", "dynamo") else 2
    free = {
        "dynamo-batch": ({0: torch.export.Dim.DYNAMIC},),
        "dynamo-all": (dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC),),
    }
    images = torch.randn(batch, 3, 63, 63)
    import io

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if mode.startswith("torchscript"):
            axes = {"input": {0: "batch"}, "logits": {0: "batch"}}
            torch.onnx.export(
                net, (images,), buffer, dynamo=False, input_names=["input"],
                output_names=["logits"], dynamic_axes=axes if "batch" in mode else None,
            )  # fmt: skip
        else:
            torch.onnx.export(
                net, (images,), buffer, dynamo=True, input_names=["input"],
                output_names=["logits"], dynamic_shapes=free.get(mode), verbose=False,
                external_data=False,
            )  # fmt: skip
    return onnx.ModelProto.FromString(buffer.getvalue())


@pytest.fixture
def kit() -> object:
    """The functions of this file, for tests (which cannot import it)."""
    import types

    return types.SimpleNamespace(
        FLAT=FLAT,
        BACKBONE=BACKBONE,
        BACKBONE_WEIGHTS=BACKBONE_WEIGHTS,
        run=run_onnx,
        images=random_images,
        make=make_model,
        fc=fc_model,
        plain=plain_fc,
        window_error=window_error,
        same_on_windows=assert_same_on_windows,
        torch_export=_copying(torch_export),
    )


def _copying(make: Callable[..., onnx.ModelProto]) -> Callable[..., onnx.ModelProto]:
    def copied(*args: object) -> onnx.ModelProto:
        model = onnx.ModelProto()
        model.CopyFrom(make(*args))
        return model

    return copied
