"""Tiny classifiers, each as a module and as a graph that can be sabotaged in one place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import settings
from onnx import TensorProto, helper, numpy_helper
from torch import nn

# A generated case may run on a machine that is busy with others; time is not what is tested.
settings.register_profile("busy", deadline=None)
settings.load_profile("busy")

CHANNELS, HIDDEN, CLASSES = 3, 6, 5


class TinyFc(nn.Module):
    """Conv → ReLU → AvgPool(4) → Flatten → Linear: takes 8 to 11 pixels a side, nothing else."""

    def __init__(self, *, softmax: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(CHANNELS, HIDDEN, 3, padding=1)
        self.pool = nn.AvgPool2d(4)
        self.linear = nn.Linear(HIDDEN * 4, CLASSES)
        self.softmax = softmax

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.linear(torch.flatten(self.pool(torch.relu(self.conv(images))), 1))
        return torch.softmax(logits, 1) if self.softmax else logits


class TinyAdaptive(TinyFc):
    """The same with adaptive pooling: takes every size."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(2)


class TinyCam(nn.Module):
    """Conv → ReLU → 1×1 Conv: a map, and its average as the logits."""

    output_names = ("logits", "map")

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(CHANNELS, HIDDEN, 3, padding=1)
        self.classify = nn.Conv2d(HIDDEN, CLASSES, 1)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores = self.classify(torch.relu(self.conv(images)))
        return scores.mean((2, 3)), scores


@dataclass
class Graph:
    """An ONNX graph under construction; `image` is its input."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)
    count: int = 0

    def add(self, operator: str, *inputs: str, **attributes: object) -> str:
        self.count += 1
        name = f"{operator.lower()}_{self.count}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name, **attributes))
        return name

    def constant(self, values: object, dtype: type = np.float32) -> str:
        self.count += 1
        name = f"constant_{self.count}"
        array = np.asarray(values, dtype=dtype)
        self.tensors.append(numpy_helper.from_array(array, name))
        return name

    def convolve(self, image: str, module: nn.Conv2d, **changes: object) -> str:
        kernel = module.weight.detach().numpy()
        edit = changes.get("kernel")
        kernel = edit(kernel) if callable(edit) else kernel
        inputs = [image, self.constant(kernel)]
        if changes.get("bias", True):
            inputs.append(self.constant(module.bias.detach().numpy()))
        pad = module.padding[0]
        return self.add("Conv", *inputs, pads=[pad] * 4)

    def linear(self, features: str, module: nn.Linear, *, bias: bool = True) -> str:
        inputs = [features, self.constant(module.weight.detach().numpy())]
        if bias:
            inputs.append(self.constant(module.bias.detach().numpy()))
        return self.add("Gemm", *inputs, transB=1)

    def save(
        self,
        path: Path,
        outputs: Sequence[tuple[str, str, int]],
        *,
        batch: int | str = "batch",
        side: int | None = None,
        metadata: dict[str, str] | None = None,
        output_type: int = TensorProto.FLOAT,
    ) -> Path:
        """Write the graph; `outputs` are (tensor, name, rank)."""
        for tensor, name, _ in outputs:
            for node in self.nodes:
                for tensors in (node.input, node.output):
                    tensors[:] = [name if t == tensor else t for t in tensors]
        image = helper.make_tensor_value_info(
            "input", TensorProto.FLOAT, [batch, CHANNELS, side or "height", side or "width"]
        )
        axes = ["batch", CLASSES, "map_height", "map_width"]
        infos = [
            helper.make_tensor_value_info(
                name,
                output_type,
                [None if output_type != TensorProto.FLOAT else a for a in axes[:rank]],
            )
            for _, name, rank in outputs
        ]
        graph = helper.make_graph(self.nodes, "tiny", [image], infos, self.tensors)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("nowhere", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        helper.set_model_props(model, metadata or {})
        onnx.save(model, path)
        return path


@dataclass
class Tiny:
    """Builders of the tiny classifiers, all with the same seed."""

    folder: Path

    def fc(self, *, softmax: bool = False) -> TinyFc:
        torch.manual_seed(7)
        return TinyFc(softmax=softmax).eval()

    def adaptive(self) -> TinyAdaptive:
        torch.manual_seed(7)
        return TinyAdaptive().eval()

    def cam(self) -> TinyCam:
        torch.manual_seed(7)
        return TinyCam().eval()

    def graph(self) -> Graph:
        return Graph()

    def fc_file(
        self,
        module: TinyFc,
        *,
        name: str = "fc.onnx",
        image: Callable[[Graph, str], str] | None = None,
        flatten: Callable[[Graph, str], str] | None = None,
        tail: Callable[[Graph, str], str] | None = None,
        stride: int = 4,
        bias: bool = True,
        conv: dict[str, object] | None = None,
        rank: int = 2,
        **saved: object,
    ) -> Path:
        """Write TinyFc as a graph, wrong where the arguments say so."""
        graph = Graph()
        source = image(graph, "input") if image else "input"
        hidden = graph.add("Relu", graph.convolve(source, module.conv, **(conv or {})))
        pooled = graph.add("AveragePool", hidden, kernel_shape=[4, 4], strides=[stride] * 2)
        flat = flatten(graph, pooled) if flatten else graph.add("Flatten", pooled, axis=1)
        logits = graph.linear(flat, module.linear, bias=bias)
        if module.softmax:
            logits = graph.add("Softmax", logits, axis=1)
        logits = tail(graph, logits) if tail else logits
        return graph.save(self.folder / name, [(logits, "logits", rank)], **saved)

    def cam_file(
        self, module: TinyCam, outputs: Sequence[str] = ("logits", "map"), **saved: object
    ) -> Path:
        """Write TinyCam as a graph with these outputs, in this order."""
        graph = Graph()
        hidden = graph.add("Relu", graph.convolve("input", module.conv))
        scores = graph.convolve(hidden, module.classify)
        logits = graph.add("Flatten", graph.add("GlobalAveragePool", scores), axis=1)
        made = {"logits": (logits, 2), "map": (scores, 4), "extra": (graph.add("Relu", scores), 4)}
        listed = [(made[name][0], name, made[name][1]) for name in outputs]
        return graph.save(self.folder / "cam.onnx", listed, **saved)


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    return Tiny(tmp_path)


@pytest.fixture(scope="session")
def tiny_in() -> Callable[[Path], Tiny]:
    """Builds the tiny classifiers in a folder of the caller's, for fixtures of a wider scope."""
    return Tiny
