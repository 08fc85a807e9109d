"""Images: reproducible, different from each other, and structured."""

from __future__ import annotations

import numpy as np
import pytest

from anysize.sizes import Size
from anysize.validators.inputs.images import make_images

SIZE = Size(12, 20)


def images(size=SIZE, batch=2, seed=0):
    return make_images(size, batch, channels=3, seed=seed)


def test_images_are_float32_of_the_size_that_was_asked_for():
    assert images().shape == (2, 3, 12, 20)
    assert images().dtype == np.float32
    assert np.isfinite(images()).all()
    assert np.abs(images()).max() < 10


def test_the_same_arguments_give_the_same_images():
    np.testing.assert_array_equal(images(), images())


@pytest.mark.parametrize(
    "other",
    [images(seed=1)[0], images(batch=1)[0], images()[1]],
    ids=["seed", "batch", "item"],
)
def test_no_two_cells_share_an_image(other):
    assert np.abs(images()[0] - other).mean() > 0.1


def test_the_values_are_the_ones_of_every_other_machine():
    # PCG64 is stable across platforms and NumPy versions by its own promise.
    corner = images()[0, 0, 0, :3]
    np.testing.assert_allclose(corner, CORNER, rtol=1e-5)


CORNER = [-0.6159935593605042, -0.01580432616174221, 0.2090681493282318]


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x[..., ::-1],
        lambda x: x[..., ::-1, :],
        lambda x: x[:, ::-1],
        lambda x: x[::-1],
        lambda x: np.roll(x, 3, axis=-1),
        lambda x: np.roll(x, 3, axis=-2),
    ],
    ids=["left-right", "top-bottom", "channels", "batch", "shifted right", "shifted down"],
)
def test_pooling_into_quadrants_notices_every_rearrangement(change):
    def pooled(x):
        return x.reshape(2, 3, 2, 6, 2, 10).mean(axis=(3, 5))

    before, after = pooled(images()), pooled(change(images()))
    assert np.abs(before - after).max() > 0.1 * np.abs(before).max()


def test_an_image_of_one_pixel_can_be_made():
    assert images(Size(1, 1), batch=1).shape == (1, 3, 1, 1)
