"""Pictures by meaning, brought to a size, and turned into what a network takes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from PIL import Image

from anysize import Preprocessing, Size
from anysize.class_names import read_class_names
from anysize.errors import ModelFileError, UsageError
from anysize.images import fitted, pixels_of, read_picture
from anysize.preprocessing import preprocessing_of_texts

RAMP = np.linspace(0, 65535, 48 * 32).astype(np.uint16).reshape(48, 32)


def values(path, channels=1):
    return pixels_of(read_picture(path, channels=channels), channels=channels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["deep.png", "deep.tif", "deep.pgm"])
def test_sixteen_bits_are_kept(name, channels, tmp_path):
    kind = np.int32 if name.endswith("pgm") else np.uint16
    Image.fromarray(RAMP.astype(kind)).save(tmp_path / name)
    found = values(tmp_path / name, channels)
    assert found.shape == (48, 32, channels)
    np.testing.assert_allclose(found[:, :, -1] / 255, RAMP / 65535, atol=2e-5)


def test_transparent_parts_are_white_and_half_transparent_ones_half_so(tmp_path):
    picture = Image.new("RGBA", (3, 1))
    picture.putdata([(0, 0, 0, 0), (0, 0, 0, 128), (10, 20, 30, 255)])
    picture.save(tmp_path / "a.png")
    found = values(tmp_path / "a.png", 3)[0]
    assert found.tolist() == [[255] * 3, [127] * 3, [10, 20, 30]]
    palette = Image.new("P", (1, 1))
    palette.putpalette([0, 0, 0])
    palette.save(tmp_path / "p.png", transparency=0)
    assert values(tmp_path / "p.png").item() == 255


def test_colours_become_grey_by_their_luminance_and_grey_every_channel(tmp_path):
    Image.new("RGB", (1, 1), (0, 255, 0)).save(tmp_path / "green.png")
    assert values(tmp_path / "green.png").item() == pytest.approx(255 * 0.587, abs=1)
    Image.new("L", (1, 1), 7).save(tmp_path / "grey.png")
    assert values(tmp_path / "grey.png", 3).tolist() == [[[7, 7, 7]]]


def test_a_picture_is_turned_as_its_camera_says(tmp_path):
    picture = Image.new("RGB", (20, 10))
    picture.paste((255, 255, 255), (0, 0, 10, 10))  # the left half
    exif = picture.getexif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise: left becomes top
    picture.save(tmp_path / "a.png", exif=exif)
    found = values(tmp_path / "a.png")[:, :, 0]
    assert found.shape == (20, 10)
    assert (found[:10].min(), found[10:].max()) == (255, 0)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_values_of_which_none_is_white_are_refused(mode, tmp_path):
    Image.new(mode, (4, 4)).save(tmp_path / "a.tif")
    with pytest.raises(ModelFileError, match=r"a\.tif: cannot be read: .* which is white"):
        read_picture(tmp_path / "a.tif", channels=1)


@pytest.mark.parametrize("fault", ["text", "cut", "folder", "bomb"])
def test_what_cannot_be_read_is_one_line(fault, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.new("RGB", (64, 64)).save(path)
    match fault:
        case "text":
            path.write_text("no picture")
        case "cut":
            path.write_bytes(path.read_bytes()[:60])
        case "folder":
            path.unlink()
            path.mkdir()
        case "bomb":
            monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    with warnings.catch_warnings(), pytest.raises(ModelFileError, match=f"^image {path}: [^\n]+$"):
        warnings.simplefilter("error")
        read_picture(path, channels=3)


@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (300, 300)])
def test_a_crop_is_the_one_of_torchvision(width, height):
    """The short side becomes 256, the long one ⌊256 · long / short⌋, and 224×224 of the middle."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    picture = Image.fromarray(pixels)
    short, long = sorted((width, height))
    other = int(256 * long / short)
    new = (256, other) if width <= height else (other, 256)
    left, top = round((new[0] - 224) / 2), round((new[1] - 224) / 2)
    expected = picture.resize(new, Image.Resampling.BILINEAR).crop(
        (left, top, left + 224, top + 224)
    )
    got = fitted(picture, Size(224, 224), fit="crop", crop=0.875, interpolation="bilinear")
    assert np.array_equal(np.asarray(got), np.asarray(expected))


@pytest.mark.parametrize("size", [Size(30, 50), Size(50, 30)])
@pytest.mark.parametrize("crop", [1.0, 0.7])
def test_any_size_can_be_cropped_and_proportions_stay(size, crop):
    picture = Image.radial_gradient("L").resize((90, 60))
    got = fitted(picture, size, fit="crop", crop=crop, interpolation="bicubic")
    assert got.size == (size.width, size.height)
    assert fitted(picture, size, fit="none", crop=1, interpolation="bicubic") is picture
    with pytest.raises(ModelFileError, match="too narrow to be cropped"):
        strip = Image.new("L", (9_000_000, 1))
        fitted(strip, size, fit="crop", crop=1.0, interpolation="nearest")


def test_pixels_become_what_the_network_takes():
    pixels = np.array([[[0, 51, 255]]], np.float32)
    said = Preprocessing("bgr", 1 / 255, (0.1, 0.2, 0.3), (1.0, 2.0, 4.0))
    expected = [(1.0 - 0.1) / 1, (0.2 - 0.2) / 2, (0.0 - 0.3) / 4]
    assert said.applied(pixels)[:, 0, 0] == pytest.approx(expected, abs=1e-6)
    whole = Preprocessing().applied(pixels, "uint8")
    assert (whole.dtype, whole[:, 0, 0].tolist()) == (np.uint8, [0, 51, 255])


def test_what_is_not_said_is_taken_over_or_assumed():
    said = Preprocessing(mean=(0.5,)).over(Preprocessing(mean=(9.0,), crop=0.5))
    assert said == Preprocessing(mean=(0.5,), crop=0.5)
    assert said.complete(3).std == (1.0,)
    assert Preprocessing().complete(3).mean == (0.485, 0.456, 0.406)
    assert Preprocessing().complete(1) == Preprocessing(
        None, 1 / 255, (0.0,), (1.0,), 1.0, "bilinear"
    )
    with pytest.raises(UsageError, match="std: got 2 numbers, expected 1 or 3"):
        Preprocessing(std=(1.0, 2.0)).complete(3)


def test_it_is_read_back_from_json_and_from_the_command_line():
    said = preprocessing_of_texts(mean="0.1,1/2,0", std="2", scale="1/255", bgr=True, crop=0.875)
    assert said == Preprocessing("bgr", 1 / 255, (0.1, 0.5, 0.0), (2.0,), 0.875)
    assert Preprocessing.from_json(said.to_json()) == said
    assert str(said) == "bgr, value × 1/255, mean 0.1 0.5 0, std 2, crop 0.875"


@pytest.mark.parametrize(
    "text",
    ["", "[]", "3", '{"std": [0]}', '{"mean": ["a"]}', '{"mean": []}', '{"crop": 2}',
     '{"scale": NaN}', '{"order": "hsv"}', '{"colour": 1}', '{"scale": true}', '{"mean": 5}'],
)  # fmt: skip
def test_a_value_that_is_none_is_refused(text):
    with pytest.raises(UsageError):
        Preprocessing.from_json(text)


@pytest.mark.parametrize("mean", ["", "a", "1,,2", "1/0"])
def test_a_number_that_is_none_names_its_option(mean):
    with pytest.raises(UsageError, match="--mean"):
        preprocessing_of_texts(mean=mean)


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "has no name"), ("a\n\nb", "an empty one"), ("a\nb\na", "'a' is there twice")],
)
def test_names_that_cannot_stand_for_outputs_are_refused(text, words, tmp_path):
    (tmp_path / "names.txt").write_text(text)
    with pytest.raises(UsageError, match=words):
        read_class_names(tmp_path / "names.txt")
