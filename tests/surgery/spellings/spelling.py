"""One choice for each part of a head."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from spellings.between import BETWEEN
from spellings.dense import DENSE
from spellings.ends import ENDS
from spellings.flattens import BAKED, FLATTENS
from spellings.net import CLASSES, FLAT, HIDDEN, Net, backbone
from spellings.weights import WEIGHTS


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
