"""The classifiers that the onnx package carries without weights, filled and rewritten.

Channels are divided so that a run takes a second; layers, windows and map sizes are the networks'.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
import pytest
from onnx import helper, numpy_helper

import anysize

FOLDER = Path(onnx.backend.test.__file__).parent / "data" / "light"
# The image's channels and the classes.
KEPT = (1, 3, 1000)


def light(name, *, divisor):
    """Read a network and give every parameter seeded numbers that keep activations near 1."""
    model = onnx.load(FOLDER / f"light_{name}.onnx")
    graph = model.graph
    given = {tensor.name: tensor for tensor in graph.initializer}
    makers = [node for node in graph.node if node.op_type == "ConstantOfShape"]
    dims = {n.output[0]: numpy_helper.to_array(given[n.input[0]]).tolist() for n in makers}
    dims |= {
        name: list(tensor.dims)
        for name, tensor in given.items()
        if tensor.data_type == onnx.TensorProto.FLOAT
    }
    nodes = [node for node in graph.node if node.op_type != "ConstantOfShape"]
    targets = {node.input[1] for node in nodes if node.op_type == "Reshape"}
    uses = {name: (node, place) for node in nodes for place, name in enumerate(node.input)}
    rng = np.random.default_rng(0)
    values = {}
    for name, shape in ((name, shape) for name, shape in dims.items() if name in uses):
        small = [
            divided(side, divisor) if axis < 2 or shape[0] == 1 else side
            for axis, side in enumerate(shape)
        ]
        values[name] = parameter(*uses[name], small, rng)
    for name in sorted(targets):
        target = numpy_helper.to_array(given[name]).copy()
        target[-1] = divided(target[-1], divisor)
        values[name] = target
    for name, tensor in given.items():
        if tensor.data_type != onnx.TensorProto.FLOAT and name in uses and name not in targets:
            values[name] = numpy_helper.to_array(tensor)
    image = next(value for value in graph.input if value.name not in given)
    del graph.node[:], graph.initializer[:], graph.input[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in values.items())
    graph.input.append(image)
    graph.input.extend(  # IR version 3 lists the parameters there, too
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in values.items()
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def divided(side, divisor):
    return side if side in KEPT else max(1, side // divisor)


def parameter(node, place, dims, rng):
    values = rng.standard_normal(dims).astype(np.float32)
    if node.op_type == "BatchNormalization":
        # Half the scale: sixteen residual blocks in a row would saturate the Softmax.
        centre = {1: 0.5, 2: 0.0, 3: 0.0, 4: 1.0}[place]
        return np.float32(centre) + np.float32(0.1) * np.tanh(values)
    if node.op_type in ("Mul", "Unsqueeze"):  # a scale, which Caffe has in a layer of its own
        return np.float32(1) + np.float32(0.1) * np.tanh(values)
    if len(dims) == 1:
        return values * np.float32(0.1)
    return values * np.float32(np.sqrt(2 * dims[0] / values.size))


def prove(model, tmp_path, **options):
    source, target = tmp_path / "in.onnx", tmp_path / "out.onnx"
    onnx.save(model, source)
    done = anysize.rewrite(source, target, **options)
    assert done.applied, done.notes
    assert done.proof is not None
    assert done.proof.ok
    assert len({cell.size for cell in done.proof.cells}) == 3
    onnx.checker.check_model(onnx.load(target), full_check=True)
    return onnx.load(target)


@pytest.mark.parametrize("name", ["bvlc_alexnet", "zfnet512"])
def test_a_light_network_becomes_fully_convolutional(name, tmp_path):
    model = prove(light(name, divisor=16), tmp_path, to="fcn")
    assert "Gemm" not in {node.op_type for node in model.graph.node}


def test_vgg19_becomes_fully_convolutional(tmp_path):
    model = prove(light("vgg19", divisor=16), tmp_path, to="fcn")
    kernels = {tuple(tensor.dims) for tensor in model.graph.initializer}
    assert {(256, 32, 7, 7), (256, 256, 1, 1), (1000, 256, 1, 1)} <= kernels


def test_the_weights_make_the_answer_depend_on_the_image(kit):
    model = light("bvlc_alexnet", divisor=16)
    one, other = (kit.run(model, kit.images(1, 3, 224, 224, seed=s))[0] for s in (0, 1))
    assert np.abs(one - other).max() > 0.01 * one.max()


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("resnet50", "gap"),
        ("resnet50", "cam"),
        ("inception_v1", "gap"),
        pytest.param("inception_v2", "gap", marks=pytest.mark.slow),
    ],
)
def test_a_light_network_that_pools_a_window_takes_any_size(name, target, tmp_path):
    model = prove(light(name, divisor=8), tmp_path, to=target)
    assert "GlobalAveragePool" in {node.op_type for node in model.graph.node}
