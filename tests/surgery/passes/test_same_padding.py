"""Files whose pads TensorFlow computed: at each size taken they answer as if computed there."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from anysize.errors import DeclinedError
from anysize.sizes import Size
from anysize.surgery import rewrite

CHANNELS = 3
# Operator, kernel and stride.
LAYERS = st.tuples(
    st.sampled_from(["Conv", "MaxPool", "AveragePool"]),
    st.integers(1, 5),
    st.sampled_from([1, 2, 2, 3]),
).filter(lambda layer: layer[1] == 1 or layer[1] >= layer[2])


def padded(cells, kernel, stride):
    """Return what `same` adds before and behind, the odd cell behind."""
    total = max((-(-cells // stride) - 1) * stride + kernel - cells, 0)
    return total // 2, total - total // 2


def network(layers, side, *, is_computed, is_last, is_apart):
    """Write a network of `same` layers at one side, with their pads as numbers or by `auto_pad`."""
    rng = np.random.default_rng(3)
    nodes, weights, tensor, cells = [], [], "image", side
    if is_last:
        nodes.append(helper.make_node("Transpose", ["image"], ["first"], perm=[0, 3, 1, 2]))
        tensor = "first"
    for place, (operator, kernel, stride) in enumerate(layers):
        name, inputs, given = f"layer{place}", [tensor], {"strides": [stride] * 2}
        if operator == "Conv":
            weight = rng.normal(size=(CHANNELS, CHANNELS, kernel, kernel)).astype(np.float32)
            weights.append(numpy_helper.from_array(weight / kernel, f"w{place}"))
            inputs.append(f"w{place}")
        before, behind = padded(cells, kernel, stride)
        if is_computed and kernel > 1:  # ONNX Runtime pads below zero for a stride beyond it
            given["auto_pad"] = "SAME_UPPER"
        elif is_apart and operator == "Conv" and before + behind:
            pads = numpy_helper.from_array(
                np.array([0, 0, before, before, 0, 0, behind, behind]), f"pads{place}"
            )
            weights.append(pads)
            nodes.append(helper.make_node("Pad", [tensor, pads.name], [f"padded{place}"]))
            inputs[0] = f"padded{place}"
        else:
            given["pads"] = [before, before, behind, behind]
        nodes.append(
            helper.make_node(
                operator, inputs, [name], name=name, kernel_shape=[kernel] * 2, **given
            )
        )
        tensor, cells = name, -(-cells // stride)
    nodes.append(helper.make_node("GlobalAveragePool", [tensor], ["mean"]))
    nodes.append(helper.make_node("Flatten", ["mean"], ["scores"]))
    shape = [1, side, side, CHANNELS] if is_last else [1, CHANNELS, side, side]
    if is_computed:
        shape = [None if length in (1, side) else length for length in shape]
    graph = helper.make_graph(
        nodes,
        "same",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [shape[0], CHANNELS])],
        weights,
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def session(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.lists(LAYERS, min_size=1, max_size=4), st.integers(17, 40), st.booleans())
def test_each_size_taken_is_padded_as_it_would_be_there(layers, side, is_apart):
    if not is_told(layers, side):
        return
    given = {"is_last": True, "is_apart": is_apart}
    try:
        done = rewrite(network(layers, side, is_computed=False, **given), to="dynamic")
    except DeclinedError:
        return
    onnx.checker.check_model(done.model)
    mine = session(done.model)
    theirs = session(network(layers, side, is_computed=True, **given))
    rng = np.random.default_rng(5)
    taken = 0
    for other in range(side, side + 2 * int(np.prod([stride for _, _, stride in layers])) + 2):
        images = rng.normal(size=(2, other, side, CHANNELS)).astype(np.float32)
        if Size(other, side) in done.sizes:
            taken += 1
            np.testing.assert_allclose(
                mine.run(None, {"image": images})[0],
                theirs.run(None, {"image": images})[0],
                atol=1e-5,
            )
        else:
            with pytest.raises(Exception, match="Expand"):
                mine.run(None, {"image": images})
    assert taken > 1


def is_told(layers, side):
    """Say whether a file shows that its pads were computed.

    Pads that are alike on both sides may be a network's own, and a maximum that pads the end alone
    may round up, as Caffe's does.
    """
    for operator, kernel, stride in layers:
        before, behind = padded(side, kernel, stride)
        if before != behind and (operator != "MaxPool" or stride == 1 or before):
            return True
        side = -(-side // stride)
    return False


def test_channels_first_nothing_says_that_pads_were_not_meant_for_every_size():
    layers = [("Conv", 3, 2), ("Conv", 5, 2)]
    given = {"is_computed": False, "is_apart": False}
    with pytest.raises(DeclinedError, match=r"'layer0': pads 32 cells by 0 and 1, .*--keep layer0"):
        rewrite(network(layers, 32, is_last=False, **given), to="dynamic")
    model = network(layers, 32, is_last=True, **given)
    done = rewrite(model, to="dynamic")
    assert str(done.sizes) == "4x4 and up, multiples of 4"
    assert "'layer0' pads as TensorFlow's same padding does at 32x32" in done.notes[0]
    assert "--keep layer0" in done.notes[0]
    kept = rewrite(model, to="dynamic", keep=["layer0", "layer1"])
    assert kept.sizes.heights.is_any
    assert not kept.notes
