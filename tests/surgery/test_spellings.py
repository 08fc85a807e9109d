"""Every spelling of a fully connected head, generated, rewritten, and proved window by window."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import ml_dtypes
import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from anysize.sizes import Size
from anysize.surgery import rewrite
from anysize.surgery.skeleton import check
from anysize.validators.proof import prove_rewrite

# conv 3×3 s2 p1 and pool 2×2: a 16×12 image gives a 4-channel 4×3 map.
CHANNELS, HEIGHT, WIDTH, HIDDEN, CLASSES = 4, 4, 3, 6, 5
TRAINED = Size(16, 12)
LARGER = (Size(19, 26), Size(31, 17))
FLAT = CHANNELS * HEIGHT * WIDTH


@dataclass
class Net:
    """A graph while it is being written."""

    opset: int = 17
    batch: int | str = 1
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)
    outputs: list[tuple[str, int]] = field(default_factory=list)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(11))
    # Whether weights stand in the list of inputs, too, as before IR version 4.
    lists_weights: bool = False

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        number = len(self.nodes)
        made = [f"{op.lower()}{number}_{place}" for place in range(outputs)]
        node = onnx.helper.make_node(op, inputs, made, name=f"{op}_{number}", **attributes)
        self.nodes.append(node)
        return made[0]

    def store(self, array: np.ndarray) -> str:
        name = f"c{len(self.tensors)}"
        self.tensors.append(onnx.numpy_helper.from_array(np.asarray(array), name))
        return name

    def ints(self, *numbers: int) -> str:
        return self.store(np.array(numbers, np.int64))

    def normal(self, *dims: int) -> np.ndarray:
        fan_in = max(1, int(np.prod(dims)) // CLASSES)
        return (self.rng.standard_normal(dims) / np.sqrt(fan_in)).astype(np.float32)

    def squeeze(self, x: str, *axes: int, op: str = "Squeeze") -> str:
        if self.opset < 13:
            return self.add(op, x, axes=list(axes))
        return self.add(op, x, self.ints(*axes))

    def model(self) -> onnx.ModelProto:
        image = onnx.helper.make_tensor_value_info(
            "image", 1, (self.batch, 3, TRAINED.height, TRAINED.width)
        )
        inputs = [image]
        if self.lists_weights:
            inputs += [
                onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
                for t in self.tensors
            ]
        outputs = [
            onnx.helper.make_tensor_value_info(name, kind, None) for name, kind in self.outputs
        ]
        graph = onnx.helper.make_graph(self.nodes, "net", inputs, outputs, self.tensors)
        model = onnx.helper.make_model(
            graph,
            opset_imports=[onnx.helper.make_opsetid("", self.opset)],
            ir_version=3 if self.lists_weights else 8,
        )
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
        for output, typed in zip(model.graph.output, inferred.graph.output, strict=True):
            if typed.type.tensor_type.HasField("shape"):
                output.CopyFrom(typed)
            else:  # a Reshape to a computed shape is beyond onnx's inference
                maker = next(node for node in self.nodes if output.name in node.output)
                drops = any(a.name == "keepdims" and not a.i for a in maker.attribute)
                sides = ["rows"] if drops else ["rows", "columns"]
                kind = output.type.tensor_type.elem_type
                output.CopyFrom(onnx.helper.make_tensor_value_info(output.name, kind, sides))
        onnx.checker.check_model(model, full_check=True)
        return model


Piece = Callable[[Net, str], str]


def backbone(net: Net) -> str:
    weight, bias = net.store(net.normal(CHANNELS, 3, 3, 3)), net.store(net.normal(CHANNELS))
    conv = net.add("Conv", "image", weight, bias, strides=[2, 2], pads=[1, 1, 1, 1])
    return net.add("MaxPool", net.add("Relu", conv), kernel_shape=[2, 2], strides=[2, 2])


# --- the flatten: (batch, C, h, w) → (batch, K) ----------------------------------------------


def flat_reshape(*target: int) -> Piece:
    return lambda net, x: net.add("Reshape", x, net.ints(*target))


def flat_gather(net: Net, x: str) -> str:
    batch = net.add("Gather", net.add("Shape", x), net.ints(0), axis=0)
    return net.add("Reshape", x, net.add("Concat", batch, net.ints(-1), axis=0))


def flat_scalar_gather(net: Net, x: str) -> str:
    zero = net.store(np.array(0, np.int64))
    batch = net.add("Gather", net.add("Shape", x), zero, axis=0)
    row = net.squeeze(batch, 0, op="Unsqueeze")
    return net.add("Reshape", x, net.add("Concat", row, net.ints(FLAT), axis=0))


def flat_slice_mul(net: Net, x: str) -> str:
    shape = net.add("Shape", x)
    sides = [net.add("Slice", shape, net.ints(i), net.ints(i + 1)) for i in range(4)]
    features = net.add("Mul", net.add("Mul", sides[1], sides[2]), sides[3])
    return net.add("Reshape", x, net.add("Concat", sides[0], features, axis=0))


def flat_unsqueezed(net: Net, x: str) -> str:
    return net.add("Reshape", net.squeeze(x, 4, op="Unsqueeze"), net.ints(0, -1))


def flat_twice(net: Net, x: str) -> str:
    rows = net.add("Reshape", x, net.ints(0, CHANNELS, -1))
    return net.add("Reshape", rows, net.ints(0, FLAT))


def flat_through_rank_four(net: Net, x: str) -> str:
    return flat_reshape(0, -1)(net, net.add("Reshape", x, net.ints(0, CHANNELS, -1, 1)))


def flat_and_again(net: Net, x: str) -> str:
    return net.add("Flatten", net.add("Reshape", net.add("Flatten", x), net.ints(-1, FLAT)))


def nhwc(net: Net, x: str) -> str:
    return net.add("Transpose", x, perm=[0, 2, 3, 1])


def flat_nhwc(net: Net, x: str) -> str:
    return net.add("Reshape", nhwc(net, x), net.ints(-1, FLAT))


def flat_nhwc_flatten(net: Net, x: str) -> str:
    return net.add("Flatten", net.add("Relu", nhwc(net, x)), axis=1)


def flat_nhwc_scaled(net: Net, x: str) -> str:
    gain = net.add("Mul", nhwc(net, x), net.store(1 + net.normal(CHANNELS)))
    shift = net.add("Add", net.store(net.normal(1, 1, CHANNELS)), gain)
    return net.add("Reshape", net.add("Relu", shift), net.ints(0, -1))


def flat_nhwc_scaled_on_map(net: Net, x: str) -> str:
    gain = net.add("Mul", x, net.store(1 + net.normal(CHANNELS, 1, 1)))
    return flat_nhwc(net, gain)


def flat_sides_swapped(net: Net, x: str) -> str:
    return net.add("Flatten", net.add("Transpose", x, perm=[0, 1, 3, 2]))


FLATTENS: dict[str, Piece] = {
    "flatten": lambda net, x: net.add("Flatten", x),
    "flatten-axis-minus-three": lambda net, x: net.add("Flatten", x, axis=-3),
    "reshape-zero-minus-one": flat_reshape(0, -1),
    "reshape-minus-one-k": flat_reshape(-1, FLAT),
    "shape-gather-concat": flat_gather,
    "shape-scalar-gather-unsqueeze": flat_scalar_gather,
    "shape-slice-mul-concat": flat_slice_mul,
    "unsqueeze-reshape": flat_unsqueezed,
    "reshape-reshape": flat_twice,
    "reshape-through-rank-four": flat_through_rank_four,
    "flatten-reshape-flatten": flat_and_again,
    "nhwc-reshape": flat_nhwc,
    "nhwc-relu-flatten": flat_nhwc_flatten,
    "nhwc-mul-add-relu-reshape": flat_nhwc_scaled,
    "mul-nhwc-reshape": flat_nhwc_scaled_on_map,
    "sides-swapped": flat_sides_swapped,
}
BAKED: dict[str, Piece] = {
    "reshape-one-k": flat_reshape(1, FLAT),
    "reshape-one-minus-one": flat_reshape(1, -1),
    "reshape-allowzero": lambda net, x: net.add("Reshape", x, net.ints(-1, FLAT), allowzero=1),
}

# --- the weight: where its elements are -------------------------------------------------------

Hide = Callable[[Net, np.ndarray], str]


def quantised(array: np.ndarray, axis: int | None) -> tuple[np.ndarray, np.ndarray]:
    others = None if axis is None else tuple(i for i in range(array.ndim) if i != axis)
    scale = (np.abs(array).max(axis=others) / 127).astype(np.float32)
    spread = scale if axis is None else np.expand_dims(scale, others or ())
    return np.clip(np.round(array / spread), -127, 127).astype(np.int8), scale


def hide_dequantised(axis: int | None, *, negative: bool = False) -> Hide:
    def hide(net: Net, array: np.ndarray) -> str:
        # One scale a unit, wherever the units lie.
        units = None if axis is None else int(np.argmin(array.shape))
        numbers, scale = quantised(array, units)
        zero = net.store(np.zeros(scale.shape, np.int8))
        place = {} if units is None else {"axis": units - (array.ndim if negative else 0)}
        return net.add("DequantizeLinear", net.store(numbers), net.store(scale), zero, **place)

    return hide


def hide_fake_quantised(net: Net, array: np.ndarray) -> str:
    units = int(np.argmin(array.shape))
    _, scale = quantised(array, units)
    factor, zero = net.store(scale), net.store(np.zeros(scale.shape, np.int8))
    numbers = net.add("QuantizeLinear", net.store(array), factor, zero, axis=units)
    return net.add("DequantizeLinear", numbers, factor, zero, axis=units)


def behind_transpose(inner: Hide) -> Hide:
    return lambda net, array: net.add(
        "Transpose", inner(net, np.ascontiguousarray(array.T)), perm=[1, 0]
    )


def hide_transposed_then_dequantised(net: Net, array: np.ndarray) -> str:
    units = int(np.argmin(array.shape))
    numbers, scale = quantised(array, units)
    turned = net.add("Transpose", net.store(np.ascontiguousarray(numbers.T)))
    return net.add("DequantizeLinear", turned, net.store(scale), axis=units)


def hide_in_constant(net: Net, array: np.ndarray) -> str:
    return net.add("Constant", value=onnx.numpy_helper.from_array(array))


def hide_as(kind: type) -> Hide:
    return lambda net, array: net.add("Cast", net.store(array.astype(kind)), to=1)


def hide_reshaped(net: Net, array: np.ndarray) -> str:
    """As CNTK writes it: the weight keeps the axes of the map that it reads."""
    stored = array.reshape(-1, 2, array.shape[1]) if array.shape[0] % 2 == 0 else array[None]
    return net.add("Reshape", net.store(stored), net.ints(*array.shape))


def hide_squeezed(net: Net, array: np.ndarray) -> str:
    return net.squeeze(net.store(array[:, :, None, None]), 2, 3)


def hide_unsqueezed(net: Net, array: np.ndarray) -> str:
    row = net.squeeze(net.store(array.reshape(-1)), 0, op="Unsqueeze")
    return net.add("Reshape", row, net.ints(*array.shape))


PLAIN: dict[str, Hide] = {
    "initializer": lambda net, array: net.store(array),
    "constant": hide_in_constant,
    "transpose": behind_transpose(lambda net, array: net.store(array)),
    "transpose-of-identity-of-constant": behind_transpose(
        lambda net, array: net.add("Identity", hide_in_constant(net, array))
    ),
    "identity": lambda net, array: net.add("Identity", net.store(array)),
    "cast-from-float16": hide_as(np.float16),
    "cast-from-bfloat16": hide_as(ml_dtypes.bfloat16),
    "cast-from-double": hide_as(np.float64),
    "reshape": hide_reshaped,
    "squeeze": hide_squeezed,
    "unsqueeze-reshape": hide_unsqueezed,
}
QUANTISED: dict[str, Hide] = {
    "dequantize": hide_dequantised(None),
    "dequantize-each-unit": hide_dequantised(0),
    "dequantize-each-unit-negative-axis": hide_dequantised(0, negative=True),
    "dequantize-transpose": behind_transpose(hide_dequantised(0)),
    "transpose-dequantize": hide_transposed_then_dequantised,
    "quantize-dequantize": hide_fake_quantised,
}
WEIGHTS = PLAIN | QUANTISED

# --- the layer: (batch, K) → (batch, units) ---------------------------------------------------

Dense = Callable[[Net, str, int, int, Hide], str]


def gemm(
    *,
    left: bool = False,
    turn_data: bool = False,
    turn_weight: bool = True,
    bias: tuple[int, ...] | None = None,
    **attributes: float,
) -> Dense:
    """A Gemm with any side transposed; bias dims in units (-1 for the number of units)."""

    def build(net: Net, x: str, features: int, units: int, hide: Hide) -> str:
        stored_first = turn_weight != left
        dims = (units, features) if stored_first else (features, units)
        weight = hide(net, net.normal(*dims))
        data = net.add("Transpose", x, perm=[1, 0]) if turn_data != left else x
        inputs = [weight, data] if left else [data, weight]
        turn_left, turn_right = (turn_weight, turn_data) if left else (turn_data, turn_weight)
        if bias is not None:
            sides = [units if side == -1 else side for side in bias]
            inputs.append(net.store(net.rng.standard_normal(sides).astype(np.float32)))
        out = net.add("Gemm", *inputs, transA=int(turn_left), transB=int(turn_right), **attributes)
        return net.add("Transpose", out) if left else out

    return build


def matmul(after: str = "", *, bias_first: bool = False, dims: tuple[int, ...] = (-1,)) -> Dense:
    def build(net: Net, x: str, features: int, units: int, hide: Hide) -> str:
        out = net.add("MatMul", x, hide(net, net.normal(features, units)))
        if not after:
            return out
        sides = [units if side == -1 else side for side in dims]
        bias = net.store(net.rng.standard_normal(sides).astype(np.float32))
        return net.add(after, bias, out) if bias_first else net.add(after, out, bias)

    return build


def matmul_left(net: Net, x: str, features: int, units: int, hide: Hide) -> str:
    out = net.add("MatMul", hide(net, net.normal(units, features)), net.add("Transpose", x))
    bias = net.store(net.rng.standard_normal((units, 1)).astype(np.float32))
    return net.add("Transpose", net.add("Add", out, bias))


def matmul_rank_three(net: Net, x: str, features: int, units: int, hide: Hide) -> str:
    row = net.squeeze(x, 1, op="Unsqueeze")
    return net.squeeze(matmul("Add")(net, row, features, units, hide), 1)


DENSE: dict[str, Dense] = {
    "gemm": gemm(bias=(-1,)),
    "gemm-without-bias": gemm(),
    "gemm-trans-none": gemm(turn_weight=False, bias=(-1,)),
    "gemm-trans-a": gemm(turn_data=True, turn_weight=False, bias=(-1,)),
    "gemm-trans-both": gemm(turn_data=True, bias=(-1,)),
    "gemm-left": gemm(left=True, turn_weight=False, bias=(-1, 1)),
    "gemm-left-trans-a": gemm(left=True, bias=(-1, 1)),
    "gemm-left-trans-b": gemm(left=True, turn_weight=False, turn_data=True),
    "gemm-left-trans-both": gemm(left=True, turn_data=True, bias=(-1, 1)),
    "gemm-alpha-beta": gemm(bias=(-1,), alpha=0.5, beta=3.0),
    "gemm-beta-zero": gemm(bias=(-1,), beta=0.0),
    "gemm-scalar-bias": gemm(bias=()),
    "gemm-one-bias": gemm(bias=(1, 1)),
    "gemm-row-bias": gemm(bias=(1, -1), beta=0.5),
    "matmul": matmul(),
    "matmul-add": matmul("Add"),
    "add-matmul": matmul("Add", bias_first=True, dims=(1, -1)),
    "matmul-sub": matmul("Sub"),
    "sub-matmul": matmul("Sub", bias_first=True),
    "matmul-add-scalar": matmul("Add", dims=()),
    "matmul-left": matmul_left,
    "matmul-rank-three": matmul_rank_three,
}

# --- between the layers -----------------------------------------------------------------------


def normed(net: Net, x: str) -> str:
    parameters = [1 + net.normal(HIDDEN), net.normal(HIDDEN), net.normal(HIDDEN)]
    stored = [net.store(array) for array in (*parameters, np.abs(net.normal(HIDDEN)) + 0.5)]
    return net.add("BatchNormalization", x, *stored)


def normed_rank_three(net: Net, x: str) -> str:
    return net.squeeze(normed(net, net.squeeze(x, 2, op="Unsqueeze")), 2)


def normed_rank_four(net: Net, x: str) -> str:
    wide = net.add("Reshape", x, net.ints(0, HIDDEN, 1, 1))
    return net.add("Flatten", normed(net, wide))


def dropped(net: Net, x: str) -> str:
    if net.opset < 12:
        return net.add("Dropout", x, ratio=0.5)
    training = net.store(np.array(False))
    return net.add("Dropout", x, net.store(np.array(0.5, np.float32)), training, outputs=2)


def scaled(net: Net, x: str) -> str:
    product = net.add("Mul", x, net.store(1 + net.normal(HIDDEN)))
    shifted = net.add("Add", net.store(net.normal(1, HIDDEN)), product)
    return net.add("PRelu", shifted, net.store(net.normal(HIDDEN)))


def silu(net: Net, x: str) -> str:
    return net.add("Mul", net.add("Sigmoid", x), x)


BETWEEN: dict[str, Piece] = {
    "nothing": lambda _net, x: x,
    "relu": lambda net, x: net.add("Relu", x),
    "clip": lambda net, x: net.add("Clip", x, "", net.store(np.array(6, np.float32))),
    "dropout": dropped,
    "batch-norm": normed,
    "batch-norm-rank-three": normed_rank_three,
    "batch-norm-rank-four": normed_rank_four,
    "mul-add-prelu": scaled,
    "silu": silu,
    "identity-neg": lambda net, x: net.add("Neg", net.add("Identity", x)),
    "softmax": lambda net, x: net.add("Softmax", x, axis=1),
}

# --- the end ----------------------------------------------------------------------------------

FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


def ending(op: str = "", kind: int = FLOAT, **attributes: int) -> Callable[[Net, str], None]:
    def end(net: Net, x: str) -> None:
        net.outputs.append((net.add(op, x, **attributes) if op else x, kind))

    return end


def end_in_two(net: Net, x: str) -> None:
    ending("Softmax", axis=1)(net, x)
    ending("ArgMax", INT64, axis=-1, keepdims=0)(net, x)


def end_in_top(net: Net, x: str) -> None:
    best = net.add("TopK", net.add("Softmax", x, axis=-1), net.ints(2), outputs=2, axis=1)
    net.outputs += [(best, FLOAT), (best[:-1] + "1", INT64)]


def end_then(op: str, *target: int) -> Callable[[Net, str], None]:
    def end(net: Net, x: str) -> None:
        scores = net.add("Softmax", x, axis=1)
        more = [net.ints(*target)] if target else []
        net.outputs.append((net.add(op, scores, *more), FLOAT))

    return end


ENDS: dict[str, Callable[[Net, str], None]] = {
    "scores": ending(),
    "softmax": ending("Softmax", axis=1),
    "softmax-last": ending("Softmax", axis=-1),
    "log-softmax": ending("LogSoftmax", axis=1),
    "sigmoid": ending("Sigmoid"),
    "arg-max": ending("ArgMax", INT64, axis=1),
    "arg-max-without-axis": ending("ArgMax", INT64, axis=-1, keepdims=0),
    "softmax-and-arg-max": end_in_two,
    "softmax-top-k": end_in_top,
    "softmax-identity": end_then("Identity"),
    "softmax-reshape": end_then("Reshape", -1, CLASSES),
}


@dataclass(frozen=True)
class Spelling:
    """One choice for each part of a head."""

    flatten: str = "flatten"
    weight: str = "initializer"
    dense: str = "gemm"
    between: str = "relu"
    end: str = "scores"
    opset: int = 17
    batch: int | str = 1
    lists_weights: bool = False

    def build(self) -> onnx.ModelProto:
        net = Net(self.opset, self.batch, lists_weights=self.lists_weights)
        rows = (FLATTENS | BAKED)[self.flatten](net, backbone(net))
        hide, dense = WEIGHTS[self.weight], DENSE[self.dense]
        hidden = BETWEEN[self.between](net, dense(net, rows, FLAT, HIDDEN, hide))
        ENDS[self.end](net, dense(net, hidden, HIDDEN, CLASSES, hide))
        return net.model()


def assert_proved(model: onnx.ModelProto, *, output: str = "map") -> onnx.ModelProto:
    before = model.SerializeToString()
    done = rewrite(model, output=output)
    assert done.applied, done.reason
    assert model.SerializeToString() == before
    check(done.model)
    kinds = {node.op_type for node in done.model.graph.node}
    assert not kinds & {"Gemm", "MatMul", "Reshape", "Shape"} or output != "map"
    proof = prove_rewrite(model, done.model, LARGER, batch=8)
    assert proof.ok, proof.message
    again = rewrite(done.model)
    assert not again.applied
    assert again.model is done.model
    return done.model


DEFAULT = Spelling()
KERAS = Spelling(flatten="nhwc-reshape", dense="matmul-add")
SINGLE = [
    *(replace(DEFAULT, flatten=name) for name in FLATTENS | BAKED if name != "reshape-allowzero"),
    *(replace(DEFAULT, flatten=name, batch="n") for name in FLATTENS),
    *(replace(DEFAULT, weight=name) for name in WEIGHTS),
    *(replace(KERAS, weight=name) for name in WEIGHTS),
    *(replace(DEFAULT, dense=name) for name in DENSE),
    *(replace(DEFAULT, between=name) for name in BETWEEN),
    *(replace(DEFAULT, end=name) for name in ENDS),
    *(replace(DEFAULT, end=name, opset=11) for name in ENDS),
]


def name_of(spelling: Spelling) -> str:
    changed = [
        str(value) for key, value in vars(spelling).items() if value != getattr(DEFAULT, key)
    ]
    return "+".join(changed) or "default"


@pytest.mark.parametrize("spelling", SINGLE, ids=name_of)
def test_every_spelling_is_rewritten_and_equals_the_original_on_every_window(spelling):
    assert_proved(spelling.build())


# The class of a mean over cells hardly varies from one seeded image to another.
MEANT = [name for name in ENDS if not name.startswith("arg-max") and name != "softmax-top-k"]


@pytest.mark.parametrize("end", MEANT)
def test_both_gives_the_outputs_and_the_map_of_the_scores_before_their_end(end):
    model = Spelling(end=end, opset=13).build()
    rewritten = assert_proved(model, output="both")
    *outputs, dense = rewritten.graph.output
    assert [o.name for o in outputs] == [o.name for o in model.graph.output]
    assert dense.name == "map"
    assert [d.dim_param or d.dim_value for d in dense.type.tensor_type.shape.dim] == [
        "batch", CLASSES, "map_height", "map_width",
    ]  # fmt: skip
    made = next(node for node in rewritten.graph.node if "map" in node.output)
    assert made.op_type == "Conv"


@pytest.mark.parametrize("opset", [11, 17], ids=["opset-11", "opset-17"])
@pytest.mark.parametrize("end", MEANT)
def test_the_mean_of_the_scores_goes_through_the_same_end(end, opset):
    model = Spelling(end=end, opset=opset).build()
    rewritten = assert_proved(model, output="logits")
    assert [o.name for o in rewritten.graph.output] == [o.name for o in model.graph.output]


@pytest.mark.parametrize("flatten", ["flatten", "nhwc-reshape"])
def test_weights_listed_among_the_inputs_are_rewritten_with_their_declaration(flatten):
    spelling = Spelling(flatten=flatten, lists_weights=True, opset=9, between="nothing")
    rewritten = rewrite(spelling.build()).model
    check(rewritten)
    listed = {
        i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in rewritten.graph.input
    }
    for tensor in rewritten.graph.initializer:
        assert listed[tensor.name] == list(tensor.dims)


def two_heads(net: Net) -> None:
    rows = net.add("Flatten", backbone(net))
    for units in (3, 2):  # ages, genders
        net.outputs.append((DENSE["gemm"](net, rows, FLAT, units, PLAIN["initializer"]), FLOAT))


def shared_trunk(net: Net) -> None:
    rows = FLATTENS["nhwc-reshape"](net, backbone(net))
    trunk = net.add("Relu", DENSE["matmul-add"](net, rows, FLAT, HIDDEN, PLAIN["initializer"]))
    for dense in ("gemm", "matmul-left"):
        scores = DENSE[dense](net, trunk, HIDDEN, CLASSES, PLAIN["initializer"])
        net.outputs.append((scores, FLOAT))


def depths(net: Net) -> None:
    rows = net.add("Flatten", backbone(net))
    embedding = DENSE["gemm"](net, rows, FLAT, HIDDEN, PLAIN["initializer"])
    net.outputs.append((embedding, FLOAT))
    hidden = net.add("Relu", embedding)
    scores = DENSE["gemm"](net, hidden, HIDDEN, CLASSES, PLAIN["initializer"])
    net.outputs.append((scores, FLOAT))


def tails_of_different_scores(net: Net) -> None:
    two_heads(net)
    (ages, _), (genders, _) = net.outputs
    net.outputs = []
    ending("Softmax", axis=1)(net, ages)
    ending()(net, ages)
    ending("LogSoftmax", axis=1)(net, genders)


def shared_weight(net: Net) -> None:
    rows = net.add("Flatten", backbone(net))
    weight = net.store(net.normal(CLASSES, FLAT))
    for x in (rows, net.add("Neg", rows)):
        net.outputs.append((net.add("Gemm", x, weight, transB=1), FLOAT))


def quantised_activations(net: Net) -> None:
    rows = net.add("Flatten", backbone(net))
    hidden = DENSE["gemm"](net, rows, FLAT, HIDDEN, PLAIN["initializer"])
    scale, zero = net.store(np.array(2.0**-6, np.float32)), net.store(np.array(0, np.int8))
    pair = net.add("QuantizeLinear", hidden, scale, zero)
    back = net.add("DequantizeLinear", pair, scale, zero)
    net.outputs.append((DENSE["gemm"](net, back, HIDDEN, CLASSES, PLAIN["initializer"]), FLOAT))


def dense_on_every_position(net: Net) -> None:
    mixed = net.add("MatMul", nhwc(net, backbone(net)), net.store(net.normal(CHANNELS, HIDDEN)))
    rows = net.add("Reshape", net.add("Relu", mixed), net.ints(0, -1))
    features = HIDDEN * HEIGHT * WIDTH
    net.outputs.append((DENSE["gemm"](net, rows, features, CLASSES, PLAIN["initializer"]), FLOAT))


@pytest.mark.parametrize("output", ["map", "logits", "both"])
@pytest.mark.parametrize(
    "build", [two_heads, shared_trunk, depths, shared_weight, tails_of_different_scores]
)
def test_several_heads_on_one_map_are_each_proved(build, output):
    net = Net()
    build(net)
    assert_proved(net.model(), output=output)


def test_a_dense_layer_on_every_position_is_a_convolution_of_one_cell():
    net = Net()
    dense_on_every_position(net)
    assert_proved(net.model())


def test_quantisation_of_activations_in_the_head_stays():
    net = Net()
    quantised_activations(net)
    model = net.model()
    rewritten = assert_proved(model)
    before = [n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    after = [n for n in rewritten.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert after == before


@pytest.mark.parametrize("weight", QUANTISED)
def test_a_quantised_weight_stays_quantised_with_a_scale_for_each_filter(weight):
    rewritten = rewrite(Spelling(weight=weight).build()).model
    tensors = {tensor.name: tensor for tensor in rewritten.graph.initializer}
    convolutions = [node for node in rewritten.graph.node if node.op_type == "Conv"][1:]
    made = {node.output[0]: node for node in rewritten.graph.node}
    for convolution in convolutions:
        node = made[convolution.input[1]]
        assert node.op_type == "DequantizeLinear"
        scale = tensors[node.input[1]]
        source = made[node.input[0]].input[0] if node.input[0] in made else node.input[0]
        if np.prod(scale.dims) > 1:
            assert list(scale.dims) == [tensors[source].dims[0]]
            assert next(a.i for a in node.attribute if a.name == "axis") == 0


@pytest.mark.parametrize("weight", ["initializer", "constant", "identity", "reshape", "squeeze"])
def test_what_can_stay_in_place_is_not_moved(weight):
    trans_b = Spelling(weight=weight)
    assert rewrite(trans_b.build()).moved == ()


@pytest.mark.parametrize("weight", ["transpose", "initializer"])
def test_what_must_move_says_why(weight):
    moved = rewrite(Spelling(weight=weight, flatten="nhwc-reshape", dense="matmul").build()).moved
    assert moved
    assert all("stores its weight" in reason for reason in moved)


@pytest.mark.parametrize("kind", [np.float64, np.float16], ids=["double", "half"])
def test_other_precisions_are_rewritten_alike(kind):
    from onnx.reference import ReferenceEvaluator

    model = Spelling().build()
    plain = rewrite(model).model
    code = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            tensor.CopyFrom(onnx.numpy_helper.from_array(array.astype(kind), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = code
    rewritten = rewrite(model).model
    check(rewritten)
    images = np.random.default_rng(0).standard_normal((1, 3, 19, 26))
    found = ReferenceEvaluator(rewritten).run(None, {"image": images.astype(kind)})[0]
    expected = ReferenceEvaluator(plain).run(None, {"image": images.astype(np.float32)})[0]
    # Half precision rounds each of a few hundred products to 11 bits.
    tolerance = 1e-5 if kind is np.float64 else 2e-2
    assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()


def test_what_is_not_the_head_stays_byte_for_byte():
    model = Spelling(end="softmax").build()
    model.doc_string, model.graph.doc_string = "a model", "a graph"
    for owner in (model, model.graph, model.graph.node[0], model.graph.node[4]):
        entry = owner.metadata_props.add()
        entry.key, entry.value = "made", "by hand"
    model.graph.node[0].doc_string = "the first convolution"
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 2))
    unused = onnx.numpy_helper.from_array(np.arange(3), "unused")
    model.graph.initializer.append(unused)
    rewritten = rewrite(model).model
    assert list(rewritten.graph.node[:3]) == list(model.graph.node[:3])
    assert rewritten.opset_import == model.opset_import
    assert (rewritten.doc_string, rewritten.graph.doc_string) == ("a model", "a graph")
    assert rewritten.metadata_props[0] == model.metadata_props[0]
    assert rewritten.graph.metadata_props == model.graph.metadata_props
    assert rewritten.graph.node[3].metadata_props == model.graph.node[4].metadata_props
    names = [tensor.name for tensor in model.graph.initializer]
    assert [tensor.name for tensor in rewritten.graph.initializer] == names
    assert rewritten.graph.initializer[-1] == unused


SABOTAGES = {
    "rows-for-columns": lambda array: array.reshape(HIDDEN, CHANNELS, WIDTH, HEIGHT).swapaxes(2, 3),
    "channels-last-kept": lambda array: array.reshape(HIDDEN, HEIGHT, WIDTH, CHANNELS).transpose(
        0, 3, 1, 2
    ),
    "one-filter-off": lambda array: np.roll(array, 1, axis=0),
}


@pytest.mark.parametrize("sabotage", SABOTAGES)
def test_a_wrong_order_of_the_weight_is_seen_by_the_proof(sabotage):
    model = Spelling(flatten="nhwc-reshape").build()
    rewritten = rewrite(model).model
    kernel = next(t for t in rewritten.graph.initializer if list(t.dims) == [6, 4, 4, 3])
    wrong = SABOTAGES[sabotage](onnx.numpy_helper.to_array(kernel))
    kernel.raw_data = np.ascontiguousarray(wrong).tobytes()
    assert not prove_rewrite(model, rewritten, LARGER, batch=2).ok


def fits(spelling: Spelling) -> bool:
    """Leave out what ONNX itself does not have, and weights that no dense layer can hold."""
    if spelling.batch == "n" and spelling.flatten in BAKED:
        return False
    if "alpha" in spelling.dense or "beta" in spelling.dense:
        return not spelling.weight.startswith("cast") and "quantize" not in spelling.weight
    return True


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.filter_too_much],
)
@given(
    st.builds(
        Spelling,
        flatten=st.sampled_from(sorted(FLATTENS)),
        weight=st.sampled_from(sorted(WEIGHTS)),
        dense=st.sampled_from(sorted(DENSE)),
        between=st.sampled_from(sorted(BETWEEN)),
        end=st.sampled_from([e for e in MEANT if "arg-max" not in e]),
        opset=st.sampled_from([17, 20, 21]),
        batch=st.sampled_from([1, "n"]),
    ).filter(fits)
)
def test_any_combination_of_spellings_is_rewritten_right(spelling):
    assert_proved(spelling.build())


@pytest.mark.slow
@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("flatten", FLATTENS)
def test_every_weight_behind_every_flatten_in_every_layer(flatten, weight):
    for dense, opset in itertools.product(DENSE, (17, 21)):
        spelling = Spelling(flatten=flatten, weight=weight, dense=dense, opset=opset, batch="n")
        if fits(spelling):
            assert_proved(spelling.build())
