"""A window that is the whole map at the training size becomes global, for gap and for cam."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from anysize.errors import DeclinedError, UsageError
from anysize.sizes import Size
from anysize.surgery import local_pool_to_global, read_metadata, rewrite
from anysize.validators.proof import prove_rewrite

SIZES = [Size(45, 61), Size(70, 39)]


def zoo_like(kit, pool="kernel_shape = [8, 8]", opset=9):
    """The head of the zoo's ResNets: an 8×8 window on an 8×8 map, and a baked batch."""
    return kit.make(
        kit.BACKBONE
        + f"""local = AveragePool <{pool}> (fmap)
              flat = Reshape (local, shape)
              logits = Gemm <transB = 1> (flat, w, b)
              scores = Softmax <axis = 1> (logits)""",
        weights=kit.BACKBONE_WEIGHTS | {"w": (5, 4), "b": (5,)},
        constants={"shape": [1, 4]},
        opset=opset,
    )


@pytest.mark.parametrize(
    "pool",
    [
        "kernel_shape = [8, 8], pads = [0, 0, 1, 1], strides = [8, 8]",
        "kernel_shape = [9, 9], pads = [0, 0, 1, 1]",
        "kernel_shape = [10, 9], pads = [1, 0, 1, 1]",
    ],
)
def test_a_window_that_pads_and_does_not_count_it_is_the_mean_of_the_map(kit, pool):
    model = zoo_like(kit, pool)
    images = kit.images(1, 3, 32, 32)
    (want,), (got,) = kit.run(model, images), kit.run(rewrite(model, to="gap").model, images)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("opset", [9, 13, 17])
def test_gap_takes_any_size_and_is_proved(kit, opset):
    model = zoo_like(kit, opset=opset)
    done = rewrite(model, to="gap")
    onnx.checker.check_model(done.model, full_check=True)
    operators = [node.op_type for node in done.model.graph.node]
    assert operators.count("GlobalAveragePool") == 1
    assert not {"AveragePool", "Reshape"} & set(operators)
    proof = prove_rewrite(model, done.model, SIZES)
    assert proof.ok, proof.message
    assert len(proof.cells) == 4


def test_gap_hands_out_the_mean_of_the_whole_map(kit):
    model = zoo_like(kit)
    features = onnx.ModelProto()
    features.CopyFrom(model)
    del features.graph.node[3:]
    features.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("fmap", 1, None))
    for axis in (2, 3):
        features.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"side_{axis}"
    images = kit.images(1, 3, 45, 61)
    mean = kit.run(features, images)[0].mean((2, 3), dtype=np.float64)
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    logits = mean @ weights["w"].T.astype(np.float64) + weights["b"]
    want = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    (got,) = kit.run(rewrite(model, to="gap").model, images)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


def test_cam_accepts_a_local_window_through_the_same_pass(kit):
    model = zoo_like(kit)
    done = rewrite(model, to="cam")
    assert [output.name for output in done.model.graph.output] == ["scores", "map"]
    proof = prove_rewrite(model, done.model, SIZES)
    assert proof.ok, proof.message


@pytest.mark.parametrize("to", ["gap", "cam"])
def test_the_proof_finds_a_window_that_stayed_local(kit, to):
    model = zoo_like(kit, opset=17)
    done = rewrite(model, to=to)
    node = next(n for n in done.model.graph.node if n.op_type == "GlobalAveragePool")
    node.op_type = "AveragePool"
    node.attribute.append(onnx.helper.make_attribute("kernel_shape", [8, 8]))
    node.attribute.append(onnx.helper.make_attribute("strides", [8, 8]))
    assert not prove_rewrite(model, done.model, SIZES).ok


def test_the_file_says_what_it_takes_and_rewriting_twice_changes_nothing(kit):
    once = rewrite(zoo_like(kit), to="gap")
    found = read_metadata(once.model)
    assert (found.head, found.size, found.classes) == ("gap", Size(32, 32), 5)
    assert found.min_size == Size(3, 3)
    twice = rewrite(once.model, to="gap")
    assert "the file records head gap" in twice.reason
    assert twice.model.SerializeToString() == once.model.SerializeToString()


@pytest.mark.parametrize(
    "pool",
    [
        "kernel_shape = [4, 4], strides = [4, 4]",
        "kernel_shape = [9, 9], pads = [0, 0, 1, 1], count_include_pad = 1",
        "kernel_shape = [8, 8], pads = [1, 1, 0, 0], strides = [8, 8]",
        'kernel_shape = [8, 8], auto_pad = "SAME_UPPER", strides = [8, 8]',
    ],
)
def test_a_window_that_is_not_the_map_stays(kit, pool):
    model = kit.make(
        kit.BACKBONE + f"scores = AveragePool <{pool}> (fmap)",
        weights=kit.BACKBONE_WEIGHTS,
        outputs="float[1, 4, a, b] scores",
    )
    before = model.SerializeToString()
    passed = local_pool_to_global(model)
    assert "no pooling has a window over its whole map at 32x32" in passed.reason
    assert model.SerializeToString() == before
    with pytest.raises(DeclinedError, match="no pooling has a window over its whole map"):
        rewrite(model, to="gap")


def test_gap_has_no_map_to_choose(kit):
    with pytest.raises(UsageError, match="or give --to cam"):
        rewrite(zoo_like(kit), to="gap", output="both")


HEADS = {
    "two outputs": (
        """local = AveragePool <kernel_shape = [8, 8]> (fmap)
           flat = Flatten (local)
           scores = Gemm <transB = 1> (flat, w, b)
           age = Gemm <transB = 1> (flat, v)""",
        {"w": (5, 4), "b": (5,), "v": (1, 4)},
        "float[1, 5] scores, float[1, 1] age",
    ),
    "concat pool": (
        """high = MaxPool <kernel_shape = [8, 8], strides = [8, 8]> (fmap)
           mean = AveragePool <kernel_shape = [8, 8]> (fmap)
           both = Concat <axis = 1> (high, mean)
           flat = Reshape (both, shape)
           scores = Gemm <transB = 1> (flat, w)""",
        {"w": (5, 8)},
        "float[1, 5] scores",
    ),
    "generalised mean": (
        """size = Abs (fmap)
           cubes = Pow (size, three)
           mean = AveragePool <kernel_shape = [8, 8]> (cubes)
           root = Pow (mean, third)
           flat = Flatten (root)
           scores = Gemm <transB = 1> (flat, w)""",
        {"w": (5, 4)},
        "float[1, 5] scores",
    ),
    "squeeze and excite": (
        """mean = AveragePool <kernel_shape = [8, 8]> (fmap)
           gate = Conv (mean, g)
           gates = Sigmoid (gate)
           more = Mul (fmap, gates)
           last = AveragePool <kernel_shape = [8, 8]> (more)
           flat = Flatten (last)
           scores = Gemm <transB = 1> (flat, w)""",
        {"w": (5, 4), "g": (4, 4, 1, 1)},
        "float[1, 5] scores",
    ),
    "no linear layer": (
        """mean = AveragePool <kernel_shape = [8, 8]> (fmap)
           flat = Flatten (mean)
           length = ReduceL2 <axes = [1], keepdims = 1> (flat)
           scores = Div (flat, length)""",
        {},
        "float[1, 4] scores",
    ),
}


def pooled_head(kit, name):
    body, weights, outputs = HEADS[name]
    return kit.make(
        kit.BACKBONE + body,
        weights=kit.BACKBONE_WEIGHTS | weights,
        constants={"shape": [1, 8]},
        floats={"three": [3.0], "third": [1 / 3]},
        outputs=outputs,
        opset=13,
    )


@pytest.mark.parametrize("name", HEADS)
def test_gap_needs_no_class_map_and_no_linear_layer(kit, name):
    model = pooled_head(kit, name)
    done = rewrite(model, to="gap")
    operators = [node.op_type for node in done.model.graph.node]
    assert operators.count("MaxPool") == 1, "that of the backbone slides"
    assert "AveragePool" not in operators
    assert "GlobalAveragePool" in operators
    proof = prove_rewrite(model, done.model, SIZES)
    assert proof.ok, proof.message
    assert {str(cell.size) for cell in proof.cells} == {"32x32", "45x61", "70x39"}


@pytest.mark.parametrize("name", HEADS)
def test_the_proof_finds_one_window_of_several_that_stayed_local(kit, name):
    model = pooled_head(kit, name)
    done = rewrite(model, to="gap")
    node = next(n for n in done.model.graph.node if n.op_type.startswith("Global"))
    node.op_type = node.op_type.removeprefix("Global")
    node.attribute.append(onnx.helper.make_attribute("kernel_shape", [8, 8]))
    assert not prove_rewrite(model, done.model, SIZES).ok


def test_gap_of_a_graph_that_pools_globally_frees_what_it_declares(kit):
    model = kit.make(
        kit.BACKBONE
        + """high = GlobalMaxPool (fmap)
             mean = GlobalAveragePool (fmap)
             both = Concat <axis = 1> (high, mean)
             flat = Reshape (both, shape)
             scores = Gemm <transB = 1> (flat, w)""",
        weights=kit.BACKBONE_WEIGHTS | {"w": (5, 8)},
        constants={"shape": [1, 8]},
    )
    done = rewrite(model, to="gap")
    assert done.applied
    (got,) = kit.run(done.model, kit.images(2, 3, 45, 61))
    assert got.shape == (2, 5)
    proof = prove_rewrite(model, done.model, SIZES)
    assert proof.ok, proof.message
    # No layer was changed: at other sizes both sides would be the same numbers.
    assert {str(cell.size) for cell in proof.cells} == {"32x32"}


@pytest.mark.parametrize(
    ("pool", "why"),
    [
        ("down = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (fmap)", "slides before"),
        ("down, places = MaxPool <kernel_shape = [8, 8]> (fmap)", "its places are read"),
    ],
    ids=["one of several steps", "with places"],
)
def test_a_maximum_that_is_a_step_down_or_hands_out_places_stays(kit, pool, why):
    down = "first = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (image)\n"
    body = kit.BACKBONE.replace("(image", "(first") if "places" not in pool else kit.BACKBONE
    model = kit.make(
        (down if "places" not in pool else "") + body + pool + "\nscores = Relu (down)",
        weights=kit.BACKBONE_WEIGHTS,
        outputs="float[1, 4, a, b] scores",
    )
    size = Size(16, 16) if "places" not in pool else None
    assert not local_pool_to_global(model, size).applied, why
