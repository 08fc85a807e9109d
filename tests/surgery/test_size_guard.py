"""A guard does nothing at a legal size and fails at every other, sides of 1 included."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from anysize.sizes import Size
from anysize.surgery import find_head, guard_map_size, guard_max_size, guard_min_size, rewrite

POOLED = """guard_me = Relu (image)
            pooled = GlobalAveragePool (guard_me)
            scores = Flatten <axis = 1> (pooled)"""
LEGAL = [(4, 3), (4, 9), (30, 3), (11, 13)]
ILLEGAL = [(3, 3), (4, 2), (1, 9), (9, 1), (1, 1), (2, 2)]


def evaluator(model):
    return lambda images: ReferenceEvaluator(model).run(None, {"image": images})


@pytest.fixture(params=["onnxruntime", "reference evaluator"])
def answer(request, kit):
    if request.param == "onnxruntime":
        return lambda model, images: kit.run(model, images)[0]
    return lambda model, images: evaluator(model)(images)[0]


@pytest.fixture(params=[13, 18])
def pooled(request, kit):
    return kit.make(
        POOLED, image="batch, 3, h, w", outputs="float[batch, 3] scores", opset=request.param
    )


@pytest.mark.parametrize("size", LEGAL)
def test_a_minimum_changes_nothing_at_legal_sizes(kit, pooled, answer, size):
    images = kit.images(2, 3, *size)
    before = answer(pooled, images)
    np.testing.assert_array_equal(answer(guard_min_size(pooled, Size(4, 3)), images), before)


@pytest.mark.parametrize("size", ILLEGAL)
def test_a_minimum_is_loud_below_it(kit, pooled, answer, size):
    images = kit.images(2, 3, *size)
    answer(pooled, images)  # without the guard it answers
    guard_min_size(pooled, Size(4, 3))
    with pytest.raises(Exception, match=r"(?i)expand|broadcast"):
        answer(pooled, images)


def test_a_minimum_of_one_pixel_needs_no_guard(pooled):
    before = pooled.SerializeToString()
    assert guard_min_size(pooled, Size(1, 1)).SerializeToString() == before


@pytest.mark.parametrize("size", [(1, 1), (4, 3), (4, 1), (1, 3), (2, 2)])
def test_a_maximum_changes_nothing_at_legal_sizes(kit, pooled, answer, size):
    images = kit.images(2, 3, *size)
    before = answer(pooled, images)
    np.testing.assert_array_equal(answer(guard_max_size(pooled, Size(4, 3)), images), before)


@pytest.mark.parametrize("size", [(5, 3), (4, 4), (1, 4), (5, 1), (8, 6), (9, 30)])
def test_a_maximum_is_loud_above_it(kit, pooled, answer, size):
    images = kit.images(2, 3, *size)
    answer(pooled, images)  # without the guard it answers
    guard_max_size(pooled, Size(4, 3))
    with pytest.raises(Exception, match=r"(?i)expand|broadcast"):
        answer(pooled, images)


@pytest.mark.parametrize("order", ["minimum first", "maximum first"])
def test_both_bounds_hold_together_and_can_be_moved(kit, pooled, answer, order):
    guards = [(guard_min_size, Size(2, 3)), (guard_max_size, Size(3, 3))]
    for guard, size in guards if order == "minimum first" else reversed(guards):
        guard(pooled, size)
    assert answer(pooled, kit.images(1, 3, 3, 3)).shape == (1, 3)
    for size in ((1, 3), (4, 3), (3, 2), (2, 4), (1, 1)):
        with pytest.raises(Exception, match=r"(?i)expand|broadcast"):
            answer(pooled, kit.images(1, 3, *size))
    nodes = len(pooled.graph.node)
    guard_max_size(pooled, Size(1, 7))
    guard_min_size(pooled, Size(1, 2))
    assert len(pooled.graph.node) == nodes
    assert answer(pooled, kit.images(1, 3, 1, 7)).shape == (1, 3)
    with pytest.raises(Exception, match=r"(?i)expand|broadcast"):
        answer(pooled, kit.images(1, 3, 2, 7))


@pytest.mark.parametrize("size", [(8, 7), (7, 8), (1, 32), (32, 1), (16, 4), (4, 16), (9, 9)])
def test_a_map_guard_takes_the_trained_map_only(kit, answer, size):
    model = kit.make(
        """guard_me = Relu (image)
           flat = Flatten <axis = 1> (guard_me)
           scores = ReduceMean <axes = [1], keepdims = 0> (flat)""",
        image="batch, 3, h, w",
        outputs="float[batch] scores",
    )
    images, trained = kit.images(2, 3, *size), kit.images(2, 3, 8, 8)
    before = answer(model, trained)
    answer(model, images)
    guard_map_size(model, "guard_me", Size(8, 8))
    np.testing.assert_array_equal(answer(model, trained), before)
    with pytest.raises(Exception, match=r"(?i)expand|broadcast"):
        answer(model, images)


@pytest.mark.parametrize("opset", [10, 13, 18])
@pytest.mark.parametrize("guard", ["min", "max", "map"])
def test_no_target_shrinks_a_side_which_iree_would_take_for_a_cut(kit, guard, opset):
    model = kit.make(POOLED, image="batch, 3, h, w", outputs="float[batch, 3] scores", opset=opset)
    bound = Size(4, 3)
    if guard == "map":
        guard_map_size(model, "guard_me", bound)
    else:
        (guard_min_size if guard == "min" else guard_max_size)(model, bound)
    targets = [node.input[1] for node in model.graph.node if node.op_type == "Expand"]
    del model.graph.output[:]
    for target in targets:
        model.graph.output.add(name=target).type.tensor_type.elem_type = onnx.TensorProto.INT64
    while model.graph.node[-1].output[0] not in targets:
        model.graph.node.pop()
    evaluator = ReferenceEvaluator(model)
    for height, width in itertools.product(range(1, 12), repeat=2):
        sides, is_loud = np.array([height, width]), False
        for target in evaluator.run(None, {"image": np.zeros((2, 3, height, width), np.float32)}):
            assert (target[2:] >= sides).all()
            is_loud = bool(((target[2:] > sides) & (sides > 1)).any())
            if is_loud:
                break
            sides = np.maximum(sides, target[2:])
        is_legal = {
            "min": height >= 4 and width >= 3,
            "max": height <= 4 and width <= 3,
            "map": (height, width) == (4, 3),
        }[guard]
        assert is_loud is not is_legal


def test_a_map_of_one_cell_can_be_guarded(kit, answer):
    model = kit.make(POOLED, image="batch, 3, h, w", outputs="float[batch, 3] scores")
    guard_map_size(model, "guard_me", Size(1, 1))
    assert answer(model, kit.images(2, 3, 1, 1)).shape == (2, 3)
    for size in ((1, 2), (2, 1), (3, 3)):
        with pytest.raises(Exception, match=r"(?i)expand|broadcast"):
            answer(model, kit.images(2, 3, *size))


def test_a_guarded_head_is_found_behind_its_guard_and_rewritten_without_it(kit):
    model = kit.plain()
    guard_map_size(model, "fmap", Size(32, 32))
    assert find_head(model).feature_map == "fmap"
    done = rewrite(model)
    operators = {node.op_type for node in done.model.graph.node}
    assert operators == {"Conv", "Relu", "MaxPool"}
    assert not [t for t in done.model.graph.initializer if t.name.startswith("anysize")]
    kit.same_on_windows(model)


@pytest.mark.parametrize("output", ["logits", "both"])
def test_averaged_logits_are_guarded_since_the_mean_of_nothing_is_no_answer(kit, answer, output):
    done = rewrite(kit.plain(), output=output)
    smallest = done.min_size
    assert np.isfinite(answer(done.model, kit.images(2, 3, smallest.height, smallest.width))).all()
    for height, width in ((smallest.height - 1, smallest.width), (40, smallest.width - 1)):
        with pytest.raises(Exception, match=r"(?i)expand|broadcast"):
            answer(done.model, kit.images(2, 3, height, width))


@pytest.mark.parametrize("opset", [9, 11, 12, 13, 18])
@pytest.mark.parametrize("guard", [guard_min_size, guard_max_size])
def test_tract_loads_a_guard_at_every_opset_and_obeys_it(kit, tmp_path, guard, opset):
    pytest.importorskip("tract")
    from anysize.validators.runtimes.tract import TractSession

    model = kit.make(POOLED, image="batch, 3, h, w", outputs="float[batch, 3] scores", opset=opset)
    (expected,) = kit.run(model, kit.images(2, 3, 4, 3))
    onnx.save(guard(model, Size(4, 3)), tmp_path / "guarded.onnx")
    session = TractSession(tmp_path / "guarded.onnx")
    try:
        answer = session.run({"image": kit.images(2, 3, 4, 3)})["scores"]
        np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-6)
        beyond = (3, 2) if guard is guard_min_size else (5, 4)
        with pytest.raises(Exception, match=r"(?i)broadcast|expand|clash|unify"):
            session.run({"image": kit.images(2, 3, *beyond)})
    finally:
        session.close()
