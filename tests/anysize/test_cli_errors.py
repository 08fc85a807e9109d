"""Bad input gives one clear line on stderr and the right exit code, in bounded time."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


class Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return (os.system, ("touch pwned",))


USER = """
import math
import sys
import torch
from torch import nn
print("printed by a user's module")

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
    def forward(self, x):
        return self.conv(x).mean((2, 3))

class Broken(Net):
    def forward(self, x):
        raise TypeError("forward is broken")

class Random(Net):
    def forward(self, x):
        return super().forward(x) + torch.rand(4)

class Sized(Net):
    def forward(self, x):
        return super().forward(x) * math.sin(x.shape[2])

def raises():
    raise ValueError("first line\\nsecond line")

def exits():
    sys.exit(0)

def none():
    return None

number = 3
"""


def write_graph(path, *, kind=TensorProto.FLOAT, shape=("batch", 3, 8, 8), **changes):
    """Conv → Relu → Flatten → Gemm, with what the test is about changed."""
    draw = np.random.default_rng(0).standard_normal
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    weights = [
        numpy_helper.from_array(draw((4, 3, 3, 3)).astype(dtype), "kernel"),
        numpy_helper.from_array(draw((5, 144)).astype(dtype), "matrix"),
    ]
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["a"], name="conv"),
        helper.make_node(changes.get("operator", "Relu"), ["a"], ["b"], name="act"),
        helper.make_node("Flatten", ["b"], ["c"], name="flatten"),
        helper.make_node("Gemm", ["c", "matrix"], ["scores"], name="fc", transB=1),
    ]
    inputs = [helper.make_tensor_value_info("image", kind, shape)]
    inputs += [helper.make_tensor_value_info(n, kind, shape) for n in changes.get("extra", ())]
    outputs = [helper.make_tensor_value_info("scores", kind, (shape[0], 5))]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, weights)
    opset = helper.make_opsetid("", changes.get("opset", 18))
    model = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    path.write_bytes(model.SerializeToString())


def write_flat_graph(path):
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ("batch", 10)) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
    opset = helper.make_opsetid("", 18)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of files that a hostile or a clumsy user has."""
    import torch
    from PIL import Image
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("bad")
    write_graph(folder / "good.onnx")
    write_graph(folder / "double.onnx", kind=TensorProto.DOUBLE)
    write_graph(folder / "two.onnx", extra=("other",))
    write_graph(folder / "unknown.onnx", operator="Frobnicate")
    write_graph(folder / "future.onnx", opset=999)
    write_graph(folder / "symbolic.onnx", shape=("batch", 3, "height", "width"))
    write_graph(folder / "channels.onnx", shape=("batch", "channels", 8, 8))
    write_flat_graph(folder / "flat.onnx")
    good = (folder / "good.onnx").read_bytes()
    (folder / "cut.onnx").write_bytes(good[: len(good) // 2])
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "random.onnx").write_bytes(np.random.default_rng(1).bytes(4000))
    (folder / "text.onnx").write_text("this is no model\n" * 40)
    torch.save({"weight": torch.zeros(3)}, folder / "checkpoint.onnx")
    torch.save({"weight": Evil()}, folder / "evil.pt")
    (folder / "evil.pkl").write_bytes(pickle.dumps(Evil()))
    save_file({"other.weight": torch.zeros(3, 3)}, folder / "wrong.safetensors")
    (folder / "user.py").write_text(USER)
    (folder / "syntax.py").write_text("def (:\n")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    Image.new("RGB", (50, 40)).save(folder / "image.png")
    image = (folder / "image.png").read_bytes()
    (folder / "cut.png").write_bytes(image[: len(image) // 2])
    return folder


UNREADABLE = {
    "missing.onnx": "cannot be opened: No such file",
    "folder": "is a folder",
    "pipe": "is no regular file",
    "/dev/zero": "is no regular file",
    "empty.onnx": "is empty",
    "cut.onnx": "is cut short",
    "random.onnx": "not an ONNX file",
    "text.onnx": "not an ONNX file",
    "checkpoint.onnx": "not an ONNX file",
    "unknown.onnx": "No Op registered for Frobnicate",
    "future.onnx": "opset 999, expected 1 to",
    "flat.onnx": "expected an image, which has two sides: (batch, channels, height, width)",
}
COMMANDS = (
    "inspect {}",
    "rewrite {} -o out.onnx",
    "validate {} --reference good.onnx",
    "validate good.onnx --reference {} --sizes 8x8",
    "heatmap {} image.png -o out.png",
)


@dataclass(frozen=True, slots=True)
class Bad:
    """A command line and what its one line must say."""

    line: str
    says: str
    code: int = 2

    def __str__(self):
        return self.line


WRONG = [
    # the command line itself
    Bad("nope", "No such command 'nope'"),
    Bad("export", "Missing argument 'SOURCE'; see anysize export --help"),
    Bad("export lenet", "Missing option '-o'"),
    Bad("export lenet -o out.onnx --opset x", "Invalid value for '--opset'"),
    Bad("export lenet -o out.onnx --seed -1", "Invalid value for '--seed'"),
    Bad("export lenet -o out.onnx --external-data maybe", "'auto', 'always', 'never'"),
    Bad(
        "rewrite good.onnx -o out.onnx --output heat",
        "expected map, logits, both, what the file hands out",
    ),
    Bad("runtimes extra", "unexpected extra argument"),
    # sizes
    Bad("export lenet -o out.onnx --size 32x", "expected HEIGHTxWIDTH"),
    Bad("export lenet -o out.onnx --size 0x0", "height is 0, expected 1 to 65536"),
    Bad("export lenet -o out.onnx --size 3x3", "the smallest size is 16x16"),
    Bad("inspect good.onnx --sizes ,", "expected a list such as"),
    Bad("inspect good.onnx --sizes 999999999x2", "expected 1 to 65536"),
    Bad("rewrite symbolic.onnx -o out.onnx", "4×6×6 or 4×4×9 or 4×9×4; give --size"),
    Bad("rewrite symbolic.onnx -o out.onnx --size 9x9", "196 features, expected 144"),
    Bad("validate good.onnx --reference good.onnx --sizes 65536x65536", "out of memory"),
    # heads, opsets, sources
    Bad("export lenet -o out.onnx --head nope", "lenet offers fc, fcn"),
    Bad("export user:Net -o out.onnx --head fcn", "takes any size already"),
    Bad("export lenet -o out.onnx --opset 5", "opset 5: expected 13 to"),
    Bad("export nope -o out.onnx", "not in the zoo; the zoo has alexnet"),
    Bad("export user: -o out.onnx", "expected a zoo name"),
    Bad("export nosuchpackage:make -o out.onnx", "No module named 'nosuchpackage'"),
    Bad("export syntax:make -o out.onnx", "SyntaxError"),
    Bad("export user:missing -o out.onnx", "has no attribute 'missing'"),
    Bad("export user:number -o out.onnx", "expected a callable"),
    Bad("export user:raises -o out.onnx", "ValueError: first line"),
    Bad("export user:exits -o out.onnx", "SystemExit: 0"),
    Bad("export user:none -o out.onnx", "returned a NoneType, expected an nn.Module"),
    Bad("export user:Broken -o out.onnx --size 32x32", "TypeError: forward is broken"),
    Bad(
        "export user:Random -o out.onnx --size 32x32",
        "what is drawn at random has no place",
    ),
    Bad("export user:Sized -o out.onnx --size 32x32", "height and width is not known"),
    # weights
    Bad("export lenet -o out.onnx --weights missing.pt", "no such file"),
    Bad("export lenet -o out.onnx --weights folder", "is a folder"),
    Bad("export lenet -o out.onnx --weights pipe", "is a device or a pipe"),
    Bad("export lenet -o out.onnx --weights good.onnx", "neither safetensors nor a torch file"),
    Bad("export lenet -o out.onnx --weights evil.pt", "holds more than tensors"),
    Bad("export lenet -o out.onnx --weights evil.pkl", "holds more than tensors"),
    Bad("export lenet -o out.onnx --weights wrong.safetensors", "features.0.weight is missing"),
    # rewrites that cannot be done, or not be proved
    Bad("rewrite good.onnx -o out.onnx --to spp", "expected fcn"),
    Bad("rewrite channels.onnx -o out.onnx", "channels are not declared"),
    Bad("rewrite two.onnx -o out.onnx", "cannot be proved: input 'other'"),
    Bad("rewrite double.onnx -o out.onnx", "is float64, expected float32, float16 or uint8"),
    # outputs
    Bad("rewrite good.onnx -o nofolder/out.onnx", "folder nofolder does not exist"),
    Bad("rewrite good.onnx -o folder", "is a folder; name a file in it"),
    Bad("rewrite good.onnx -o pipe", "is a device or a pipe"),
    Bad("rewrite good.onnx -o /dev/null", "is a device or a pipe"),
    Bad("rewrite good.onnx -o /dev/stdout", "is a device or a pipe"),
    Bad("rewrite good.onnx -o good.onnx/out.onnx", "does not exist"),
    Bad("export lenet -o wrong.safetensors --weights wrong.safetensors", "would overwrite"),
    Bad("heatmap good.onnx image.png -o image.png", "would overwrite the input image.png"),
    Bad("validate good.onnx --reference good.onnx --json nofolder/a.json", "does not exist"),
    Bad("validate good.onnx --reference good.onnx --json good.onnx", "would overwrite"),
    Bad("validate good.onnx --reference good.onnx --json a --junit a", "choose two files"),
    Bad("demo -o good.onnx", "cannot be made"),
    # validation
    Bad("validate good.onnx", "does not say which model it is; give --reference"),
    Bad("validate good.onnx --reference nope", "not in the zoo"),
    Bad("validate good.onnx --reference good.onnx --weights evil.pt", "not for an ONNX file"),
    Bad("validate good.onnx --reference good.onnx --runtimes nope", "known are ort-cpu"),
    Bad("validate good.onnx --reference good.onnx --runtimes ,", "expected a list such as ort-cpu"),
    Bad("validate good.onnx --reference good.onnx --batches 0", "expected whole numbers from 1"),
    Bad("validate good.onnx --reference good.onnx --batches 1.5", "expected whole numbers"),
    Bad("validate good.onnx --reference good.onnx --atol nan", "--atol nan: expected a number"),
    Bad("validate good.onnx --reference good.onnx --rtol -1", "--rtol -1.0: expected a number"),
    Bad("validate good.onnx --reference good.onnx --rtol map:1", "the file has no such output"),
    Bad("validate good.onnx --reference good.onnx --atol x", "--atol x: expected a number such"),
    Bad("validate good.onnx --reference good.onnx --atol 1 --atol 2", "given twice for all"),
    Bad("validate good.onnx --reference good.onnx --half", "most weights of good.onnx are float32"),
    Bad("validate two.onnx --reference good.onnx", "good.onnx: takes 1 input(s), got 2"),
    Bad("validate double.onnx --reference double.onnx", "ONNX Runtime cannot load it"),
    # pictures
    Bad("heatmap good.onnx image.png -o out.png", "hands out no class map"),
    Bad("heatmap any.onnx missing.png -o out.png", "cannot be read: No such file"),
    Bad("heatmap any.onnx folder -o out.png", "is no regular file"),
    Bad("heatmap any.onnx pipe -o out.png", "is no regular file"),
    Bad("heatmap any.onnx cut.png -o out.png", "cannot be read"),
    Bad("heatmap any.onnx good.onnx -o out.png", "cannot identify image file"),
    Bad("heatmap any.onnx image.png -o out.png --class 99", "or 0 to 4"),
    Bad("heatmap any.onnx image.png -o out.png --top 0", "expected at least 1"),
]


@pytest.fixture
def inside(folder, monkeypatch):
    """Stand in that folder; nothing may appear in it or change."""
    import anysize

    if not (folder / "any.onnx").exists():
        anysize.rewrite(folder / "good.onnx", folder / "any.onnx")
    monkeypatch.chdir(folder)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    before.pop("__pycache__", None)
    yield
    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    after.pop("__pycache__", None)
    assert after == before


def assert_refused(done, code, says):
    assert done.code == code, done.err
    assert len(done.errors) == 1, done.err
    assert done.errors[0].startswith("anysize: error: ")
    assert done.err.splitlines()[-1] == done.errors[0]
    assert says in done.errors[0]
    assert done.out == ""


@pytest.mark.parametrize(
    "bad",
    [
        Bad(command.format(file), says)
        for command in COMMANDS
        for file, says in UNREADABLE.items()
        if "reference {}" not in command or file.endswith(".onnx")  # others are a SOURCE
    ],
    ids=str,
)
def test_a_file_that_cannot_be_used_is_refused(bad, run, inside):
    assert_refused(run(*bad.line.split()), bad.code, bad.says)


@pytest.mark.parametrize("bad", WRONG, ids=str)
def test_bad_input_gives_one_line(bad, run, inside):
    assert_refused(run(*bad.line.split()), bad.code, bad.says)


def test_nothing_that_was_unpickled_has_run(folder):
    assert not (folder / "pwned").exists()


def test_a_traceback_would_be_noticed(run, inside):
    done = run("inspect", "missing.onnx", "--debug")
    with pytest.raises(AssertionError):
        assert_refused(done, 2, "cannot be opened")


def test_debug_shows_the_traceback_wherever_it_stands(run, inside):
    for arguments in (
        ("--debug", "inspect", "missing.onnx"),
        ("inspect", "missing.onnx", "--debug"),
    ):
        done = run(*arguments)
        assert done.code == 2
        assert "Traceback (most recent call last)" in done.err
        assert done.err.splitlines()[-1].startswith("anysize: error: missing.onnx: ")


def test_a_bug_of_ours_is_one_line_too(run, inside, monkeypatch):
    from anysize import surgery

    def broken(*arguments, **words):
        raise KeyError("of all things")

    monkeypatch.setattr(surgery, "load_model", broken)
    done = run("inspect", "good.onnx")
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert line.startswith("anysize: internal error: KeyError: 'of all things'; run again with")


def test_what_a_file_name_hides_cannot_reach_the_terminal(run, inside):
    done = run("inspect", "a\x1b[31m\nb.onnx")
    assert_refused(done, 2, "a?[31m b.onnx: cannot be opened")


def test_a_size_where_nothing_can_be_proved_exits_3(run, inside):
    done = run("validate", "any.onnx", "--reference", "good.onnx", "--sizes", "5x5")
    assert (done.code, done.errors) == (3, [])
    assert "no cell passed, so nothing was proved" in done.out


PROGRAM = [sys.executable, "-m", "anysize"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("inspect", "pipe"), "is no regular file"),
        (("export", "user:none", "-o", "out.onnx"), "returned a NoneType"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_the_program_exits_2_without_a_traceback(arguments, says, inside):
    done = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert says in done.stderr.splitlines()[-1]


def test_a_reader_that_goes_away_leaves_no_traceback(inside):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*PROGRAM, "inspect", "good.onnx"], stdout=writer, stderr=subprocess.PIPE, timeout=60
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (2, b"")


def test_a_full_disk_is_one_line(inside):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [*PROGRAM, "inspect", "good.onnx"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.returncode == 2
    assert done.stderr == "anysize: error: No space left on device\n"
