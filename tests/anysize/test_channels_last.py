# ruff: noqa: ISC004 - one case a line reads better than parentheses
"""Files whose image has its channels last: every command says so, and none takes them for sides."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest
from PIL import Image

import anysize
from anysize.sizes import Size

WORDS = (
    "input 'image' has its channels last, expected (batch, channels, height, width); export with"
)
# What stands before the first convolution → image, and its nodes.
STEMS = {
    "transpose": ("float[n, 24, 32, 3] image",
                  "first = Transpose <perm = [0, 3, 1, 2]> (image)"),
    "rescaled": ("float[n, 24, 32, 3] image",
                 "m = Mul (image, half) a = Add (m, offset) "
                 "first = Transpose <perm = [0, 3, 1, 2]> (a)"),
    "bytes": ("uint8[n, 24, 32, 3] image",
              "m = Cast <to = 1> (image) first = Transpose <perm = [0, 3, 1, 2]> (m)"),
    "grey": ("float[n, 24, 32, 1] image", "first = Reshape (image, grey)"),
}  # fmt: skip
HEADS = {
    "fc": "flat = Flatten (active) y = Gemm <transB = 1> (flat, fc)",
    "gap": ("mean = GlobalAveragePool (active) flat = Flatten (mean) "
            "y = Gemm <transB = 1> (flat, linear)"),
}  # fmt: skip


def keras_like(stem: str, head: str = "fc") -> onnx.ModelProto:
    image, nodes = STEMS[stem]
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 13]> g ({image}) => (float[n, 4] y) {{
            {nodes}
            conv = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (first, w)
            active = Relu (conv)
            {HEADS[head]} }}"""
    )
    draw = np.random.default_rng(3).standard_normal
    weights = {
        "w": draw((8, 1 if stem == "grey" else 3, 3, 3)),
        "fc": draw((4, 8 * 12 * 16)),
        "linear": draw((4, 8)),
        "half": np.array(0.5),
        "offset": draw(3),
    }
    read = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(array.astype(np.float32), name)
        for name, array in weights.items()
        if name in read
    )
    if "grey" in read:
        target = onnx.numpy_helper.from_array(np.array([-1, 1, 24, 32]), "grey")
        model.graph.initializer.append(target)
    return model


@pytest.fixture(params=STEMS)
def file(request, tmp_path):
    path = tmp_path / "keras.onnx"
    onnx.save(keras_like(request.param), path)
    return path


def refused(done):
    assert done.code == 2
    assert len(done.errors) == 1
    assert WORDS in done.errors[0]
    assert "--no-verify" not in done.err


@pytest.mark.parametrize("to", ["fcn", "cam", "gap", "adaptive", "resize", "dynamic"])
@pytest.mark.parametrize("proof", [(), ("--no-verify",)], ids=["proved", "not proved"])
def test_rewrite_declines_by_name_and_writes_nothing(file, to, proof, run, tmp_path):
    output = tmp_path / "any.onnx"
    refused(run("rewrite", file, "-o", output, "--to", to, *proof))
    assert not output.exists()


def test_a_pooled_head_is_declined_alike(run, tmp_path):
    path, output = tmp_path / "keras.onnx", tmp_path / "any.onnx"
    onnx.save(keras_like("grey", "gap"), path)
    for to in ("cam", "dynamic", "resize"):
        refused(run("rewrite", path, "-o", output, "--to", to))
    assert not output.exists()


def test_inspect_says_where_the_channels_are_and_the_right_size(file):
    facts = anysize.inspect(file, [Size(24, 32), Size(32, 24)])
    assert facts.input.endswith("), channels last")
    assert facts.training_size == Size(24, 32)
    assert str(facts.legal) == "24x32 to 24x32"
    assert [size.is_legal for size in facts.sizes] == [True, False]
    assert facts.sizes[0].outputs == ((1, 4),)
    assert facts.head is None
    assert WORDS in facts.no_head
    assert facts.advice == ()


def test_validate_declines_it_as_the_file_and_as_the_reference(file, run, tmp_path):
    refused(run("validate", file, "--reference", file, "--sizes", "24x32"))
    first = keras_like("transpose")
    first.graph.node[0].op_type = "Identity"
    first.graph.node[0].ClearField("attribute")
    for axis, side in ((1, 3), (2, 24), (3, 32)):
        first.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = side
    other = tmp_path / "first.onnx"
    onnx.save(first, other)
    refused(run("validate", other, "--reference", file, "--sizes", "24x32"))


def test_heatmap_declines_it(file, run, tmp_path):
    picture, output = tmp_path / "grey.png", tmp_path / "map.png"
    Image.new("L", (32, 24)).save(picture)
    refused(run("heatmap", file, picture, "-o", output))
    assert not output.exists()
