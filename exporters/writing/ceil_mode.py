"""MaxPool that rounds its output up → MaxPool with padding at the far sides.

Runtimes disagree on rounding up (OpenVINO adds a row of windows that lie in the padding: measured
with 2026.4), and on padding with the lowest number they do not. With kernel k, stride s and
padding p, ⌈(a + 2p − k) / s⌉ = ⌊(a + 2p + s − 1 − k) / s⌋, so s − 1 more cells of padding say the
same. PyTorch also drops a last window that starts in the padding, which cannot happen if
p + s ≤ k; elsewhere the node stays.
"""

from __future__ import annotations

import onnx
from onnx import helper

__all__ = ["ceil_mode_to_padding"]


def ceil_mode_to_padding(model: onnx.ModelProto) -> None:
    """Rewrite, in place, every MaxPool with `ceil_mode` whose equivalent is exact."""
    for node in model.graph.node:
        if node.op_type != "MaxPool" or node.domain:
            continue
        found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if not found.get("ceil_mode") or found.get("auto_pad", b"NOTSET") != b"NOTSET":
            continue
        kernel = found["kernel_shape"]
        rank = len(kernel)
        strides = found.get("strides", [1] * rank)
        pads = found.get("pads", [0] * 2 * rank)
        if any(d != 1 for d in found.get("dilations", [])) or any(
            pads[i] + strides[i] > kernel[i] or pads[i] != pads[i + rank] for i in range(rank)
        ):
            continue
        far = [pads[i] + strides[i] - 1 for i in range(rank)]
        kept = [a for a in node.attribute if a.name not in ("ceil_mode", "pads")]
        del node.attribute[:]
        node.attribute.extend(kept)
        if any(pads) or any(far):
            node.attribute.append(helper.make_attribute("pads", [*pads[:rank], *far]))
