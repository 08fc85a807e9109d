"""The shape of every operator that a classifier uses, at random sizes, is the one a runtime gives.

Where PyTorch's arithmetic and the runtime's differ on purpose (`ceil_mode`), `test_shapes.py` holds
ours against PyTorch.
"""

from __future__ import annotations

import random

import pytest

from anysize.sizes import Size
from anysize.surgery import infer_shapes

OPERATORS = {
    "conv-same-upper": 'y = Conv <auto_pad="SAME_UPPER", strides=[2, 3]> (image, w)',
    "conv-same-lower": 'y = Conv <auto_pad="SAME_LOWER", strides=[3, 2]> (image, w)',
    "conv-valid": 'y = Conv <auto_pad="VALID", strides=[2, 2]> (image, w)',
    "conv-dilated": "y = Conv <dilations=[2, 3], pads=[1, 0, 2, 3]> (image, w)",
    "conv-depthwise": "y = Conv <group=3, strides=[2, 1]> (image, depthwise)",
    "conv-transposed": "y = ConvTranspose <strides=[2, 3], pads=[1, 0, 1, 1]> (image, up)",
    "conv-transposed-wide": "y = ConvTranspose <strides=[2, 2], output_padding=[1, 1]> (image, up)",
    "max-pool": "y = MaxPool <kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1]> (image)",
    "max-pool-same": 'y = MaxPool <kernel_shape=[3, 3], auto_pad="SAME_LOWER"> (image)',
    "max-pool-dilated": "y = MaxPool <kernel_shape=[2, 3], dilations=[2, 2]> (image)",
    "average-pool": "y = AveragePool <kernel_shape=[3, 3], strides=[2, 3]> (image)",
    "lp-pool": "y = LpPool <kernel_shape=[2, 2], strides=[2, 1]> (image)",
    "global-lp-pool": "y = GlobalLpPool (image)",
    "lrn": "y = LRN <size=3> (image)",
    "instance-norm": "y = InstanceNormalization (image, three, three)",
    "batch-norm": "y = BatchNormalization (image, three, three, three, positive)",
    "prelu": "y = PRelu (image, slope)",
    "resize-scales": 'y = Resize <mode="linear"> (image, none, scales)',
    "resize-sizes": 'y = Resize <mode="nearest"> (image, none, none, sizes)',
    "pad-constant": "y = Pad (image, pads)",
    "pad-reflect": 'y = Pad <mode="reflect"> (image, pads)',
    "slice": "y = Slice (image, starts, ends, axes, steps)",
    "slice-backwards": "y = Slice (image, last, before, width_axis, minus)",
    "split": "y, rest = Split <axis=1> (image, halves)",
    "gather": "y = Gather <axis=1> (image, order)",
    "expand": "y = Expand (image, five)",
    "tile": "y = Tile (image, repeats)",
    "depth-to-space": "z = Concat <axis=1> (image, image, image, image) "
    "y = DepthToSpace <blocksize=2> (z)",
    "space-to-depth": "z = Concat <axis=2> (image, image) z2 = Concat <axis=3> (z, z) "
    "y = SpaceToDepth <blocksize=2> (z2)",
    "reduce-mean": "y = ReduceMean <axes=[2, 3]> (image)",
    "reduce-max-dropped": "y = ReduceMax <axes=[-1], keepdims=0> (image)",
    "reduce-sum": "y = ReduceSum <keepdims=0> (image, axes)",
    "reduce-l2": "y = ReduceL2 <axes=[1]> (image)",
    "unsqueeze": "y = Unsqueeze (image, ends_axis)",
    "transpose": "y = Transpose <perm=[0, 3, 1, 2]> (image)",
    "arg-max": "z = ArgMax <axis=1, keepdims=0> (image) y = Cast <to=1> (z)",
    "top-k": "y, places = TopK <axis=1> (image, two)",
    "where": "z = Less (image, slope) y = Where (z, image, slope)",
    "matmul": "turned = Transpose <perm=[0, 1, 3, 2]> (image) y = MatMul (image, turned)",
    "shuffle": """sides = Shape (image) zero = Constant <value_ints=[0]> ()
        height = Slice (sides, from2, to3) width = Slice (sides, from3, to4)
        target = Concat <axis=0> (zero, three_groups, one, height, width)
        groups = Reshape (image, target) swapped = Transpose <perm=[0, 2, 1, 3, 4]> (groups)
        back = Concat <axis=0> (zero, three_groups, height, width) y = Reshape (swapped, back)""",
    "resize-to-half": """sides = Shape <start=2> (image) half = Div (sides, two)
        batch = Shape <end=2> (image) target = Concat <axis=0> (batch, half)
        y = Resize <mode="nearest"> (image, none, none, target)""",
}
OLD = {
    "upsample-9": (9, 'y = Upsample <mode="nearest"> (image, scales)'),
    "pad-2": (9, "y = Pad <pads=[0, 0, 1, 2, 0, 0, 3, 0]> (image)"),
    "slice-1": (9, "y = Slice <starts=[1, -5], ends=[999, -1], axes=[2, 3]> (image)"),
    "split-2": (9, "y, rest = Split <axis=1, split=[1, 2]> (image)"),
    "unsqueeze-1": (9, "y = Unsqueeze <axes=[0, 5]> (image)"),
    "squeeze-1": (9, "z = Unsqueeze <axes=[0]> (image) y = Squeeze <axes=[0]> (z)"),
    "reduce-sum-1": (9, "y = ReduceSum <axes=[1, 3], keepdims=0> (image)"),
    "clip-6": (9, "y = Clip <max=6.0, min=0.0> (image)"),
    "reduce-mean-18": (18, "y = ReduceMean <keepdims=0> (image, axes)"),
    "softmax-9": (9, "y = Softmax (image)"),
}
WEIGHTS = {"w": (4, 3, 3, 2), "depthwise": (6, 1, 3, 3), "up": (3, 2, 3, 3), "slope": (3, 1, 1)}
FLOATS = {"none": [], "scales": [1, 1, 2, 1.5], "three": [1, 2, 3], "positive": [1, 1, 1]}
CONSTANTS = {
    "sizes": [1, 3, 9, 5], "pads": [0, 0, 1, 2, 0, 0, 3, 0], "starts": [1, -6], "ends": [99, -1],
    "axes": [2, 3], "steps": [2, 1], "halves": [1, 2], "order": [2, 0, 0, 1],
    "five": [2, 1, 1, 1, 1], "repeats": [1, 2, 1, 3], "ends_axis": [0, 5], "two": [2], "one": [1],
    "from2": [2], "to3": [3], "from3": [3], "to4": [4], "three_groups": [3], "last": [-1],
    "before": [-100], "width_axis": [3], "minus": [-2],
}  # fmt: skip


# Rank of the result where it is not the image's.
RANKS = {
    "expand": 5, "reduce-max-dropped": 3, "reduce-sum": 2, "unsqueeze": 6, "arg-max": 3,
    "unsqueeze-1": 6, "reduce-sum-1": 2, "reduce-mean-18": 2,
}  # fmt: skip


def graph_of(kit, name):
    """Build a graph around an operator, with the parameters that it names."""
    opset, body = OLD.get(name) or (17, OPERATORS[name])
    axes = ", ".join("abcdef"[: RANKS.get(name, 4)])
    used = {word.strip("(),") for word in body.split()}
    return kit.make(
        body,
        weights={name: dims for name, dims in WEIGHTS.items() if name in used},
        floats={name: values for name, values in FLOATS.items() if name in used},
        constants={name: values for name, values in CONSTANTS.items() if name in used},
        image="1, 3, h, w",
        outputs=f"float[{axes}] y",
        opset=opset,
    )


def compare(kit, model, seed):
    """Hold the shapes at four sizes against ONNX Runtime's; returns them."""
    rng = random.Random(seed)
    found = set()
    for _ in range(4):
        size = Size(rng.randint(6, 40), rng.randint(6, 40))
        (output,) = kit.run(model, kit.images(1, 3, size.height, size.width))
        assert infer_shapes(model, size)["y"] == output.shape, size
        found.add(output.shape)
    return found


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_has_the_shape_that_a_runtime_gives_it(kit, name):
    compare(kit, graph_of(kit, name), name)


@pytest.mark.parametrize("name", OLD)
def test_an_operator_of_another_opset_has_its_shape_too(kit, name):
    compare(kit, graph_of(kit, name), name)


def test_a_wrong_shape_would_be_noticed(kit, monkeypatch):
    from anysize.surgery.shapes import rules

    monkeypatch.setitem(rules._RULES, "MaxPool", lambda *_: (1, 3, 5, 5))
    with pytest.raises(AssertionError):
        compare(kit, graph_of(kit, "max-pool"), 0)
