"""`anysize heatmap`: where in an image a graph sees its classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

import anysize
import anysize.models.digits
from anysize.surgery import read_metadata, write_metadata

PAGE = Path(anysize.models.digits.__file__).with_name("page") / "page.png"
REACH_PIXELS = 8


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), np.int64)


def test_digits_are_seen_where_they_are(digits_files, run, tmp_path):
    from anysize.models.digits.page import load_page

    picture = tmp_path / "seven.png"
    done = run("heatmap", digits_files["fcn"], PAGE, "-o", picture, "--class", "7")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{picture}: image 288x416, map 65x97\n  class 7: ")
    peak = anysize.heatmap(digits_files["fcn"], PAGE, picture, class_=7).peaks[0]
    sevens = [digit for digit in load_page().digits if digit.label == 7]
    assert any(
        max(abs(digit.y - peak.y), abs(digit.x - peak.x)) <= REACH_PIXELS for digit in sevens
    )
    assert peak.probability > 0.9


def test_the_picture_shows_the_page_and_the_class_that_was_asked_for(digits_files, tmp_path):
    seven, one = tmp_path / "seven.png", tmp_path / "one.png"
    for path, digit in ((seven, 7), (one, 1)):
        anysize.heatmap(digits_files["fcn"], PAGE, path, class_=digit)
    assert pixels(seven).shape == pixels(one).shape
    assert np.abs(pixels(seven) - pixels(one)).max() > 50


def test_the_strongest_classes_come_first(rewritten_digits, tmp_path):
    done = anysize.heatmap(rewritten_digits, PAGE, tmp_path / "top.png", top=4)
    probabilities = [peak.probability for peak in done.peaks]
    assert len(probabilities) == 4
    assert probabilities == sorted(probabilities, reverse=True)


@pytest.fixture(scope="module")
def colour_graph(small_exports, tmp_path_factory):
    path = tmp_path_factory.mktemp("colour") / "any.onnx"
    anysize.rewrite(small_exports["dynamo"], path, verify=False)
    return path


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_graph_with_three_channels_takes_colour_images(colour_graph, run, tmp_path, suffix):
    values = np.random.default_rng(3).integers(0, 256, (60, 90, 3), np.uint8)
    Image.fromarray(values).save(tmp_path / f"image.{suffix}")
    done = run("heatmap", colour_graph, tmp_path / f"image.{suffix}", "-o", tmp_path / "out.png")
    assert (done.code, done.err) == (0, "")
    assert "image 60x90, map 5x9" in done.out
    assert len(done.out.splitlines()) == 5


def test_a_grey_image_with_alpha_is_taken_by_a_colour_graph(colour_graph, run, tmp_path):
    Image.new("LA", (40, 40)).save(tmp_path / "grey.png")
    done = run("heatmap", colour_graph, tmp_path / "grey.png", "-o", tmp_path / "out.png")
    assert done.code == 0


def test_a_picture_is_taken_as_it_is_meant(digits_files, tmp_path):
    page = Image.open(PAGE).convert("L")
    page = page.crop((0, 0, page.width, page.height // 2))
    page.save(tmp_path / "page.png")
    values = np.asarray(page)
    turned = page.transpose(Image.Transpose.ROTATE_90)
    exif = turned.getexif()
    exif[0x0112] = 6  # turned by 90 degrees to be seen upright
    turned.save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(values.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    alpha = Image.fromarray(np.zeros_like(values)).convert("LA")
    alpha.putalpha(Image.fromarray(255 - values))  # black ink on nothing
    alpha.save(tmp_path / "transparent.png")

    def peaks(path):
        found = anysize.heatmap(digits_files["fcn"], path, tmp_path / "out.png", top=5)
        return [(p.index, p.y, p.x, round(p.probability, 4)) for p in found.peaks], found.size

    expected = peaks(tmp_path / "page.png")
    assert len(expected[0]) == 5
    for name in ("turned", "deep", "transparent"):
        assert peaks(tmp_path / f"{name}.png") == expected, name


def test_preprocessing_and_names_come_from_flags_or_the_file_and_are_said(
    colour_graph, run, tmp_path
):
    image, out = tmp_path / "image.png", tmp_path / "out.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (60, 90, 3), np.uint8)).save(image)
    told = anysize.Preprocessing("bgr", 1.0, (104.0, 117.0, 123.0), (1.0,))
    recorded = tmp_path / "recorded.onnx"
    model = onnx.load(colour_graph)
    described = replace(read_metadata(model), preprocessing=told)
    write_metadata(model, described)
    onnx.save(model, recorded)
    assumed = anysize.heatmap(colour_graph, image, out)
    from_file = anysize.heatmap(recorded, image, out)
    flags = ["--bgr", "--scale", "1", "--mean", "104,117,123", "--std", "1"]
    from_flags = run("heatmap", colour_graph, image, "-o", out, *flags)
    assert (assumed.preprocessing_from, from_file.preprocessing_from) == ("assumed", "file")
    assert from_file.preprocessing.startswith("bgr, value × 1, mean 104 117 123, std 1")
    assert assumed.peaks != from_file.peaks
    assert from_flags.out.replace("(flags)", "(file)") == f"{from_file.summary()}\n"
    count = onnx.load(colour_graph).graph.output[0].type.tensor_type.shape.dim[1].dim_value
    names = [f"class of {n}" for n in range(count)]
    (tmp_path / "names.txt").write_text("\n".join(names))
    named = run(
        *("heatmap", colour_graph, image, "-o", out),
        *("--classes", tmp_path / "names.txt", "--class", "class of 3"),
    )
    assert "class class of 3: " in named.out
    (tmp_path / "names.txt").write_text("a\nb")
    few = run("heatmap", colour_graph, image, "-o", out, "--classes", tmp_path / "names.txt")
    assert (few.code, len(few.err.splitlines())) == (2, 1)
    assert f"2 names for {count} outputs" in few.err


def test_an_image_below_the_smallest_size_is_refused_before_the_runtime_sees_it(
    colour_graph, run, tmp_path
):
    Image.new("RGB", (10, 40)).save(tmp_path / "small.png")
    done = run("heatmap", colour_graph, tmp_path / "small.png", "-o", tmp_path / "out.png")
    assert done.code == 2
    assert "image of 40x10: " in done.errors[0]
    assert "takes 25x25 and up; enlarge the image" in done.errors[0]
    assert not (tmp_path / "out.png").exists()


def test_a_graph_that_puts_out_logits_alone_has_no_map(small_exports, run, tmp_path):
    path = tmp_path / "logits.onnx"
    anysize.rewrite(small_exports["dynamo"], path, output="logits", verify=False)
    Image.new("RGB", (40, 40)).save(tmp_path / "image.png")
    done = run("heatmap", path, tmp_path / "image.png", "-o", tmp_path / "out.png")
    assert done.code == 2
    assert "no output has the rank of a map" in done.errors[0]


def test_scores_that_are_probabilities_already_stay_as_they_are(tmp_path):
    from anysize.verbs.class_map import ClassMap
    from anysize.verbs.heatmap import _probabilities
    from anysize.verbs.panels import MapPlacement

    place = MapPlacement((1, 1), (0.5, 0.5))
    several = np.array([[[0.9]], [[0.8]]], np.float32)  # of a Sigmoid: two classes at one place
    assert np.array_equal(_probabilities(ClassMap(several, place, True, 1)), several)
    scores = _probabilities(ClassMap(several, place, False, 1))
    assert scores.sum() == pytest.approx(1)
    once = np.array([[[0.9]], [[0.1]]], np.float32)
    assert np.array_equal(_probabilities(ClassMap(once, place, False, 1)), once)


@pytest.mark.parametrize("last", ["Softmax", "Sigmoid"])
def test_a_graph_that_makes_probabilities_is_recognised_by_its_last_layer(
    digits_files, tmp_path, last
):
    from anysize.sizes import Size
    from anysize.verbs.class_map import class_map

    model = onnx.load(digits_files["fcn"])
    (output,) = model.graph.output
    for node in model.graph.node:
        node.output[:] = ["scores" if name == output.name else name for name in node.output]
    axis = {"axis": 1} if last == "Softmax" else {}
    model.graph.node.append(onnx.helper.make_node(last, ["scores"], [output.name], **axis))
    path = tmp_path / "probable.onnx"
    onnx.save(model, path)
    image = np.random.default_rng(0).random((1, 1, 40, 48), np.float32)

    def found(file):
        return class_map(file, Size(40, 48), lambda rows, columns: image[:, :, rows, columns])

    assert found(path).are_probabilities
    assert not found(digits_files["fcn"]).are_probabilities


def two_maps(path, target):
    model = onnx.load(path)
    (first,) = model.graph.output
    model.graph.node.append(onnx.helper.make_node("Neg", [first.name], ["other"]))
    second = model.graph.output.add()
    second.CopyFrom(first)
    second.name = "other"
    onnx.save(model, target)
    return first.name


def test_of_several_maps_none_is_chosen_in_silence(digits_files, run, tmp_path):
    path = tmp_path / "two.onnx"
    name = two_maps(digits_files["fcn"], path)
    words = ("heatmap", path, PAGE, "-o", tmp_path / "out.png")
    done = run(*words)
    assert done.code == 2
    assert f"has the maps {name}, other; say which with --output {name}" in done.errors[0]
    assert run(*words, "--output", "logits").code == 2
    first, second = (
        anysize.heatmap(path, PAGE, tmp_path / "out.png", output=one, class_=7).peaks[0]
        for one in (name, "other")
    )
    assert (first.y, first.x) != (second.y, second.x)
    alone = anysize.heatmap(digits_files["fcn"], PAGE, tmp_path / "out.png", class_=7).peaks[0]
    assert first == alone


@pytest.mark.parametrize(("head", "way"), [("gap", "cam"), ("fc", "fcn")])
def test_a_file_without_a_map_is_told_how_to_get_one(digits_files, run, tmp_path, head, way):
    file = digits_files[head]
    done = run("heatmap", file, PAGE, "-o", tmp_path / "out.png")
    assert done.code == 2
    command = f"anysize rewrite {file} --to {way} -o map.onnx"
    assert f"head {head} hands out no class map; write one that does: {command}" in done.errors[0]
    path = tmp_path / "map.onnx"
    assert run(*command.split()[1:-1], path).code == 0
    assert run("heatmap", path, PAGE, "-o", tmp_path / "out.png").code == 0
