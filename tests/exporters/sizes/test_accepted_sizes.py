"""A file takes no size that its module refuses, and says so."""

import pytest
import torch
from torch import nn

from anysize.errors import ExportError
from anysize.exporters import ExportSpec, export_module
from anysize.sizes import Size, SizeRange


class Positions(nn.Module):
    """Adds an embedding to each of 8×8 tokens."""

    def __init__(self, *, cells: int = 64) -> None:
        super().__init__()
        self.tokens = nn.Conv2d(3, 8, 4, stride=4)
        self.positions = nn.Parameter(torch.randn(1, cells, 8))
        self.classifier = nn.Linear(8, 5)

    def forward(self, x):
        x = self.tokens(x).flatten(2).transpose(1, 2) + self.positions
        return self.classifier(x.mean(1))


class Strict(nn.Module):
    """Checks the size of its image itself."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 8, 3, padding=1)
        self.classifier = nn.Linear(8, 5)

    def forward(self, x):
        if x.shape[2] < 12 or x.shape[3] < 10:
            raise ValueError("too small for this network")
        return self.classifier(self.body(x).relu().mean((2, 3)))


def exported(module: nn.Module):
    torch.manual_seed(0)
    return export_module(
        module.eval(), ExportSpec(name="net", head=None, channels=3, classes=5, size=Size(32, 32))
    )


def test_a_module_that_takes_a_range_of_sizes_gives_a_file_of_that_range():
    result = exported(Positions())
    assert result.sizes == SizeRange(Size(32, 32), Size(35, 35))
    assert result.metadata.max_size == Size(35, 35)


@pytest.mark.parametrize("size", [(31, 32), (32, 31), (36, 32), (32, 36), (64, 64), (16, 64)])
def test_the_file_refuses_what_lies_outside_that_range(size):
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(
        exported(Positions()).loaded().SerializeToString(), providers=["CPUExecutionProvider"]
    )
    with pytest.raises(Exception, match=r"invalid|Invalid|incompatible|failed|broadcast"):
        session.run(None, {"input": np.zeros((1, 3, *size), np.float32)})


def test_a_module_that_is_stricter_than_its_shapes_raises_the_smallest_size():
    assert exported(Strict()).sizes == SizeRange(Size(12, 10))


def test_sizes_that_broadcasting_lets_in_far_below_are_no_part_of_the_range():
    class Broadcast(Positions):
        """Takes one cell, too, which broadcasts against its 8×8 weights."""

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(5, self.tokens.out_channels, 8, 8))

        def forward(self, x):
            return torch.einsum("bchw,ochw->bo", self.tokens(x), self.weight)

    assert exported(Broadcast()).sizes == SizeRange(Size(32, 32), Size(35, 35))


def test_sizes_that_are_no_range_are_refused_in_the_modules_own_words():
    class Area(Positions):
        def forward(self, x):
            if x.shape[2] + x.shape[3] > 80:
                raise ValueError("images of at most 80 pixels around the corner")
            return self.classifier(self.tokens(x).mean((2, 3)))

    with pytest.raises(
        ExportError,
        match=r"takes images of 32x32 but not of 48x48: images of at most 80 .*"
        r"\(test_accepted_sizes\.py:\d+\); the sizes that it takes are no range",
    ):
        exported(Area())
