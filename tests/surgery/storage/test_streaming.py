"""A model written piece by piece reads back as the model it was."""

from __future__ import annotations

import io

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from anysize.surgery.storage.streaming import write_model
from anysize.surgery.storage.wire import varint


class Stream(io.BytesIO):
    """Remembers the largest piece that was written."""

    largest = 0

    def write(self, data):
        self.largest = max(self.largest, len(data))
        return super().write(data)


def make(*elements):
    tensors = [
        numpy_helper.from_array(np.arange(count, dtype=np.float32) / 7, f"w{place}")
        for place, count in enumerate(elements)
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n"]) for n in "xy")
    nodes = [helper.make_node("Relu", ["x"], ["y"], name="relu")]
    graph = helper.make_graph(nodes, "g", [x], [y], tensors, doc_string="words")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    helper.set_model_props(model, {"key": "value"})
    return model


def written(model):
    stream = Stream()
    write_model(model, stream)
    return stream


@pytest.mark.parametrize("elements", [(), (5,), (300_000,), (5, 300_000, 7, 900_000), (262_144,)])
def test_a_model_reads_back(elements):
    model = make(*elements)
    again = onnx.load_from_string(written(model).getvalue())
    tensors = {tensor.name: tensor for tensor in again.graph.initializer}
    assert [tensors[tensor.name] for tensor in model.graph.initializer] == list(
        model.graph.initializer
    )
    for one in (model, again):
        del one.graph.initializer[:]
    assert again == model


def test_weights_are_written_one_at_a_time():
    model = make(600_000, 700_000, 800_000)
    assert written(model).largest == 4 * 800_000


def test_fields_of_a_newer_onnx_are_kept():
    newer = make(300_000).SerializeToString() + b"\xfa\x7f\x03abc"  # field 2047, three bytes
    model = onnx.load_from_string(newer)
    assert b"\xfa\x7f\x03abc" in written(model).getvalue()


@given(st.integers(min_value=0, max_value=2**35))
def test_numbers_are_encoded_seven_bits_at_a_time(number):
    encoded = varint(number)
    assert sum((byte & 0x7F) << 7 * place for place, byte in enumerate(encoded)) == number
    assert [byte >> 7 for byte in encoded] == [1] * (len(encoded) - 1) + [0]
