"""Target adaptive: the feature map is pooled to its trained size, the FC layers stay as they are.

Bin i of n over a cells spans ⌊i·a/n⌋ to ⌈(i+1)·a/n⌉ and is averaged, as PyTorch's
AdaptiveAvgPool2d has it. At the training size every bin is one cell, so nothing changes there.
"""

from __future__ import annotations

from anysize.sizes import Size
from anysize.surgery.graph import Edits, Graph, element_type, unique_name
from anysize.surgery.heads import Head
from anysize.surgery.operators import Emitter, emit_adaptive_average_pool
from anysize.surgery.passes import free_baked_shapes
from anysize.surgery.shapes import legal_sizes
from anysize.surgery.size_guard import drop_guards, guard_min_size, guard_steps
from anysize.surgery.targets.fixed_head import find_fixed_heads, free_backbone, free_head
from anysize.surgery.targets.kept_layers import refuse_other_outputs
from anysize.surgery.targets.plan import NotNeeded, Output, Rewritten

__all__ = ["to_adaptive"]

_FIRST = "NCHW"


def to_adaptive(graph: Graph, size: Size | None, output: Output) -> Rewritten | NotNeeded:
    """Pool the feature map to the size that the FC head was trained on.

    Args:
        graph: Edited in place.
        size: The training size; what the file declares or records, by default.
        output: Must be `map`, the default: the outputs stay what they are.

    Raises:
        DeclinedError: The head has a form that would have to be guessed, the opset is too old; the
            message names the node.
        IllegalSizeError: The graph does not take images of `size`.
        UsageError: Another output was asked for.
    """
    refuse_other_outputs("adaptive", output)
    drop_guards(graph, "min", "max", "map", "steps")
    free_backbone(graph, size)
    found = find_fixed_heads(graph, size, keeps_layers=True)
    if isinstance(found, NotNeeded):
        return found
    made = {name for head in found.heads for name in head.outputs}
    others = [value.name for value in graph.model.graph.output if value.name not in made]
    maps = [head.feature_map for head in found.heads]
    sizes = legal_sizes(graph, found.image_size, tensors=[*maps, *others])
    edits = Edits()
    for head in found.heads:
        edits.add(_pooled(graph, head))
    edits.apply(graph)
    if not all(head.is_read for head in found.heads):
        free_baked_shapes(graph, found.image_size, follows="batch")
    guard_min_size(graph, sizes.minimum)
    guard_steps(graph, sizes)
    return Rewritten(
        size=found.image_size,
        sizes=sizes,
        classes=found.classes,
        head=found.heads[0],
        kept=(*maps, *others),
    )


def _pooled(graph: Graph, head: Head) -> Edits:
    """Plan a pooling before one head, which stays."""
    pooled = unique_name(graph.model, f"{head.flattened}_pooled")
    emitter = Emitter(graph.model, pooled)
    axes = "".join(head.flattened_axes)
    is_turned = axes != _FIRST
    source, output = head.flattened, pooled
    if is_turned:
        perm = [axes.index(letter) for letter in _FIRST]
        source, output = emitter.node("Transpose", source, perm=perm), ""
    made = emit_adaptive_average_pool(
        emitter,
        source,
        output=output,
        output_size=(head.map_size.height, head.map_size.width),
        elem_type=element_type(graph, head.flattened),
    )
    if is_turned:
        back = [_FIRST.index(letter) for letter in axes]
        emitter.node("Transpose", made, output=pooled, perm=back)
    edits = free_head(graph, head, flattened=pooled)
    first = head.first
    edits.put(first, [*emitter.nodes, *edits.nodes[first]], emitter.initializers)
    return edits
