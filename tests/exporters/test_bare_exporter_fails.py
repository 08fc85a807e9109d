"""What torch.onnx calls a success, and what it cannot say, is exported right.

Each test first shows the bare exporter failing on a network, so that it is known when it stops to.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch.export import Dim

import anysize

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
ort.set_default_logger_severity(4)


def alexnet():
    from architectures.alexnet import alexnet

    return alexnet(classes=7, width=4, hidden=32)


def pyramid():
    from architectures.pyramid_pooling import spp_net

    return spp_net(classes=7, width=8)


def export_bare(module, path, side):
    """Call torch.onnx.export as its documentation says, with symbolic batch, height and width."""
    axes = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    image = torch.zeros(2, 3, side, side)
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                (image,),
                str(path),
                dynamo=True,
                dynamic_shapes=(axes,),
                external_data=False,
                verify=True,
            )
    finally:
        logging.disable(disabled)


def images(height, width):
    return np.random.default_rng(3).standard_normal((2, 3, height, width), dtype=np.float32)


def run(path, x):
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def expected(module, x):
    with torch.inference_mode():
        return module.double()(torch.from_numpy(x).double()).float().numpy()


def test_adaptive_average_pooling_fails_behind_the_bare_exporter(tmp_path):
    export_bare(alexnet(), tmp_path / "bare.onnx", 224)
    run(tmp_path / "bare.onnx", images(224, 224))
    with pytest.raises(Exception, match="GEMM: Dimension mismatch"):
        run(tmp_path / "bare.onnx", images(288, 320))


def test_adaptive_average_pooling_is_right_behind_anysize(tmp_path):
    module = alexnet()
    path = anysize.export(module, tmp_path / "ours.onnx", size="224x224", verify=False).path
    for side in ((224, 224), (288, 320), (97, 401)):
        x = images(*side)
        np.testing.assert_allclose(run(path, x), expected(alexnet(), x), rtol=1e-4, atol=1e-4)


def test_a_pyramid_whose_bins_divide_is_wrong_behind_the_bare_exporter(tmp_path):
    # At 96×96 the map is 24×24, a multiple of 6, 3, 2 and 1.
    export_bare(pyramid(), tmp_path / "bare.onnx", 96)
    x = images(96, 96)
    np.testing.assert_allclose(
        run(tmp_path / "bare.onnx", x), expected(pyramid(), x), rtol=1e-4, atol=1e-4
    )
    x = images(100, 108)
    wrong, right = run(tmp_path / "bare.onnx", x), expected(pyramid(), x)
    assert wrong.shape == right.shape
    assert np.abs(wrong - right).max() > 1e-2


def test_a_pyramid_whose_bins_do_not_divide_is_refused_by_the_bare_exporter(tmp_path):
    with pytest.raises(Exception, match="adaptive_max_pool2d"):
        export_bare(pyramid(), tmp_path / "bare.onnx", 100)


@pytest.mark.parametrize("size", ["96x96", "100x108"])
def test_a_pyramid_is_right_behind_anysize(size, tmp_path):
    path = anysize.export(pyramid(), tmp_path / "ours.onnx", size=size, verify=False).path
    for side in ((96, 96), (100, 108), (24, 61)):
        x = images(*side)
        np.testing.assert_allclose(run(path, x), expected(pyramid(), x), rtol=1e-4, atol=1e-4)
