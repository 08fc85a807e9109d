"""The operators that ONNX lacks are right at every size, opset and element type."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from anysize.errors import DeclinedError
from anysize.sizes import Size
from anysize.surgery.operators import (
    Emitter,
    emit_adaptive_average_pool,
    emit_bilinear_resize,
    emit_max_pyramid,
)
from anysize.surgery.size_guard import guard_max_size, guard_min_size

MAPS = [(1, 1), (3, 11), (8, 5), (14, 13)]
TYPES = {
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
}


def graph(opset, elem_type, emit, dims=("batch", 2, None, None)):
    ends = [helper.make_tensor_value_info(name, elem_type, dims) for name in ("image", "out")]
    model = helper.make_model(
        helper.make_graph([], "one", ends[:1], ends[1:]),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=8,
    )
    emitter = Emitter(model, "op")
    emit(emitter, elem_type)
    model.graph.node.extend(emitter.nodes)
    model.graph.initializer.extend(emitter.initializers)
    onnx.checker.check_model(model, full_check=True)
    return model


def average(emitter, elem_type):
    emit_adaptive_average_pool(
        emitter, "image", output="out", output_size=(4, 3), elem_type=elem_type
    )


def maximum(emitter, _elem_type):
    emit_max_pyramid(emitter, "image", outputs={(4, 3): "out"})


def resize(emitter, elem_type):
    emit_bilinear_resize(emitter, "image", output="out", output_size=(7, 6), elem_type=elem_type)


def resize_to_double(emitter, elem_type):
    sides = [emitter.node("Shape", "image", start=axis, end=axis + 1) for axis in (2, 3)]
    twice = tuple(emitter.node("Add", side, side) for side in sides)
    emit_bilinear_resize(emitter, "image", output="out", output_size=twice, elem_type=elem_type)


def expected(operator, image):
    import torch
    import torch.nn.functional as F  # noqa: N812

    image = torch.from_numpy(image.astype(np.float64))
    if operator is average:
        return F.adaptive_avg_pool2d(image, (4, 3)).numpy()
    if operator is maximum:
        return F.adaptive_max_pool2d(image, (4, 3)).numpy()
    size = (7, 6) if operator is resize else (2 * image.shape[2], 2 * image.shape[3])
    return F.interpolate(image, size=size, mode="bilinear", align_corners=False).numpy()


def assert_right(kit, operator, opset, dtype, shape):
    image = kit.images(2, 2, *shape).astype(dtype)
    (got,) = kit.run(graph(opset, TYPES[dtype], operator), image)
    assert got.dtype == image.dtype
    # Two weighted means of at most 14 terms, or two linear interpolations: 32 roundings.
    # Narrower types are computed in float32 and rounded once.
    bound = 32 * np.finfo("float64" if dtype == "float64" else "float32").eps
    bound = max(bound, np.finfo(dtype).eps) * np.abs(image).max()
    np.testing.assert_allclose(got, expected(operator, image), rtol=0, atol=float(bound))


@pytest.mark.parametrize("shape", MAPS)
@pytest.mark.parametrize("operator", [average, maximum, resize, resize_to_double])
def test_an_operator_is_right_at_every_size(kit, operator, shape):
    assert_right(kit, operator, 18, "float32", shape)


@pytest.mark.parametrize("opset", [9, 10, 11, 12, 13, 14, 15, 16, 17])
@pytest.mark.parametrize("operator", [average, maximum, resize])
def test_an_operator_is_right_at_every_opset(kit, operator, opset):
    if operator is maximum and opset < 10:
        with pytest.raises(DeclinedError, match=r"opset 9: a slice .* needs opset 10"):
            graph(opset, TensorProto.FLOAT, operator)
        return
    assert_right(kit, operator, opset, "float32", (14, 13))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("operator", [average, maximum, resize])
def test_an_operator_is_right_in_every_element_type(kit, operator, dtype):
    assert_right(kit, operator, 18, dtype, (14, 13))


def resized_exactly(image, count, axis):
    """Resample whole numbers by the definition, in fractions."""
    cells = image.shape[axis]
    parts = []
    for place in range(count):
        at = max(Fraction(2 * place + 1, 2) * cells / count - Fraction(1, 2), Fraction(0))
        first = min(int(at), cells - 1)
        below, above = image.take(first, axis), image.take(min(first + 1, cells - 1), axis)
        parts.append(below + (above - below) * (at - first))
    return np.stack(parts, axis)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("axes", [(2, 3), (1, 2)], ids=["channels first", "channels last"])
@pytest.mark.parametrize("shape", MAPS)
def test_whole_numbers_are_resized_exactly_and_rounded_once(kit, dtype, axes, shape):
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    model = graph(
        13,
        kind,
        lambda emitter, elem_type: emit_bilinear_resize(
            emitter, "image", output="out", output_size=(7, 6), elem_type=elem_type, axes=axes
        ),
        dims=["batch", 2, None, None] if axes == (2, 3) else ["batch", None, None, 2],
    )
    sides = [2, 2, 2, 2]
    sides[axes[0]], sides[axes[1]] = shape
    image = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, sides, endpoint=True)
    (got,) = kit.run(model, image.astype(dtype))
    exact = image.astype(object) + Fraction(0)
    for axis, count in zip(axes, (7, 6), strict=True):
        exact = resized_exactly(exact, count, axis)
    expected = np.vectorize(lambda value: math.floor(value + Fraction(1, 2)))(exact)
    np.testing.assert_array_equal(got, expected)


def test_bins_shifted_by_one_cell_are_seen(kit):
    image = kit.images(2, 2, 14, 13)
    (got,) = kit.run(graph(18, TensorProto.FLOAT, average), np.roll(image, 1, axis=2))
    assert np.abs(got - expected(average, image)).max() > 1e-2


@pytest.mark.parametrize("opset", [8, 11, 12])
def test_a_guard_is_written_for_old_opsets_too(kit, opset):
    model = graph(opset, TensorProto.FLOAT, lambda e, _: e.node("Relu", "image", output="out"))
    guard_max_size(guard_min_size(model, Size(3, 2)), Size(8, 9))
    onnx.checker.check_model(model, full_check=True)
    for legal in ((3, 2), (8, 9), (5, 7)):
        assert kit.run(model, kit.images(1, 2, *legal))[0].shape[2:] == legal
    for illegal in ((2, 2), (3, 1), (1, 1), (9, 9), (8, 10)):
        with pytest.raises(Exception, match=r"(?i)expand|broadcast"):
            kit.run(model, kit.images(1, 2, *illegal))


def test_a_guard_declines_an_opset_without_expand():
    model = graph(7, TensorProto.FLOAT, lambda e, _: e.node("Relu", "image", output="out"))
    with pytest.raises(DeclinedError, match=r"opset 7: a guard .* needs opset 8"):
        guard_min_size(model, Size(3, 2))
