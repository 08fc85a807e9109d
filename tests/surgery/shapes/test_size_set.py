"""The set of sizes that is recorded is the one that the graph takes, side by side."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from anysize.errors import DeclinedError
from anysize.sizes import MAX_SIDE, Size, SizeRange, Steps
from anysize.surgery import read_metadata, rewrite
from anysize.surgery.shapes import legal_sizes, sides_taken
from anysize.surgery.shapes.size_set import _repeated
from anysize.surgery.shapes.walk import ShapeWalk

POOLED = "pooled = GlobalAveragePool (joined) scores = Flatten <axis = 1> (pooled)"
# A pooling that rounds up beside a strided convolution that rounds down: even sides only.
SKIP = """wide = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [0, 0, 1, 1]> (image)
          short = Conv <kernel_shape = [1, 1], strides = [2, 2]> (image, w)
          joined = Add (wide, short)"""
# A pyramid: the map at stride 4, twice as large, is added to the one at stride 2.
PYRAMID = """fine = Conv <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (image, w)
             coarse = Conv <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (fine, v)
             up = Resize <mode = "nearest"> (coarse, , scales)
             joined = Add (fine, up)"""
DEPTH = """deep = SpaceToDepth <blocksize = 4> (image)
           joined = Conv <kernel_shape = [1, 1]> (deep, w)"""
GRAPHS = {
    "skip": (SKIP, {"w": (3, 3, 1, 1)}, Steps(2, (0,))),
    "pyramid": (PYRAMID, {"w": (3, 3, 3, 3), "v": (3, 3, 3, 3)}, Steps(4, (0, 3))),
    "space to depth": (DEPTH, {"w": (3, 48, 1, 1)}, Steps(4, (0,))),
}


@pytest.fixture(params=GRAPHS, name="case")
def _case(request, kit):
    body, weights, steps = GRAPHS[request.param]
    model = kit.make(
        f"{body} {POOLED}",
        weights=weights,
        floats={"scales": [1, 1, 2, 2]} if "scales" in body else None,
        outputs="float[1, 3] scores",
    )
    return model, steps


def test_the_remainders_are_those_at_which_maps_fit_each_other(case):
    model, steps = case
    sizes = legal_sizes(model, Size(32, 32))
    assert (sizes.heights, sizes.widths) == (steps, steps)
    assert sizes.maximum is None


def test_whoever_asks_for_larger_sizes_has_no_smaller_one_walked(case, monkeypatch):
    walked = []
    run = ShapeWalk.run
    monkeypatch.setattr(
        ShapeWalk, "run", lambda s, size, *a, **k: walked.append(size) or run(s, size, *a, **k)
    )
    sizes = legal_sizes(case[0], Size(32, 32), least=Size(32, 32))
    assert sizes == SizeRange(Size(32, 32), None, case[1], case[1])
    assert all(size.height >= 32 and size.width >= 32 for size in walked)


def test_a_freed_file_takes_the_sizes_that_it_says_and_no_other(case, kit):
    done = rewrite(case[0], to="dynamic")
    said = read_metadata(done.model).sizes
    for height, width in [*((side, 32) for side in range(1, 48)), *((32, s) for s in range(1, 48))]:
        images = kit.images(2, 3, height, width)
        if Size(height, width) in said:
            assert kit.run(done.model, images)[0].shape == (2, 3)
        else:
            with pytest.raises(Exception, match=r"(?i)expand|broadcast|shape|dimension"):
                kit.run(done.model, images)


def test_a_plain_stack_of_layers_has_no_gaps(kit):
    sizes = legal_sizes(kit.plain(), Size(32, 32), tensors=["fmap"])
    assert sizes == SizeRange(Size(3, 3))


def test_an_axis_that_a_layer_fixes_is_an_interval(kit):
    model = kit.make(
        """line = Conv <kernel_shape = [32, 3], pads = [0, 1, 0, 1]> (image, w)
           row = Squeeze (line, two) scores = ReduceMean <axes = [2], keepdims = 0> (row)""",
        weights={"w": (4, 3, 32, 3)}, constants={"two": [2]}, outputs="float[1, 4] scores",
    )  # fmt: skip
    sizes = legal_sizes(model, Size(32, 50))
    assert (sizes.minimum, sizes.maximum) == (Size(32, 1), Size(32, 65536))


def test_sides_in_no_order_are_declined_and_not_guessed(monkeypatch, kit):
    monkeypatch.setattr("anysize.surgery.shapes.size_set._repeated", lambda *_: None)
    model = kit.make(f"{SKIP} {POOLED}", weights={"w": (3, 3, 1, 1)}, outputs="float[1, 3] scores")
    with pytest.raises(DeclinedError, match="some are taken and some are not, in no order"):
        legal_sizes(model, Size(32, 32))


@given(
    step=st.integers(1, 16),
    start=st.integers(1, 300),
    taken=st.lists(st.booleans(), min_size=16, max_size=16),
)
def test_what_repeats_is_found_with_its_remainders(step, start, taken):
    pattern = [taken[(start + more) % step] for more in range(64)]
    assume(any(pattern))
    found = _repeated(pattern, start)
    assert [start + more in found for more in range(64)] == pattern
    assert found.step <= step


class Joined(nn.Module):
    """Two ways to a map, whose sizes agree at some images alone."""

    def __init__(self, kernel: int, padding: int, up: int, *, ceil: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, kernel, 2, padding)
        self.second = nn.MaxPool2d(2, 2, ceil_mode=ceil)
        self.deep = nn.Conv2d(4, 4, 3, up, 1)
        self.up = up

    def forward(self, images):
        one = self.first(images)
        other = functional.interpolate(self.deep(one), scale_factor=self.up)
        pooled = self.second(images).sum(1, keepdim=True)
        return (one + other + pooled).mean((2, 3))


@settings(max_examples=12, deadline=None)
@given(
    kernel=st.integers(1, 3), padding=st.integers(0, 1), up=st.integers(1, 3), ceil=st.booleans()
)
def test_no_generated_network_takes_another_size_than_pytorch_does(kernel, padding, up, ceil):
    torch.manual_seed(0)
    module = Joined(kernel, min(padding, kernel // 2), up, ceil=ceil).eval()

    def eager(height: int, width: int) -> np.ndarray | None:
        try:
            return module(torch.zeros(1, 3, height, width)).detach().numpy()
        except RuntimeError:
            return None

    traced = next((Size(s, s) for s in range(36, 60) if eager(s, s) is not None), None)
    if traced is None:
        return
    model = exported(module, traced)
    sizes = legal_sizes(model, traced)
    for side in range(traced.height, traced.height + 4 * up):
        assert (Size(side, traced.width) in sizes) == (eager(side, traced.width) is not None)
        assert (Size(traced.height, side) in sizes) == (eager(traced.height, side) is not None)


def exported(module, size):
    import io
    import warnings

    import onnx

    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.zeros(1, 3, size.height, size.width),),
            stream,
            dynamo=False,
            input_names=["image"],
        )
    return onnx.load_from_string(stream.getvalue())


def test_what_is_resized_to_the_training_size_takes_every_remainder(kit):
    model = kit.make(f"{SKIP} {POOLED}", weights={"w": (3, 3, 1, 1)}, outputs="float[1, 3] scores")
    freed = rewrite(model, to="dynamic").model
    resized = rewrite(freed, to="resize")
    assert resized.sizes == SizeRange(Size(1, 1))
    assert kit.run(resized.model, kit.images(1, 3, 33, 47))[0].shape == (1, 3)


def test_sides_that_repeat_beyond_those_that_are_walked_are_found_by_their_steps():
    def blocks(side):  # 256 and up to three less, over and over
        return side % 256 in (0, 253, 254, 255)

    found = sides_taken(blocks, 256, 64, further=(64, 128, 256))
    assert (found.least, found.most) == (253, MAX_SIDE)
    assert found.steps == Steps(256, (0, 253, 254, 255))
    assert sides_taken(blocks, 256, 64).most == 256
    once = sides_taken(lambda side: blocks(side) and side < 300, 256, 64, further=(128, 256))
    assert once.most == 256
    with pytest.raises(DeclinedError, match="in no order that repeats"):
        sides_taken(lambda side: side in (8, 11, 20, 36), 8, 16, further=(12, 28))
