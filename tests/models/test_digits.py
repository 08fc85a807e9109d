import math
import sys

import numpy as np
import pytest
import torch

from anysize.errors import ModelFileError, UsageError
from anysize.models import build
from anysize.models.digits.detect import DIGIT_OFFSET, DIGIT_STRIDE, Detection, detect
from anysize.models.digits.page import load_page
from digits.composed_page import compose, save_page
from digits.composed_page import main as compose_main
from digits.crops import draw_crops
from digits.scans import BACKGROUND, centred_pixels, load_scans
from digits.train import main as train_main
from digits.train import measure_accuracy, train

# Half of the distance that the classifier was trained to tell middle from off the middle.
NEAR_PIXELS = 8.0


@pytest.fixture(scope="module")
def held_out():
    pytest.importorskip("sklearn", reason="the scans come with scikit-learn (extra: test)")
    return load_scans("held-out")


@pytest.fixture(scope="module")
def training():
    pytest.importorskip("sklearn", reason="the scans come with scikit-learn (extra: test)")
    return load_scans("training")


@torch.no_grad()
def dense_map(pixels):
    return build("digits", head="fcn")(torch.from_numpy(pixels))[0].numpy()


def compare(page, found):
    """Digits of `page` that were found, and detections that are none of them."""
    left = list(found)
    hits = 0
    for digit in page.digits:
        for one in left:
            near = math.hypot(one.y - digit.y, one.x - digit.x) <= NEAR_PIXELS
            if near and one.label == digit.label:
                left.remove(one)
                hits += 1
                break
    return hits, left


@pytest.mark.parametrize("head", ["fc", "gap", "spp", "fcn", "cam", "adaptive", "resize"])
def test_shipped_weights_read_held_out_scans(held_out, head):
    module = build("digits", head=head)
    with torch.no_grad():
        output = module(centred_pixels(held_out))
    logits = (output[0] if isinstance(output, tuple) else output).flatten(1)
    accuracy = float((logits.argmax(1) == held_out.labels).float().mean())
    assert accuracy >= 0.98


def test_accuracy_of_untrained_weights_is_low(held_out):
    module = build("digits", head="fc")
    with torch.no_grad():
        module.get_submodule("features.0").weight.zero_()
    assert measure_accuracy(module, held_out) < 0.3


def test_held_out_scans_are_not_trained_on(held_out, training):
    assert len(held_out.labels) + len(training.labels) == 1797
    assert not set(held_out.indices.tolist()) & set(training.indices.tolist())


def test_another_size_or_class_count_gets_seeded_weights():
    shipped, other = build("digits"), build("digits", classes=10)
    key = "features.0.weight"
    assert not torch.equal(shipped.state_dict()[key], other.state_dict()[key])


def test_crops_hold_whole_digits_and_background(training):
    crops = draw_crops(training, 200, torch.Generator().manual_seed(0))
    assert crops.pixels.shape == (200, 1, 32, 32)
    assert float(crops.pixels.min()) >= 0.0
    assert float(crops.pixels.max()) <= 1.0
    assert set(crops.labels.tolist()) == set(range(11))
    assert int((crops.labels == BACKGROUND).sum()) == 90
    again = draw_crops(training, 200, torch.Generator().manual_seed(0))
    assert torch.equal(crops.pixels, again.pixels)


def test_background_crops_are_called_background(held_out):
    crops = draw_crops(held_out, 400, torch.Generator().manual_seed(3))
    with torch.no_grad():
        said = build("digits")(crops.pixels).argmax(1)
    assert float((said == crops.labels).float().mean()) > 0.95


def test_training_is_reproducible_and_learns(training):
    lines = []
    one = train("gap", training, seed=1, steps=6, report=lines.append)
    same, other = (train("gap", training, seed=seed, steps=6) for seed in (1, 2))
    assert lines[-1].startswith("step 6/6: loss ")
    for key, tensor in one.state_dict().items():
        assert torch.equal(tensor, same.state_dict()[key])
        assert not torch.equal(tensor, other.state_dict()[key])


def test_training_command_writes_weights_that_load(training, tmp_path, capsys):
    path = tmp_path / "spp.safetensors"
    assert train_main(["--head", "spp", "-o", str(path), "--steps", "2"]) == 0
    assert "held-out scans are right" in capsys.readouterr().out
    assert build("digits", head="spp", weights=path).classes == 11
    assert train_main(["--head", "fc", "-o", str(tmp_path / "no" / "x"), "--steps", "2"]) == 2
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("head", ["fc", "gap", "spp"])
def test_shipped_weights_are_below_one_mebibyte(head):
    module = build("digits", head=head)
    assert sum(4 * tensor.numel() for tensor in module.state_dict().values()) < 2**20


def test_shipped_page_is_read_right():
    page = load_page()
    assert page.pixels.dtype == np.float32
    assert page.pixels.shape == (1, 1, 288, 416)
    found = detect(dense_map(page.pixels), DIGIT_STRIDE, DIGIT_OFFSET)
    assert [one.label for one in found] == [digit.label for digit in page.digits]
    for one, digit in zip(found, page.digits, strict=True):
        assert math.hypot(one.y - digit.y, one.x - digit.x) <= NEAR_PIXELS / 2
        assert one.score > 0.9


@pytest.mark.parametrize("threshold", [0.25, 0.35, 0.65, 0.8])
def test_shipped_page_is_read_right_with_margin(threshold):
    page = load_page()
    hits, wrong = compare(page, detect(dense_map(page.pixels), threshold=threshold))
    assert (hits, wrong) == (len(page.digits), [])


def test_page_comparison_shows_wrong_labels_and_places():
    page = load_page()
    digit = page.digits[0]
    mistaken = Detection((digit.label + 1) % 10, digit.y, digit.x, 1.0)
    astray = Detection(digit.label, digit.y + 9, digit.x, 1.0)
    assert compare(page, [mistaken, astray]) == (0, [mistaken, astray])


def test_other_pages_are_read_almost_right(held_out):
    true, hits, reported = 0, 0, 0
    for seed in range(1000, 1012):
        page = compose(held_out, seed=seed)
        found = detect(dense_map(page.pixels))
        right, _ = compare(page, found)
        true, hits, reported = true + len(page.digits), hits + right, reported + len(found)
    assert hits / true >= 0.95
    assert hits / reported >= 0.95


def test_page_without_digits_gives_no_detection(held_out):
    page = compose(held_out, seed=1)
    pixels = page.pixels.copy()
    for digit in page.digits:
        top, left = int(digit.y) - 22, int(digit.x) - 22
        pixels[..., max(top, 0) : top + 44, max(left, 0) : left + 44] = 0.95
    assert detect(dense_map(pixels)) == ()


def test_shipped_page_is_composed_of_held_out_scans(held_out):
    page = load_page()
    labels = dict(zip(held_out.indices.tolist(), held_out.labels.tolist(), strict=True))
    assert all(labels[digit.scan] == digit.label for digit in page.digits)
    assert 8 <= len(page.digits) <= 12


def test_page_command_composes_the_shipped_page_again(held_out, tmp_path, capsys):
    assert compose_main(["-o", str(tmp_path / "page")]) == 0
    assert "12 digits" in capsys.readouterr().out
    again, shipped = load_page(tmp_path / "page"), load_page()
    assert [d.scan for d in again.digits] == [d.scan for d in shipped.digits]
    # Another machine may round a grey level the other way.
    assert float(np.abs(again.pixels - shipped.pixels).max()) <= 2 / 255


def test_saved_page_is_the_composed_one(held_out, tmp_path):
    page = compose(held_out, seed=5)
    save_page(page, tmp_path)
    loaded = load_page(tmp_path)
    assert np.array_equal(loaded.pixels, page.pixels)
    assert loaded.digits == page.digits


def test_missing_scikit_learn_is_named_with_the_way_out(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert train_main(["--head", "fc", "-o", str(tmp_path / "fc.safetensors")]) == 3
    assert 'pip install "anysize[train]"' in capsys.readouterr().err


def test_page_too_small_for_its_digits_is_refused(held_out):
    with pytest.raises(UsageError, match="page 80x80: no room"):
        compose(held_out, seed=0, height=80, width=80)


def test_damaged_page_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match="cannot be read"):
        load_page(tmp_path)
    (tmp_path / "page.json").write_text("{}")
    with pytest.raises(ModelFileError, match="cannot be read: KeyError"):
        load_page(tmp_path)


def blank(height, width):
    logits = np.zeros((11, height, width))
    logits[BACKGROUND] = 10.0
    return logits


def light(logits, row, column, label):
    patch = (slice(row - 1, row + 2), slice(column - 1, column + 2))
    logits[(BACKGROUND, *patch)] = 0.0
    logits[(label, *patch)] = 10.0


def test_detections_stand_at_the_middle_of_their_patch():
    logits = blank(20, 30)
    light(logits, 4, 5, 7)
    light(logits, 12, 20, 3)
    found = detect(logits, (4.0, 8.0), (15.5, 10.0))
    assert [one.label for one in found] == [7, 3]
    assert (found[0].y, found[0].x) == pytest.approx((15.5 + 16, 10.0 + 40), abs=0.1)
    assert (found[1].y, found[1].x) == pytest.approx((15.5 + 48, 10.0 + 160), abs=0.1)


def test_blank_map_gives_no_detection():
    assert detect(blank(1, 1)) == ()
    assert detect(blank(40, 50)) == ()


def test_half_hearted_cell_is_no_detection():
    logits = blank(9, 9)
    logits[(2, 4, 4)] = 9.0
    assert detect(logits) == ()


def test_digit_at_the_edge_of_the_map_is_found():
    logits = blank(9, 9)
    light(logits, 1, 1, 4)
    assert [one.label for one in detect(logits)] == [4]


def test_map_of_another_shape_is_refused():
    with pytest.raises(UsageError, match="expected \\(classes, height, width\\)"):
        detect(np.zeros((1, 11, 4, 4)))
    with pytest.raises(UsageError, match="background 10, expected 0 to 9"):
        detect(np.zeros((10, 4, 4)))
