"""A weight that is turned on its way to the file is the weight that NumPy turns in memory."""

from __future__ import annotations

import io
import math

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from anysize.surgery import load_model, rewrite, save_model
from anysize.surgery.storage import permuted
from anysize.surgery.storage.attached import mapped_array
from anysize.surgery.storage.payloads import load_tensor, locate
from anysize.surgery.storage.permuted import Permutation, can_permute, permute_later
from anysize.surgery.storage.tensors import Place, place_of

BLOCK = 4096


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(permuted, "_BLOCK_BYTES", BLOCK)
        yield


class Stream(io.BytesIO):
    largest = 0

    def write(self, data):
        self.largest = max(self.largest, len(data))
        return super().write(data)


def external(array, folder, *, offset=0):
    """Store an array in a file, as external data that begin at `offset`."""
    data = array.tobytes()
    (folder / "w.bin").write_bytes(b"\xff" * (offset % 8191) + data)
    tensor = numpy_helper.from_array(array, "w")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entries = {"location": "w.bin", "offset": offset % 8191, "length": len(data)}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def turn(source, dims, turns, scale=1.0):
    result = onnx.TensorProto(name="t", data_type=source.data_type, dims=dims)
    permute_later(result, source, turns, scale)
    return result


@st.composite
def recipes(draw):
    sides = draw(st.lists(st.integers(1, 24), min_size=1, max_size=4))
    while math.prod(sides) < 1 << 14:  # nothing smaller is turned later
        sides[draw(st.integers(0, len(sides) - 1))] *= 3
    turns, dims = [], tuple(sides)
    for _ in range(draw(st.integers(0, 2))):
        perm = tuple(draw(st.permutations(range(len(dims)))))
        turns.append(Permutation(dims, perm))
        dims = tuple(dims[axis] for axis in perm)
        if draw(st.booleans()):
            dims = (dims[0], math.prod(dims[1:]))
    return tuple(sides), turns, dims, draw(st.sampled_from([1.0, 0.3])), draw(st.integers(0, 8190))


@given(recipes(), st.sampled_from([np.float32, np.float16, np.int8]))
def test_it_is_what_numpy_makes_of_it(tmp_path_factory, recipe, dtype):
    sides, turns, dims, scale, offset = recipe
    folder = tmp_path_factory.mktemp("weights")
    array = np.arange(math.prod(sides)).astype(np.int8).astype(dtype).reshape(sides)
    source = external(array, folder, offset=offset)
    if not can_permute(source):
        return
    expected = array
    for one in turns:
        expected = expected.reshape(one.dims).transpose(one.perm)
    if scale != 1.0:
        expected = (expected * np.float64(scale)).astype(dtype)
    expected = np.ascontiguousarray(expected).reshape(dims)
    tensor = turn(source, dims, turns, scale)
    payload = locate(tensor, folder)
    assert payload.read() == expected.tobytes()
    assert payload.size_bytes == expected.nbytes
    assert np.array_equal(mapped_array(tensor, folder), expected)
    load_tensor(tensor, folder)
    assert np.array_equal(numpy_helper.to_array(tensor), expected)


@pytest.mark.parametrize("shape", [(300, 200), (1, 60_000), (60_000, 1), (2, 150, 200)])
def test_it_is_written_a_block_at_a_time(tmp_path, shape):
    source = external(np.ones(shape, np.float32), tmp_path)
    perm = tuple(reversed(range(len(shape))))
    stream = Stream()
    locate(turn(source, shape[::-1], [Permutation(shape, perm)]), tmp_path).copy_to(stream)
    assert len(stream.getvalue()) == 4 * math.prod(shape)
    assert stream.largest <= BLOCK


def stored_as_in_out(kit):
    """Make a classifier whose first layer is a MatMul of (in, out), large enough to stay put."""
    return kit.make(
        """conv = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]> (image, k)
           flat = Flatten (conv) hidden = MatMul (flat, w) scores = Add (hidden, b)""",
        weights={"k": (4, 3, 3, 3), "w": (4 * 16 * 16, 40), "b": (40,)},
        outputs="float[1, 40] scores",
    )


def test_nobody_else_takes_the_bytes_as_they_lie(kit, tmp_path):
    path = tmp_path / "in.onnx"
    onnx.save(
        stored_as_in_out(kit), path, save_as_external_data=True, location="d", size_threshold=0
    )
    done = rewrite(load_model(path), source=path)
    onnx.save(done.model, tmp_path / "saved.onnx")  # and not by `save_model`
    with pytest.raises(Exception, match=r"location|external"):
        onnx.load(tmp_path / "saved.onnx")


@pytest.mark.parametrize("is_external", [False, True])
def test_a_rewrite_turns_its_weight_where_it_is(kit, tmp_path, is_external):
    model = stored_as_in_out(kit)
    expected = rewrite(model).model
    path, out = tmp_path / "in.onnx", tmp_path / "out.onnx"
    onnx.save(model, path, save_as_external_data=is_external, location="in.data", size_threshold=0)
    done = rewrite(load_model(path, weights="in_file"), source=path)
    assert any(place_of(tensor) is Place.PERMUTED for tensor in done.model.graph.initializer)
    save_model(done.model, out, source=path)
    assert (tmp_path / "out.onnx.data").exists() == is_external  # what was outside stays outside
    written = onnx.load(out)
    arrays = {t.name: numpy_helper.to_array(t) for t in written.graph.initializer}
    for tensor in expected.graph.initializer:
        assert np.array_equal(arrays[tensor.name], numpy_helper.to_array(tensor)), tensor.name
