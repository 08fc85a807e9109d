"""Networks as tf2onnx writes Keras's, beside what they compute, in PyTorch and channels first."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import torch
import torch.nn.functional as F  # noqa: N812
from onnx import TensorProto, helper, numpy_helper

TO_FIRST, TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]
CLASSES = 5


@dataclass(frozen=True)
class Network:
    """What there is before, in and behind the convolutions.

    Attributes:
        channels: Of the image.
        size: Height and width at which it was trained.
        before: Preprocessing of `(batch, height, width, channels)`.
        behind: Preprocessing of `(batch, channels, height, width)`.
        body: Layers, in order.
        head: From the last feature map to the outputs.
        batch: As the file declares it.
        opset: The file's.
    """

    channels: int = 3
    size: tuple[int, int] = (20, 24)
    before: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    body: tuple[str, ...] = ("same", "pool", "valid")
    head: str = "fc"
    batch: str | int = "unk__6"
    opset: int = 13


@dataclass
class Written:
    """The file, and the network in two halves.

    Attributes:
        model: The file.
        features: Maps images, channels first, to the feature map.
        classify: Maps a feature map of the trained size to the outputs.
        map_size: Height and width of that map.
    """

    spec: Network
    model: onnx.ModelProto = field(init=False)
    map_size: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.layers: list = []
        self.tails: list = []
        self._draw = np.random.default_rng(7)
        self._count = 0
        self._write()

    @property
    def is_bytes(self) -> bool:
        """Whether the image is of bytes."""
        return "cast" in self.spec.before

    # -- what it computes

    def features(self, images: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            images = layer(images)
        return images

    def classify(self, maps: torch.Tensor) -> list[torch.Tensor]:
        return [tail(maps) for tail in self.tails]

    def __call__(self, images: torch.Tensor) -> list[torch.Tensor]:
        return self.classify(self.features(images))

    def windows(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Classify every window of the feature map: `(batch, classes, map_height, map_width)`."""
        maps, (height, width) = self.features(images), self.map_size
        rows, columns = maps.shape[2] - height + 1, maps.shape[3] - width + 1
        cells = [
            self.classify(maps[:, :, y : y + height, x : x + width])
            for y in range(rows)
            for x in range(columns)
        ]
        outputs = zip(*cells, strict=True)
        return [torch.stack(one, -1).unflatten(-1, (rows, columns)) for one in outputs]

    def pooled(self, images: torch.Tensor) -> list[torch.Tensor]:
        return self.classify(F.adaptive_avg_pool2d(self.features(images), self.map_size))

    def resized(self, images: torch.Tensor) -> list[torch.Tensor]:
        resized = F.interpolate(
            images.double(), self.spec.size, mode="bilinear", align_corners=False
        )
        if self.is_bytes:  # half upwards, where float64 makes it a little less than half, too
            resized = torch.floor(resized + 0.5 + 1e-9)
        return self(resized.float())

    # -- the file

    def _weight(self, *shape: int, scale: float | None = None) -> str:
        scale = scale or 1.5 / np.sqrt(max(1, int(np.prod(shape[1:]))))
        return self._constant(self._draw.standard_normal(shape).astype(np.float32) * scale)

    def _constant(self, values: object, dtype: type = np.float32) -> str:
        array = np.asarray(values)
        array = array.astype(np.int64 if array.dtype.kind == "i" else dtype)
        name = f"const_{len(self.weights)}"
        self.weights[name] = array
        return name

    def _node(self, kind: str, *inputs: str, count: int = 1, **attributes: object) -> str:
        self._count += 1
        names = [f"t{self._count}_{place}" for place in range(count)]
        self.nodes.append(
            helper.make_node(kind, inputs, names, name=f"n{self._count}", **attributes)
        )
        return names[0]

    def _tensor(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.weights[name])

    def _write(self) -> None:
        spec = self.spec
        tensor, side = "image", spec.size
        for step in spec.before:
            tensor, side = self._prepare(step, tensor, side, last=True)
        if spec.channels == 1:
            first = spec.batch if spec.batch == 1 else -1
            tensor = self._node("Reshape", tensor, self._constant([first, 1, *side]))
        else:
            tensor = self._node("Transpose", tensor, perm=TO_FIRST)
        for step in spec.behind:
            tensor, side = self._prepare(step, tensor, side, last=False)
        self.depth = spec.channels
        for step in spec.body:
            tensor = self._layer(step, tensor)
        maps = self.features(torch.zeros(1, spec.channels, *spec.size))
        self.map_size = tuple(maps.shape[2:])
        names = getattr(self, f"_{spec.head}")(tensor)
        kind = TensorProto.UINT8 if self.is_bytes else TensorProto.FLOAT
        batch = spec.batch
        image = helper.make_tensor_value_info("image", kind, [batch, *spec.size, spec.channels])
        outputs = []
        for name, answer in zip(names, self.classify(maps), strict=True):
            shape = [batch, *answer.shape[1:]]
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        weights = [numpy_helper.from_array(array, name) for name, array in self.weights.items()]
        graph = helper.make_graph(self.nodes, "tf2onnx", [image], outputs, weights)
        opset = helper.make_opsetid("", spec.opset)
        self.model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
        onnx.checker.check_model(self.model, full_check=True)

    def _prepare(
        self, step: str, tensor: str, side: tuple[int, int], *, last: bool
    ) -> tuple[str, tuple[int, int]]:
        channels = self.spec.channels
        shape = (channels,) if last else (channels, 1, 1)
        axis, opset = (3 if last else 1), self.spec.opset

        def per_channel(low: float, high: float) -> tuple[str, torch.Tensor]:
            values = self._draw.uniform(low, high, channels).astype(np.float32)
            return self._constant(values.reshape(shape)), torch.from_numpy(values)[:, None, None]

        if step == "cast":
            self.layers.append(lambda x: x * np.float32(0.01))
            tensor = self._node("Cast", tensor, to=TensorProto.FLOAT)
            return self._node("Mul", tensor, self._constant(np.float32(0.01))), side
        if step == "scale":
            self.layers.append(lambda x: x * np.float32(0.4) + np.float32(-0.2))
            tensor = self._node("Mul", tensor, self._constant(np.float32(0.4)))
            return self._node("Add", tensor, self._constant(np.float32(-0.2))), side
        if step == "normalise":
            (mean, m), (spread, s) = per_channel(-0.5, 0.5), per_channel(0.5, 2)
            self.layers.append(lambda x: (x - m) / s)
            return self._node("Div", self._node("Sub", tensor, mean), spread), side
        if step == "pad":
            self.layers.append(lambda x: F.pad(x, (2, 1, 1, 2)))
            height, width = (1, 2) if last else (2, 3)
            begin, end = [0] * 4, [0] * 4
            begin[height], end[height], begin[width], end[width] = 1, 2, 2, 1
            pads = [*begin, *end]
            side = (side[0] + 3, side[1] + 3)
            if opset < 11:
                return self._node("Pad", tensor, pads=pads), side
            return self._node("Pad", tensor, self._constant(pads)), side
        assert step == "bgr", step
        self.layers.append(lambda x: x.flip(1))
        if channels == 4:
            order = self._constant(list(range(channels))[::-1])
            return self._node("Gather", tensor, order, axis=axis), side
        if opset >= 10 and channels == 3:
            bounds = (self._constant([one]) for one in (-1, -(2**31), axis, -1))
            return self._node("Slice", tensor, *bounds), side
        colours = self._node("Split", tensor, count=channels, axis=axis)[:-2]
        parts = [f"{colours}_{place}" for place in reversed(range(channels))]
        return self._node("Concat", *parts, axis=axis), side

    def _layer(self, step: str, tensor: str) -> str:
        depth = self.depth
        if step in ("same", "valid", "same2"):
            self.depth = 6
            name, stride = self._weight(6, depth, 3, 3), 2 if step == "same2" else 1
            kernel, bias = self._tensor(name), self._weight(6, scale=0.3)
            pads = {"auto_pad": "VALID" if step == "valid" else "SAME_UPPER"}
            offset = self._tensor(bias)
            is_same = step != "valid"
            self.layers.append(
                lambda x: F.relu(
                    F.conv2d(_same(x, 3, stride) if is_same else x, kernel, offset, stride)
                )
            )
            tensor = self._node("Conv", tensor, name, bias, strides=[stride] * 2, **pads)
            return self._node("Relu", tensor)
        if step == "depthwise":
            name = self._weight(depth, 1, 3, 3)
            kernel = self._tensor(name)
            self.layers.append(lambda x: F.conv2d(_same(x, 3, 1), kernel, groups=depth))
            return self._node("Conv", tensor, name, group=depth, pads=[1, 1, 1, 1])
        if step == "norm":
            names = [self._weight(depth, scale=0.3) for _ in range(3)]
            variance = self._constant(self._draw.uniform(0.5, 2, depth).astype(np.float32))
            scale, bias, mean, var = (self._tensor(name) for name in (*names, variance))
            self.layers.append(lambda x: F.batch_norm(x, mean, var, scale, bias, eps=1e-3))
            return self._node("BatchNormalization", tensor, *names, variance, epsilon=1e-3)
        if step == "last":  # a layer that tf2onnx leaves between two transpositions
            tensor = self._active_last(self._node("Transpose", tensor, perm=TO_LAST))
            return self._node("Transpose", tensor, perm=TO_FIRST)
        if step == "gate":  # squeeze and excite, a cell turned by Reshape
            name = self._weight(depth, depth, 1, 1)
            kernel = self._tensor(name)
            self.layers.append(
                lambda x: x * torch.sigmoid(F.conv2d(x.mean((2, 3), keepdim=True), kernel))
            )
            rows = self._squeeze(self._node("GlobalAveragePool", tensor))
            cell = self._node("Reshape", rows, self._constant([-1, 1, 1, depth]))
            cell = self._node("Reshape", cell, self._constant([-1, depth, 1, 1]))
            return self._node("Mul", tensor, self._node("Sigmoid", self._node("Conv", cell, name)))
        if step == "skip":
            name = self._weight(depth, depth, 3, 3)
            kernel = self._tensor(name)
            self.layers.append(lambda x: x + F.conv2d(_same(x, 3, 1), kernel))
            return self._node("Add", tensor, self._node("Conv", tensor, name, pads=[1] * 4))
        assert step == "pool", step
        self.layers.append(lambda x: F.max_pool2d(x, 2))
        return self._node("MaxPool", tensor, kernel_shape=[2, 2], strides=[2, 2], auto_pad="VALID")

    def _active_last(self, tensor: str) -> str:
        """Scale `(batch, height, width, depth)` by channel, and bend it."""
        name = self._weight(self.depth, scale=0.7)
        factor = self._tensor(name)[:, None, None]
        self.layers.append(lambda x: torch.tanh(x * factor))
        return self._node("Tanh", self._node("Mul", tensor, name))

    def _dense(self, tensor: str, inputs: int, units: int) -> tuple[str, object]:
        weight, bias = self._weight(inputs, units), self._weight(units, scale=0.5)
        self.weights[weight] *= np.float32(np.sqrt(units / inputs))
        matrix, offset = self._tensor(weight), self._tensor(bias)
        tensor = self._node("Add", self._node("MatMul", tensor, weight), bias)
        return tensor, lambda x: x @ matrix + offset

    def _flat(self, tensor: str) -> tuple[str, int]:
        inputs = self.depth * int(np.prod(self.map_size))
        tensor = self._node("Transpose", tensor, perm=TO_LAST)
        return self._node("Reshape", tensor, self._constant([-1, inputs])), inputs

    def _fc(self, tensor: str) -> list[str]:
        tensor, inputs = self._flat(tensor)
        tensor, hidden = self._dense(tensor, inputs, 8)
        scores, last = self._dense(self._node("Relu", tensor), 8, CLASSES)
        self.tails.append(lambda x: torch.softmax(last(F.relu(hidden(_flattened(x)))), 1))
        return [self._node("Softmax", scores, axis=1)]

    def _bent_fc(self, tensor: str) -> list[str]:
        """Activate the map once its channels are last, in two ways, before it is flattened."""
        tensor = self._active_last(self._node("Transpose", tensor, perm=TO_LAST))
        self.layers.append(lambda x: x * torch.sigmoid(x))
        tensor = self._node("Mul", tensor, self._node("Sigmoid", tensor))
        inputs = self.depth * int(np.prod(self.map_size))
        rows = self._node("Reshape", tensor, self._constant([-1, inputs]))
        scores, last = self._dense(rows, inputs, CLASSES)
        self.tails.append(lambda x: last(_flattened(x)))
        return [scores]

    def _two_fc(self, tensor: str) -> list[str]:
        tensor, inputs = self._flat(tensor)
        ages, age = self._dense(tensor, inputs, CLASSES)
        names, name = self._dense(tensor, inputs, 3)
        self.tails += [lambda x: age(_flattened(x)), lambda x: name(_flattened(x))]
        return [ages, names]

    def _pooled_head(self, rows: str) -> list[str]:
        scores, last = self._dense(rows, self.depth, CLASSES)
        self.tails.append(lambda x: last(x.mean((2, 3))))
        return [scores]

    def _mean(self, tensor: str, axes: list[int], keepdims: int) -> str:
        return self._node("ReduceMean", tensor, axes=axes, keepdims=keepdims)

    def _squeeze(self, tensor: str, axes: tuple[int, ...] = (2, 3)) -> str:
        if self.spec.opset >= 13:
            return self._node("Squeeze", tensor, self._constant(axes))
        return self._node("Squeeze", tensor, axes=axes)

    def _gap(self, tensor: str) -> list[str]:
        return self._pooled_head(self._squeeze(self._node("GlobalAveragePool", tensor)))

    def _gap_first(self, tensor: str) -> list[str]:
        return self._pooled_head(self._mean(tensor, [2, 3], 0))

    def _gap_last(self, tensor: str) -> list[str]:
        tensor = self._node("Transpose", tensor, perm=TO_LAST)
        return self._pooled_head(self._mean(tensor, [1, 2], 0))

    def _gap_kept(self, tensor: str) -> list[str]:
        tensor = self._mean(self._node("Transpose", tensor, perm=TO_LAST), [1, 2], 1)
        return self._pooled_head(self._node("Reshape", tensor, self._constant([-1, self.depth])))

    def _gap_turned(self, tensor: str) -> list[str]:
        tensor = self._node("Transpose", self._node("GlobalAveragePool", tensor), perm=TO_LAST)
        return self._pooled_head(self._node("Reshape", tensor, self._constant([-1, self.depth])))

    def _gap_cell(self, tensor: str) -> list[str]:
        """Classify the one cell `(batch, 1, 1, depth)`, and flatten it then."""
        tensor = self._mean(self._node("Transpose", tensor, perm=TO_LAST), [1, 2], 1)
        (cell,) = self._pooled_head(tensor)
        return [self._squeeze(cell, (1, 2))]

    def _map_last(self, tensor: str) -> list[str]:
        """Hand out `(batch, map_height, map_width, depth)`."""
        self.tails.append(lambda x: x.permute(0, 2, 3, 1))
        if self.map_size == (1, 1):
            return [self._node("Reshape", tensor, self._constant([-1, 1, 1, self.depth]))]
        return [self._node("Transpose", tensor, perm=TO_LAST)]

    def _dense_map(self, tensor: str) -> list[str]:
        """Hand out `(batch, map_height, map_width, classes)`: a layer for each position."""
        tensor = self._node("Transpose", tensor, perm=TO_LAST)
        scores, last = self._dense(tensor, self.depth, CLASSES)
        self.tails.append(lambda x: last(x.permute(0, 2, 3, 1)))
        return [scores]


def _flattened(maps: torch.Tensor) -> torch.Tensor:
    return maps.permute(0, 2, 3, 1).flatten(1)


def _same(x: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    sides = []
    for cells in (x.shape[3], x.shape[2]):
        total = max((-(-cells // stride) - 1) * stride + kernel - cells, 0)
        sides += [total // 2, total - total // 2]
    return F.pad(x, sides)
