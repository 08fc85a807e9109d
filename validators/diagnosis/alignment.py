"""Which tensors of a graph are those of its reference, by their values, and where that ends.

Names alone would blame a layer that an exporter fused with its neighbours, and find none where it
names nodes in its own way. So a tensor is right where the reference makes it, too, whatever it is
called there, or where right ones are computed from it; the first one for which neither holds is
where the graph leaves the reference. Names then say which layer that is.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from anysize.surgery.graph import Graph, reads
from anysize.validators.judging import Deviation, Profile, float_deviation
from anysize.validators.references import Step

__all__ = ["Difference", "Known", "first_difference", "known_steps"]

Array = NDArray[np.floating[Any]]

# They read a tensor's shape, which is right where its values are not.
_SHAPES = frozenset({"Shape", "Size"})
# A wrong tensor that is this near to one of the reference's is meant to be that one.
_RECOGNISED = 0.1
_SAMPLE = 64
# Where torch.onnx writes the modules that a node lies in, outermost first.
_SCOPES = "pkg.torch.onnx.name_scopes"
_MAP_RANK = 4


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """A tensor of the reference.

    Attributes:
        step: In float64.
        float32: What it is in float32.
        scale: Its largest value.
        allowed: How far another one may be away.
    """

    step: Step
    float32: Array
    scale: float
    allowed: float

    def distance(self, values: Array, *, most: float = np.inf) -> float:
        """Return the largest distance; infinite where that is more than `most` in a sample."""
        flat, own = values.reshape(-1), self.step.values.reshape(-1)
        places = np.linspace(0, flat.size - 1, _SAMPLE).astype(np.int64)
        if not np.abs(flat[places] - own[places]).max() <= most:
            return np.inf
        return float(np.abs(flat - own).max())


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a graph leaves its reference.

    Attributes:
        step: The first tensor that is wrong.
        meant: The reference's that it stands for; where it is not sure to be that one, the next
            that the reference makes behind `right`, if any.
        deviation: How far it is from that; None where its shape is another, or it is not sure.
        right: The reference's tensor that it is computed from, the last one that is right; None
            where there is none.
        is_sure: Whether nearness or names tell what it stands for.
    """

    step: Step
    meant: Step | None
    deviation: Deviation | None
    right: Step | None
    is_sure: bool = True


def known_steps(
    float64: Sequence[Step], float32: Sequence[Step], profile: Profile
) -> tuple[Known, ...]:
    """Join what a reference records in two precisions; constant tensors tell nothing."""
    found = []
    for step, plain in zip(float64, float32, strict=True):
        values = step.values
        if values.size == 0 or not np.isfinite(values).all() or values.max() == values.min():
            continue
        deviation = float_deviation(plain.values, plain.values, values, profile=profile)
        found.append(Known(step, plain.values, deviation.scale, deviation.budget * deviation.scale))
    return tuple(found)


def first_difference(
    model: onnx.ModelProto,
    made: Sequence[Step],
    known: Sequence[Known],
    *,
    profile: Profile,
    has_shapes: bool,
) -> Difference | None:
    """Find the first tensor of a graph that neither is the reference's nor leads to one that is.

    Args:
        model: The graph.
        made: Its tensors, in graph order and float64, the inputs first.
        known: Those of the reference.
        profile: That says how far a right one may be away.
        has_shapes: The reference computes on the whole image, so that another shape is wrong.

    Returns:
        None where all are right.
    """
    by_shape = defaultdict(list)
    for one in known:
        by_shape[one.step.values.shape].append(one)
    equal = {
        step.tensor: [
            one
            for values in _forms(step.values)
            for one in by_shape[values.shape]
            if one.distance(values, most=one.allowed) <= one.allowed
        ]
        for step in made
    }
    right = {tensor for tensor, found in equal.items() if found}
    graph = Graph(model)
    follows = _follows_image(graph)
    leads = _leads_to(graph, right)
    reaches = _leads_to(graph, {output.name for output in model.graph.output})
    wrong = [
        step
        for step in made
        if step.tensor in follows & reaches and step.tensor not in right | leads
    ]
    if not wrong:
        return None
    step = wrong[0]
    found = {id(one) for tensor in right for one in equal[tensor]}
    left = [one for one in known if id(one) not in found]
    tensor = _last_right(graph, step.tensor, right)
    if tensor is None:
        return Difference(step, None, None, None, is_sure=False)
    last = equal[tensor][0]
    meant, values = _meant(graph, step, left)
    if meant is None or (values is None and not has_shapes):
        behind = known[known.index(last) :]
        following = next((one.step for one in behind if one in left), None)
        return Difference(step, following, None, last.step, is_sure=False)
    deviation = None
    if values is not None:
        truth = meant.step.values
        deviation = float_deviation(values, meant.float32, truth, profile=profile)
    return Difference(step, meant.step, deviation, last.step)


def _forms(values: Array) -> Iterator[Array]:
    """Yield a tensor in the forms in which a reference may have it, each with another shape.

    As it is; without the sides of a map of one cell; with the channels of a map first; and with
    one row for each cell of a map.
    """
    yield values
    if values.ndim != _MAP_RANK:
        return
    if values.shape[2:] == (1, 1):
        yield values.reshape(values.shape[:2])
    else:
        yield np.moveaxis(values, 1, -1).reshape(-1, values.shape[1])
    first = np.moveaxis(values, -1, 1)
    if first.shape != values.shape:
        yield first


def _follows_image(graph: Graph) -> set[str]:
    """Name the tensors whose values, and not only their shapes, depend on the graph's inputs."""
    reached = {value.name for value in graph.model.graph.input} - {
        tensor.name for tensor in graph.model.graph.initializer
    }
    for node in graph.nodes:
        if node.op_type not in _SHAPES and reached & reads(node):
            reached.update(node.output)
    return reached


def _leads_to(graph: Graph, targets: Iterable[str]) -> set[str]:
    """Name the tensors that `targets` are computed from, and these themselves."""
    found = set(targets)
    for node in reversed(graph.nodes):
        if node.op_type not in _SHAPES and found.intersection(node.output):
            found |= reads(node)
    return found


def _last_right(graph: Graph, tensor: str, right: set[str]) -> str | None:
    """Return the nearest right tensor that a wrong one is computed from."""
    pending, seen = [tensor], set[str]()
    while pending:
        index = graph.producer(pending.pop(0))
        for name in () if index is None else graph.node(index).input:
            if name in right:
                return str(name)
            if name not in seen:
                seen.add(name)
                pending.append(name)
    return None


def _meant(graph: Graph, step: Step, left: Sequence[Known]) -> tuple[Known | None, Array | None]:
    """Tell which tensor of the reference a wrong one stands for: by nearness, then by name.

    Returns:
        That tensor, and the wrong one in its shape; None where it has no such shape.
    """
    forms = {values.shape: values for values in _forms(step.values)}
    same = [one for one in left if one.step.values.shape in forms]

    def distance(one: Known) -> float:
        return one.distance(forms[one.step.values.shape]) / one.scale

    nearest = min(same, key=distance, default=None)
    if nearest is not None and distance(nearest) <= _RECOGNISED:
        return nearest, forms[nearest.step.values.shape]
    for name in _names(graph, step):
        named = [one for one in left if (one.step.tensor or one.step.layer) == name]
        shaped = [one for one in named if one in same]
        if shaped:
            found = min(shaped, key=distance)
            return found, forms[found.step.values.shape]
        if named:
            return named[0], None
    return None, None


def _names(graph: Graph, step: Step) -> list[str]:
    """Return what the layer of a node may be called, the likeliest first.

    The tensor, or the node; the layer as exporters write it: `features.0`, `gelu/erf`,
    `layer1.0/add_2`, `/layer1/layer1.0/conv1/Conv`, or in a node's metadata; the owner of the
    weights.
    """
    node = graph.node(graph.producer(step.tensor) or 0)
    names = [step.tensor, step.layer]
    parts = [part for part in step.layer.split("/") if part]
    if step.layer.startswith("/"):
        owners: list[str] = []
        for part in parts[:-1]:
            is_longer = bool(owners) and part.startswith(f"{owners[-1]}.")
            owners[-1 if is_longer else len(owners) :] = [part]
        names.append(".".join(owners))
    else:
        names += [re.sub(r"_\d+$", "", part) for part in parts[:1]]
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            names += re.findall(r"'([^']+)'", entry.value)[::-1]
    names += [name.rpartition(".")[0] for name in node.input[1:] if graph.initializer(name)]
    return [name for name in dict.fromkeys(names) if name]
