"""Optimisation profiles: shapes that the file takes, as TensorRT wants them."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

import anysize
from anysize.cli.app import run
from anysize.errors import UsageError
from anysize.sizes import Size
from anysize.surgery import FileMetadata, write_metadata


@pytest.fixture(scope="module", name="file")
def _file(tmp_path_factory):
    path = tmp_path_factory.mktemp("profile") / "digits.onnx"
    anysize.export("digits", path, head="fcn", verify=False)
    return path


def test_every_shape_of_a_profile_is_taken_by_the_file_and_one_less_is_not(file):
    (three,) = anysize.profile(file, max_size=Size(96, 128)).shapes.values()
    assert three == ((1, 1, 32, 32), (1, 1, 32, 32), (8, 1, 96, 128))
    session = onnxruntime.InferenceSession(file)
    for shape in three:
        session.run(None, {"input": np.zeros(shape, np.float32)})
    with pytest.raises(Exception, match="Expand"):
        session.run(None, {"input": np.zeros((1, 1, 31, 32), np.float32)})


def test_without_a_bound_the_largest_is_twice_the_usual(file):
    (three,) = anysize.profile(file, size=Size(40, 50), batches=(2, 4, 4)).shapes.values()
    assert three == ((2, 1, 32, 32), (4, 1, 40, 50), (4, 1, 80, 100))


def small(path, dims, *, sizes=None, more=()):
    image = helper.make_tensor_value_info("image", 1, dims)
    others = [helper.make_tensor_value_info(name, 1, axes) for name, axes in more]
    scores = helper.make_tensor_value_info("scores", 1, ["n", 3, 1, 1])
    pooled = helper.make_node("GlobalAveragePool", ["image"], ["scores"])
    model = helper.make_model(helper.make_graph([pooled], "g", [image, *others], [scores]))
    if sizes is not None:
        write_metadata(model, FileMetadata(head="as-is").with_sizes(sizes))
    onnx.save(model, path)
    return path


def test_what_is_fixed_stays_and_what_follows_the_image_follows(tmp_path):
    path = small(
        tmp_path / "f.onnx", [2, 3, "h", "w"], more=[("mask", [2, 1, "h", "w"]), ("facts", [2, 4])]
    )
    shapes = anysize.profile(path, size=Size(8, 9), max_size=Size(16, 20)).shapes
    assert shapes["image"][1:] == ((2, 3, 8, 9), (2, 3, 16, 20))
    assert shapes["mask"][1:] == ((2, 1, 8, 9), (2, 1, 16, 20))
    assert shapes["facts"] == ((2, 4),) * 3


def test_remainders_and_bounds_are_kept(tmp_path):
    steps = anysize.sizes.Steps(8, (0,))
    sizes = anysize.SizeRange(Size(16, 16), Size(64, 64), steps, steps)
    path = small(tmp_path / "f.onnx", ["n", 3, "h", "w"], sizes=sizes)
    (three,) = anysize.profile(path).shapes.values()
    assert [shape[2:] for shape in three] == [(16, 16), (16, 16), (64, 64)]
    with pytest.raises(UsageError, match=r"--size 20x24: the file takes"):
        anysize.profile(path, size=Size(20, 24))


def test_the_command_prints_flags_or_json_and_refuses_in_one_line(file, capsys):
    assert run(["profile", str(file), "--max-size", "64x96", "--batches", "1,2,4"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "--minShapes=input:1x1x32x32",
        "--optShapes=input:2x1x32x32",
        "--maxShapes=input:4x1x64x96",
    ]
    assert run(["profile", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["input"]["max"] == [8, 1, 64, 64]
    for wrong in (["--batches", "1,2"], ["--batches", "4,2,1"], ["--max-size", "16"]):
        assert run(["profile", str(file), *wrong]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
