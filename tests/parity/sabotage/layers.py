"""Wrong layers: weights, activations, normalisations, precision."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from sabotage.entry import Sabotage
from sabotage.graph import Graph
from sabotage.twins import Photo

from anysize.sizes import Size
from anysize.validators import Verdict

__all__ = ["LAYERS"]

Array = NDArray[np.generic]
Edit = Callable[[Graph], None]


def weights(name: str, change: Callable[[Array], Array]) -> Edit:
    return lambda graph: graph.replace(name, change(graph.weight(name)))


def one_weight(array: Array) -> Array:
    changed = array.copy()
    changed.flat[np.abs(array).argmax()] *= 1 + 1e-4
    return changed


def outputs_scaled(graph: Graph) -> None:
    factor = graph.constant(1 + 2e-5)
    graph.splice("logits", lambda logits: graph.add("Mul", logits, factor))


def before_flatten(*order: int) -> Edit:
    def spoil(graph: Graph) -> None:
        node = graph.node("Flatten")
        graph.splice(node.input[0], lambda pooled: graph.add("Transpose", pooled, perm=order))

    return spoil


def on_the_image(operator: str, *constants: object) -> Edit:
    """Put an operator between the image and the network."""

    def spoil(graph: Graph) -> None:
        made = [graph.constant(values) for values in constants]
        graph.splice("input", lambda image: graph.add(operator, image, *made))

    return spoil


def without_relu(graph: Graph) -> None:
    graph.turn(graph.node("Relu", -1), "Identity")


def relu_up_to_six(graph: Graph) -> None:
    limits = graph.constant(0.0), graph.constant(6.0)
    graph.splice(graph.node("Relu").output[0], lambda x: graph.add("Clip", x, *limits))


def classes_rolled(graph: Graph) -> None:
    for name in ("classifier.4.weight", "classifier.4.bias"):
        graph.replace(name, np.roll(graph.weight(name), 1, axis=0))


def batch_norm(*, epsilon: float, mean: float = 1.0) -> Edit:
    """Fold the batch normalisation as an exporter would that got it wrong."""

    def spoil(graph: Graph) -> None:
        module = Photo()
        norm = module.norm1
        gain = norm.weight / (norm.running_var + epsilon).sqrt()
        folded = module.conv1.weight * gain[:, None, None, None]
        graph.replace("conv1.weight", folded.detach().numpy())
        shift = norm.bias - mean * norm.running_mean * gain
        graph.replace("conv1.bias", shift.detach().numpy())

    return spoil


def training_mode(graph: Graph) -> None:
    """Normalise by the batch's own statistics, as batch normalisation does while training."""
    norm = Photo().norm1

    def build(maps: str) -> str:
        axes = graph.integers(0, 2, 3)
        centred = graph.add("Sub", maps, graph.add("ReduceMean", maps, axes, keepdims=1))
        variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), axes, keepdims=1)
        scaled = graph.add("Div", centred, graph.add("Sqrt", variance))
        gain, shift = (
            graph.constant(tensor.detach().numpy()[:, None, None])
            for tensor in (norm.weight, norm.bias)
        )
        return graph.add("Add", graph.add("Mul", scaled, gain), shift)

    graph.splice("conv1", build)


def tanh_gelu(graph: Graph) -> None:
    """Put the approximation of Hendrycks and Gimpel in the place of erf(x / √2)."""
    erf = graph.node("Erf")
    before = erf.input[0]

    def build(_: str) -> str:
        cube = graph.add("Mul", before, graph.add("Mul", before, before))
        # √(2/π) · (x + 0.044715 x³), in x/√2
        linear = graph.add("Mul", before, graph.constant(2 / np.sqrt(np.pi)))
        cubic = graph.add("Mul", cube, graph.constant(0.044715 * 4 / np.sqrt(np.pi)))
        return graph.add("Tanh", graph.add("Add", linear, cubic))

    graph.splice(erf.output[0], build)


def sum_instead_of_mean(graph: Graph) -> None:
    """ONNX divides alpha by the size, as PyTorch does; some frameworks do not."""
    node = graph.node("LRN")
    graph.set(node, alpha=5.0)


def through_float16(graph: Graph) -> None:
    def build(maps: str) -> str:
        narrow = graph.add("Cast", maps, to=TensorProto.FLOAT16)
        return graph.add("Cast", narrow, to=TensorProto.FLOAT)

    graph.splice("features.2", build)


def says_half(graph: Graph) -> None:
    """The file claims a precision whose error budget would forgive what is wrong with it."""
    weights("classifier.4.weight", lambda w: w * 1.0001)(graph)
    graph.model.metadata_props.add(key="anysize.precision", value="float16")


def edges_repeated(graph: Graph) -> None:
    """Pad by the border's values and not by zeros."""
    node = graph.node("Conv", -1)
    graph.set(node, pads=[0, 0, 0, 0])
    pads = graph.integers(0, 0, 1, 1, 0, 0, 1, 1)
    graph.splice(node.input[0], lambda maps: graph.add("Pad", maps, pads, mode="edge"))


def corner_ignored(graph: Graph) -> None:
    """The image's first pixel counts as zero."""

    def build(image: str) -> str:
        ends = graph.add("Sub", graph.add("Shape", image, start=2), graph.integers(1))
        pads = graph.add("Concat", graph.integers(0, 0), ends, axis=0)
        corner = graph.add("Pad", graph.constant([[1.0]]), pads)
        return graph.add("Mul", image, graph.add("Sub", graph.constant(1.0), corner))

    graph.splice("input", build)


def alone(size: Size, batch: int) -> bool:
    return batch == 1


def _wrong(name: str, twin: str, what: str, spoil: Edit) -> Sabotage:
    words = ("output 'logits'", "x the budget of")
    return Sabotage(name, twin, what, Verdict.MISMATCH, spoil, words=words)


def _dim(name: str, what: str, spoil: Edit) -> Sabotage:
    """Wrong where values are large, as they are in the images of one cell alone."""
    words = ("on other images, 8 times as bright: output 'logits'",)
    sizes = (Size(33, 20),)
    return Sabotage(
        name, "photo", what, Verdict.MISMATCH, spoil, at=alone, words=words, sizes=sizes
    )


LAYERS = (
    _wrong(
        "flatten order",
        "lenet-adaptive",
        "channels last before Flatten",
        before_flatten(0, 2, 3, 1),
    ),
    _wrong(
        "transposed map",
        "lenet-adaptive",
        "rows and columns swapped at Flatten",
        before_flatten(0, 1, 3, 2),
    ),
    _wrong(
        "dropped linear bias",
        "lenet-adaptive",
        "the last layer's bias is zero",
        weights("classifier.4.bias", np.zeros_like),
    ),
    _wrong(
        "dropped convolution bias",
        "lenet-adaptive",
        "the first layer's bias is zero",
        weights("features.0.bias", np.zeros_like),
    ),
    _wrong(
        "transposed kernel",
        "lenet-adaptive",
        "kernel rows and columns swapped",
        weights("features.3.weight", lambda w: w.swapaxes(2, 3)),
    ),
    _wrong(
        "flipped kernel",
        "lenet-adaptive",
        "convolution for cross-correlation",
        weights("features.3.weight", lambda w: w[:, :, ::-1, ::-1]),
    ),
    _wrong("channel order", "photo", "BGR for RGB", weights("conv1.weight", lambda w: w[:, ::-1])),
    _wrong("dropped ReLU", "lenet-adaptive", "the last activation is left out", without_relu),
    _dim("ReLU6 for ReLU", "an activation ends at 6", relu_up_to_six),
    _wrong(
        "clipped image", "photo", "pixels outside -1…1 are cut", on_the_image("Clip", -1.0, 1.0)
    ),
    _dim(
        "clipped bright image",
        "pixels outside -10…10 are cut",
        on_the_image("Clip", -10.0, 10.0),
    ),
    _wrong("ignored corner", "photo", "the first pixel counts as zero", corner_ignored),
    _wrong("padding", "photo", "edges repeated where zeros belong", edges_repeated),
    _wrong("class order", "lenet-adaptive", "the classes are shifted by one", classes_rolled),
    _wrong(
        "scaled weights",
        "lenet-adaptive",
        "one layer × (1 + 1e-5)",
        weights("classifier.4.weight", lambda w: w * (1 + 1e-5)),
    ),
    _wrong(
        "one weight",
        "lenet-adaptive",
        "a weight changed by 1e-4 of its size",
        weights("features.0.weight", one_weight),
    ),
    _wrong("scaled outputs", "lenet-adaptive", "all logits × (1 + 2e-5)", outputs_scaled),
    _wrong("epsilon", "photo", "BatchNorm with ε = 1e-3 for 1e-5", batch_norm(epsilon=1e-3)),
    _wrong(
        "forgotten mean",
        "photo",
        "BatchNorm folded without its mean",
        batch_norm(epsilon=1e-5, mean=0.0),
    ),
    _wrong("training mode", "photo", "BatchNorm by the batch's own statistics", training_mode),
    _wrong("tanh GELU", "photo", "the tanh approximation for erf", tanh_gelu),
    _wrong("LRN without size", "response", "alpha not divided by the size", sum_instead_of_mean),
    _wrong("float16 inside", "lenet-adaptive", "one tensor through float16", through_float16),
    _wrong(
        "half in name only",
        "lenet-adaptive",
        "float32 weights × 1.0001, declared as float16",
        says_half,
    ),
)
