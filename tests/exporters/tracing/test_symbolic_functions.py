"""Functions of which a trace would hold the example's number of steps."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import torch
from torch import nn

import anysize
from anysize.sizes import Size

ort.set_default_logger_severity(4)


def test_positions_of_one_cell_are_their_start(tmp_path):
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            numbers = torch.linspace(0, 5, 3, dtype=torch.int64)  # 0, 2, 5: cut off, not rounded
            x = self.conv(x) * torch.linspace(-1, 1, x.shape[3])
            return x.mean((2, 3)) + numbers.sum()

    module = Positions().eval()
    anysize.export(module, tmp_path / "net.onnx", size=Size(24, 24), verify=False)
    session = ort.InferenceSession(tmp_path / "net.onnx")
    for width in (1, 2, 31):
        x = np.random.default_rng(1).standard_normal((2, 3, 9, width), dtype=np.float32)
        (got,) = session.run(None, {"input": x})
        with torch.inference_mode():
            np.testing.assert_allclose(got, module(torch.from_numpy(x)), rtol=2e-4, atol=2e-5)
