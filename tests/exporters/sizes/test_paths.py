"""Two sizes are found at which a module takes one path, and which tell its numbers apart."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from anysize.exporters.sizes import Probe, alike_sizes
from anysize.exporters.sizes.paths import _crossed, _hides, _merges, _most_telling, _Path
from anysize.sizes import Size


def test_of_paths_that_fill_a_map_up_the_longest_is_taken():
    class Even(nn.Module):
        def forward(self, x):
            if x.shape[2] % 2 or x.shape[3] % 2:
                x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
            return x.mean((2, 3))

    first, second = alike_sizes(Probe(Even(), 3), Size(24, 24), Size(88, 152))
    assert first.height != second.height
    assert first.width != second.width
    assert all(one.height % 2 or one.width % 2 for one in (first, second))


def test_paths_that_compute_something_else_are_not_taken_for_each_other():
    class Either(nn.Module):
        def forward(self, x):
            return F.pad(x, (1, 1)).relu().mean((2, 3)) if x.shape[2] % 2 else x.mean((2, 3))

    first, second = alike_sizes(Probe(Either(), 3), Size(24, 24), Size(93, 131))
    assert first.height % 2 == second.height % 2 == 0
    assert first.height != second.height


def test_two_sizes_are_taken_at_which_no_two_maps_have_as_many_windows():
    """At 160×160 and 261×131 both have three windows across in the second of four maps."""

    class Windows(nn.Module):
        def __init__(self):
            super().__init__()
            self.counts = []

        def forward(self, x):
            for stride in (4, 2, 2, 2):
                x = x[:, :, ::stride, ::stride]
                n, c, h, w = x.shape
                down, across = -h % 7, -w % 7
                padded = F.pad(x, (0, across, 0, down)) if down or across else x
                windows = padded.view(n, c, (h + down) // 7, 7, (w + across) // 7, 7)
                self.counts.append((windows.shape[2], windows.shape[4]))
                x = windows.relu().view(n, c, h + down, w + across)[:, :, :h, :w]
            return x.mean((2, 3))

    module, counts = Windows(), []
    for size in alike_sizes(Probe(module, 3), Size(160, 160), Size(229, 267)):
        module.counts = []
        module(torch.zeros(1, 3, size.height, size.width))
        counts.append(module.counts)
    assert all(
        a != b for one, other in zip(*counts, strict=True) for a, b in zip(one, other, strict=True)
    )


def test_two_sizes_are_taken_that_tell_a_step_from_its_half():
    """A map of 120 cells is filled up to eights or to fours, one of 117 too, one of 65 is not."""

    class Eights(nn.Module):
        def forward(self, x):
            h, w = x.shape[2:]
            filled = F.interpolate(x, (h + -h % 8, w + -w % 8)) if h % 8 or w % 8 else x
            return filled.relu().mean((2, 3))

    for size in alike_sizes(Probe(Eights(), 3), Size(48, 49), Size(117, 156)):
        assert {-size.height % 8, -size.width % 8} & {4, 5, 6, 7}


def test_sizes_are_taken_that_tell_two_numbers_apart_rather_than_one_more():
    """The windows of two maps are 2 and 2, then 3 and 3: either could be where the other's are."""
    known = {
        Size(16, 40): _Path(("view",), ("2", "2", "5", "9"), ()),
        Size(24, 16): _Path(("view",), ("3", "3", "6", "9"), ()),
        Size(17, 17): _Path(("view",), ("2", "4", "6", "9"), ()),
        Size(18, 41): _Path(("view",), ("3", "5", "7", "9"), ()),
    }
    assert _merges(known, (Size(16, 40), Size(24, 16)))
    assert not _merges(known, _most_telling(known))


def test_sizes_are_crossed_where_no_two_tell_all():
    """Of four maps each has windows of its own number, and their product, at no two given sizes."""
    known = {
        Size(16, 40): _Path(("view",), ("2", "3", "6"), ()),
        Size(24, 16): _Path(("view",), ("3", "2", "6"), ()),
        Size(17, 17): _Path(("view",), ("2", "2", "4"), ()),
    }
    assert _hides(known, (Size(16, 40), Size(24, 16)))
    assert {*_crossed(known)} == {
        Size(24, 40), Size(24, 17), Size(17, 40), Size(17, 16), Size(16, 17), Size(16, 16),
    }  # fmt: skip

    class Counted(nn.Module):
        """Looks up to a tile's end, as long as it need not for the one side alone."""

        def forward(self, x):
            n, c, h, w = x.shape
            down, across = -(-h // 96), -(-w // 96)
            x = F.pad(x, (0, 96 * across - w, 0, 96 * down - h)) if h % 96 or w % 96 else x
            tiles = x.view(n, c, down, 96, across, 96).permute(0, 2, 4, 1, 3, 5)
            return tiles.reshape(n * down * across, -1).view(n, down * across, -1).mean((1, 2))

    first, second = alike_sizes(Probe(Counted(), 3), Size(160, 160), Size(229, 267))
    counts = [(-(-size.height // 96), -(-size.width // 96)) for size in (first, second)]
    assert counts[0][0] != counts[1][0]
    assert counts[0][1] != counts[1][1]
    assert counts[0][0] * counts[0][1] != counts[1][0] * counts[1][1]


def test_a_ratio_that_is_the_same_at_two_sizes_is_told_by_a_third():
    class Halved(nn.Module):
        def forward(self, x):
            small = F.avg_pool2d(x, 2, ceil_mode=True)
            return (x * (x.shape[2] / small.shape[2])).mean((2, 3))

    probe = Probe(Halved(), 3)
    ratios = {
        size.height / -(-size.height // 2)
        for size in alike_sizes(probe, Size(160, 160), Size(230, 268))
    }
    assert len(ratios) == 2
    plain = Probe(nn.Conv2d(3, 4, 3), 3)
    given = Size(160, 160), Size(230, 268)
    assert alike_sizes(plain, *given) == given


def test_each_ratio_of_maps_that_are_halved_over_and_over_is_told():
    """Of 40 and 67 columns the second halves are 2 times the third ones, as at all even sizes."""

    class Halved(nn.Module):
        def __init__(self):
            super().__init__()
            self.ratios = []

        def forward(self, x):
            x = F.avg_pool2d(x, 4, ceil_mode=True)
            for _ in range(3):
                small = F.avg_pool2d(x, 2, ceil_mode=True)
                self.ratios += [a / b for a, b in zip(x.shape[2:], small.shape[2:], strict=True)]
                x = small * self.ratios[-1] * self.ratios[-2]
            return x.mean((2, 3))

    module, ratios = Halved(), []
    for size in alike_sizes(Probe(module, 3), Size(160, 160), Size(229, 267)):
        module.ratios = []
        module(torch.zeros(1, 3, size.height, size.width))
        ratios.append(module.ratios)
    assert all(one != other for one, other in zip(*ratios, strict=True))


def test_half_of_an_even_side_is_told_by_an_odd_one():
    """Half of 24 and of 92 would be the same rounded up."""

    class Turned(nn.Module):
        def forward(self, x):
            return torch.roll(x, (x.shape[2] // 2, x.shape[3] // 2), (2, 3)).cumsum(3).mean((2, 3))

    sizes = alike_sizes(Probe(Turned(), 3), Size(24, 24), Size(92, 132))
    assert any(size.height % 2 for size in sizes)
    assert any(size.width % 2 for size in sizes)


def test_a_module_of_one_size_has_one_path():
    class Fixed(nn.Module):
        def forward(self, x):
            return x.view(-1, 3 * 24 * 24)[:, :12]

    size = Size(24, 24)
    assert alike_sizes(Probe(Fixed(), 3), size, size) == (size, size)


class Attending(nn.Module):
    """Windows of 7×7 cells on maps at strides of 4 to 32 pixels, filled up where they have to be.

    A map that is one window is left whole, if `leaves_one` says so.
    """

    def __init__(self, leaves_one=False):
        super().__init__()
        self.leaves_one, self.layer = leaves_one, nn.Linear(3, 3)
        self.counts = []

    def windows(self, x):
        n, h, w, c = x.shape
        if self.leaves_one and h == w == 7:
            return self.layer(x.reshape(n, 49, c)).view(n, h, w, c)
        down, across = -h % 7, -w % 7
        if down or across:
            x = F.pad(x, (0, 0, 0, across, 0, down))
        rows, columns = x.shape[1] // 7, x.shape[2] // 7
        self.counts.append((rows, columns))
        x = x.view(n, rows, 7, columns, 7, c).transpose(2, 3).reshape(-1, 49, c)
        x = self.layer(x).view(n, rows, columns, 7, 7, c).transpose(2, 3)
        return x.reshape(n, rows * 7, columns * 7, c)[:, :h, :w]

    def forward(self, x):
        for stride in (4, 2, 2, 2):
            x = F.avg_pool2d(x, stride, ceil_mode=True)
            x = self.windows(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()
        return x.mean((2, 3))


@pytest.mark.parametrize("leaves_one", [False, True])
def test_sizes_are_taken_at_which_the_smallest_map_has_more_windows_too(leaves_one):
    """Of up to 448 pixels it has two, as most images that are tried."""
    module, counts = Attending(leaves_one), []
    sizes = alike_sizes(Probe(module, 3), Size(224, 224), Size(293, 331))
    for size in sizes:
        module.counts = []
        module(torch.zeros(1, 3, size.height, size.width))
        counts.append(module.counts)
    for first, second in zip(*counts, strict=True):
        assert first[0] != second[0]
        assert first[1] != second[1]
