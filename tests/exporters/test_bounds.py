"""Declared bounds are recorded, and hold on every runtime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator

import anysize
from anysize.errors import UsageError
from anysize.exporters.bounds import narrowed
from anysize.sizes import Size, SizeRange
from anysize.surgery import read_metadata

ort.set_default_logger_severity(4)
NETWORK = SizeRange(Size(20, 24), Size(50, 60))


@pytest.mark.parametrize(
    ("low", "top", "expected"),
    [
        (None, None, NETWORK),
        ("20x24", "50x60", NETWORK),
        ("30x30", None, SizeRange(Size(30, 30), Size(50, 60))),
        (None, "20x24", SizeRange(Size(20, 24), Size(20, 24))),
    ],
)
def test_bounds_narrow_what_the_network_takes(low, top, expected):
    assert narrowed(NETWORK, low and Size.parse(low), top and Size.parse(top)) == expected


@pytest.mark.parametrize(
    ("low", "top", "said"),
    [
        ("19x24", None, "min size 19x24: the network takes 20x24 to 50x60; give --min-size 20x24"),
        (None, "50x61", "max size 50x61: the network takes 20x24 to 50x60; give --max-size 50x60"),
        ("30x30", "40x29", "max size 40x29: is below the smallest size, 30x30"),
        (None, "19x60", "max size 19x60: is below the smallest size, 20x24"),
        ("51x60", None, "max size 50x60: is below the smallest size, 51x60"),
    ],
)
def test_bounds_beyond_the_network_are_refused(low, top, said):
    with pytest.raises(UsageError, match=said):
        narrowed(NETWORK, low and Size.parse(low), top and Size.parse(top))


@pytest.mark.parametrize(
    ("head", "bounds", "legal", "illegal"),
    [
        ("gap", ("20x24", "40x33"), [(20, 24), (40, 33)], [(19, 24), (41, 24), (20, 34), (20, 23)]),
        ("fcn", ("33x33", None), [(33, 33), (70, 40)], [(32, 33), (33, 32)]),
        ("fc", ("33x32", "33x34"), [(33, 32), (33, 34)], [(32, 32), (34, 33), (33, 35)]),
    ],
)
@pytest.mark.parametrize("opset", [13, 18])
def test_a_file_takes_what_it_declares(tmp_path, head, bounds, legal, illegal, opset):
    low, top = bounds
    path = tmp_path / "out.onnx"
    # Verified by the sizes of `auto`: the bounds, and one step outside.
    done = anysize.export("digits", path, head=head, min_size=low, max_size=top, opset=opset)
    assert done.report is not None
    assert done.report.ok
    assert done.sizes == SizeRange(Size.parse(low), Size.parse(top) if top else None)
    model = onnx.load(path)
    metadata = read_metadata(model)
    assert SizeRange(metadata.min_size, metadata.max_size) == done.sizes
    assert (metadata.asked_min_size, metadata.asked_max_size) == tuple(
        bound and Size.parse(bound) for bound in bounds
    )
    runs = (
        ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run,
        ReferenceEvaluator(model).run,
    )
    for run in runs:
        for size in legal:
            run(None, {"input": np.ones((1, 1, *size), np.float32)})
        for size in illegal:
            with pytest.raises(Exception, match=r"(?i)expand|broadcast"):
                run(None, {"input": np.ones((1, 1, *size), np.float32)})


def test_a_bound_below_the_networks_smallest_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"min size 2x30: the network takes 20x20 and up"):
        anysize.export("digits", tmp_path / "out.onnx", head="gap", min_size="2x30", verify=False)
    assert not list(tmp_path.iterdir())
