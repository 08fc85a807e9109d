"""Files that torch.onnx writes of AlexNet and VGG-11 are rewritten right, in both of its modes."""

from __future__ import annotations

import io
import logging
import warnings

import onnx
import pytest
import torch

from anysize.models import build
from anysize.sizes import Size
from anysize.surgery import rewrite
from anysize.validators.proof import prove_rewrite


def export(name: str, mode: str) -> onnx.ModelProto:
    """Let torch.onnx export a network as its users do: one size, batch free where it can be."""
    module, images = build(name, head="fc"), torch.zeros(1, 3, 224, 224)
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if mode == "dynamo":
                return torch.onnx.export(module, (images,), dynamo=True, verbose=False).model_proto
            buffer = io.BytesIO()
            axes = {"input": {0: "batch"}}
            torch.onnx.export(
                module, (images,), buffer, dynamo=False, input_names=["input"], dynamic_axes=axes
            )
            return onnx.ModelProto.FromString(buffer.getvalue())
    finally:
        logging.getLogger("torch.onnx").setLevel(level)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["torchscript", "dynamo"])
@pytest.mark.parametrize("name", ["alexnet", "vgg11"])
def test_every_cell_at_288x352_equals_the_original_layers_on_its_window(name, mode):
    original = export(name, mode)
    done = rewrite(original)
    assert done.applied, done.reason
    assert not done.moved, "a weight was copied where its dims alone had to change"
    proof = prove_rewrite(original, done.model, [Size(288, 352)], training=done.size, batch=1)
    assert proof.ok, proof.message
    # The network's map at 288×352 is 8×10 (9×11 for VGG), its window 6×6 (7×7).
    assert proof.answers >= 1 + 3 * 5
