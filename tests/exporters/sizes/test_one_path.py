"""A file takes the sizes at which its module takes the path that was traced, and says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import anysize
from anysize.exporters import ExportSpec, export_module
from anysize.exporters.sizes import OnePath, Probe
from anysize.sizes import Size, SizeRange, Steps
from anysize.surgery import guard_max_size, read_metadata, write_metadata
from anysize.validators import Verdict, validate_model
from anysize.validators.references.eager import OnePath as OwnPath

RIGHT, REFUSED = "right", "refused"


class Body(nn.Module):
    """Tokens of 4×4 pixels, what is between, and a linear layer over the average."""

    def __init__(self):
        super().__init__()
        self.tokens, self.classifier = nn.Conv2d(3, 8, 4, stride=4), nn.Linear(8, 5)

    def between(self, x):
        return x

    def forward(self, x):
        return self.classifier(self.between(self.tokens(x)).relu().mean((2, 3)))


class Shifted(Body):
    """Shifts its map along the sides that have more than one window, as Swin does."""

    def between(self, x):
        shifts = [-3 if side > 7 else 0 for side in x.shape[2:]]
        if any(shifts):
            x = torch.roll(x, shifts, (2, 3)) * torch.arange(x.shape[3])
        return x


class OddOnes(Body):
    def between(self, x):
        return x.sigmoid() if x.shape[2] % 2 or x.shape[3] % 2 else x


class Crops(Body):
    """Adds a table of 4×4 cells to half the map, which is doubled and cropped."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(1, 8, 4, 4))

    def between(self, x):
        half = F.avg_pool2d(x, 2, ceil_mode=True) + self.table
        return x + half.repeat(1, 1, 2, 2)[:, :, : x.shape[2], : x.shape[3]]


class Blocks(Body):
    """Averages in blocks of 8×8 cells, several heads at once."""

    def between(self, x):
        n, c, h, w = x.shape
        if h % 8 or w % 8:
            raise ValueError("blocks of 8×8 cells")
        x = x.reshape(n, c, h // 8, 8, w // 8, 8).permute(0, 1, 3, 5, 2, 4)
        x = x.reshape(n * 2, c // 2, -1, (h // 8) * (w // 8)).softmax(2)
        return x.reshape(n, c, 64, -1)


def exported(module, side):
    torch.manual_seed(0)
    module = module().eval()
    size = Size(side, side)
    spec = ExportSpec(name="net", head=None, channels=3, classes=5, size=size)
    return module, export_module(module, spec)


def answers(module, done, sizes):
    session = onnxruntime.InferenceSession(
        done.loaded().SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found = {}
    for size in sizes:
        x = np.random.default_rng(0).standard_normal((3, 3, *size), dtype=np.float32)
        with torch.inference_mode():
            expected = module(torch.from_numpy(x)).numpy()
        try:
            (got,) = session.run(None, {"input": x})
        except Exception:
            found[size] = REFUSED
            continue
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5, err_msg=f"{size}")
        found[size] = RIGHT
    return found


@pytest.mark.parametrize(
    ("module", "side", "sizes", "right", "refused"),
    [
        (Shifted, 24, SizeRange(Size(4, 4), Size(31, 31)), [(24, 24), (4, 31)], [(32, 24)]),
        (Shifted, 64, SizeRange(Size(32, 32)), [(32, 32), (77, 133)], [(31, 64), (64, 16)]),
        (
            OddOnes,
            24,
            SizeRange(Size(8, 8), None, Steps(8, (0, 1, 2, 3)), Steps(8, (0, 1, 2, 3))),
            [(24, 24), (11, 136)],
            [(28, 24), (24, 30)],
        ),
    ],
    ids=["one window", "several windows", "even maps"],
)
def test_sizes_at_which_the_module_takes_another_path_are_refused(
    module, side, sizes, right, refused
):
    net, done = exported(module, side)
    assert done.sizes == sizes
    found = answers(net, done, [*right, *refused])
    assert found == dict.fromkeys(right, RIGHT) | dict.fromkeys(refused, REFUSED)


def test_the_command_says_what_the_module_does_elsewhere(tmp_path):
    done = anysize.export(Shifted().eval(), tmp_path / "net.onnx", size=24, verify="full")
    assert done.report is not None
    (note,) = done.notes
    assert "takes 4x4 to 31x31 alone: at " in note
    assert "it runs roll, where it runs relu at 24x24" in note


class Folds(Body):
    """Folds windows of 8×8 cells into the batch; their number, 4, is a number of one operator."""

    def between(self, x):
        n, c, h, w = x.shape
        down, across = -(-h // 8), -(-w // 8)
        x = F.pad(x, (0, across * 8 - w, 0, down * 8 - h))
        x = x.view(n, c, down, 8, across, 8).permute(0, 2, 4, 1, 3, 5)
        return (
            x.reshape(n * down * across, c, 8, 8).softmax(1).view(n, c * down * across, 8, 8)[:, :c]
        )


class Remembers(Body):
    def between(self, x):
        if not hasattr(self, "scale"):
            self.scale = torch.full((1,), 2.0).sqrt()
        return x * self.scale * (x.shape[2] / -(-x.shape[2] // 2))


def test_a_path_is_known_by_operators_and_by_numbers_those_of_shapes_too():
    def inputs(size):
        return (np.zeros((2, 3, size.height, size.width), np.float32),)

    path = OwnPath(Folds().eval(), inputs, (Size(40, 44), Size(48, 60)))
    assert path(Size(64, 64))
    assert not path(Size(68, 64))  # six windows
    path = OwnPath(Remembers().eval(), inputs, (Size(32, 32), Size(64, 96)))
    assert path(Size(80, 32))
    assert not path(Size(36, 32))
    assert OwnPath(Remembers().eval(), inputs, (Size(32, 32), Size(36, 32)))(Size(80, 32))


class TurnsBack(Body):
    """Gives a shape with a -1, of which PyTorch makes a number where it has to copy."""

    def between(self, x):
        n, _, h, w = x.shape
        return x.flatten(2).transpose(1, 2).softmax(2).transpose(1, 2).reshape(n, -1, h, w)


def test_a_shape_is_the_same_whether_or_not_it_is_copied(tmp_path):
    net, path = TurnsBack().eval(), tmp_path / "net.onnx"
    assert anysize.export(net, path, size=24).sizes == SizeRange(Size(4, 4))

    def inputs(size):
        return (np.zeros((2, 3, size.height, size.width), np.float32),)

    assert OwnPath(net, inputs, (Size(24, 24), Size(31, 36)))(Size(4, 4))


def test_sizes_that_a_file_leaves_out_are_asked_of_its_module(tmp_path):
    net, path = Shifted().eval(), tmp_path / "net.onnx"
    done = anysize.export(net, path, size=24, verify="full")
    sizes = (Size(24, 24), Size(30, 24), Size(40, 24))
    verdicts = [Verdict.PASS, Verdict.PASS, Verdict.REJECTED]
    report = validate_model(path, net, sizes=sizes, batches=1)
    assert [cell.verdict for cell in report.cells] == verdicts
    model, few = onnx.load(path), SizeRange(Size(4, 4), Size(29, 29))
    guard_max_size(model, few.maximum)
    said = read_metadata(model)
    assert (said.path_sizes or ())[0] == Size(24, 24)
    write_metadata(model, said.with_sizes(few))
    onnx.save(model, path)
    report = validate_model(path, net, sizes=sizes, batches=1)
    assert [cell.verdict for cell in report.cells] == [Verdict.PASS, Verdict.ERROR, verdicts[2]]
    assert done.report is not None
    # Two paths are none, and so is one that the module refuses.
    for named in ((Size(24, 24), Size(40, 40)), (Size(1, 1), Size(2, 2))):
        write_metadata(model, replace(read_metadata(model), path_sizes=named))
        onnx.save(model, path)
        report = validate_model(path, net, sizes=sizes, batches=1)
        assert [cell.verdict for cell in report.cells][1:] == [Verdict.ERROR] * 2


def test_a_number_that_two_sizes_have_and_a_third_has_not_is_another_path():
    class Ratio(Body):
        def between(self, x):
            return x * (x.shape[2] / -(-x.shape[2] // 2))

    probe = Probe(Ratio(), 3)
    path = OnePath(probe, (Size(32, 32), Size(64, 96)), has_symbols=False)
    assert path(Size(80, 32))
    assert not path.other
    assert not path(Size(36, 32))
    assert path.other == "at 36x32 it runs mul with 1.8, and with 2.0 at 32x32 and 64x96"
    assert OnePath(probe, (Size(32, 32), Size(64, 96)), has_symbols=True)(Size(36, 32))
    assert OnePath(probe, (Size(32, 32), Size(36, 96)), has_symbols=False)(Size(64, 32))


def test_a_map_that_is_filled_up_is_no_other_path_where_it_is_filled_up_otherwise():
    """By one cell at both sizes, and by two at a third."""

    class Filled(Body):
        def between(self, x):
            x = F.pad(x, (0, -x.shape[3] % 3, 0, -x.shape[2] % 3))
            return x.unflatten(3, (-1, 3)).amax(4)

    sizes = Size(20, 32), Size(32, 44)
    path = OnePath(Probe(Filled().eval(), 3), sizes, has_symbols=False)
    assert path(Size(28, 40))
    assert not path.other


def test_a_padding_that_is_called_otherwise_is_another_path():
    class Filled(Body):
        def between(self, x):
            return torch.constant_pad_nd(x, (0, -x.shape[3] % 3, 0, -x.shape[2] % 3))

    path = OnePath(Probe(Filled().eval(), 3), (Size(20, 32), Size(32, 44)), has_symbols=False)
    assert not path(Size(28, 40))
    assert "constant_pad_nd with 2, and with 1" in path.other


def test_sides_of_square_images_are_told_apart():
    net, done = exported(Crops, 28)
    assert done.sizes == SizeRange(Size(28, 28), Size(35, 35))
    sizes = [(28, 28), (28, 35), (35, 28), (33, 31)]
    assert answers(net, done, sizes) == dict.fromkeys(sizes, RIGHT)


def test_blocks_of_which_the_traced_map_is_one_are_counted():
    net, done = exported(Blocks, 32)
    assert done.sizes.heights == Steps(32, (0, 1, 2, 3))
    sizes = [(32, 32), (32, 64), (96, 35)]
    assert answers(net, done, sizes) == dict.fromkeys(sizes, RIGHT)
