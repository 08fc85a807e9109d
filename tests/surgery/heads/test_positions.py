"""What keeps the positions of a map apart is no head of a fixed size, even where the map is 1×1."""

import numpy as np
import pytest

from anysize.surgery import AnySizeAlreadyError, find_heads, rewrite

# One position of a 4-channel map at 32×32, more at larger images.
STEM = """
    conv = Conv <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (image, stem_w)
    pooled = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (conv)
    map = Conv (pooled, map_w)
"""
LAST = "last = Transpose <perm = [0, 2, 3, 1]> (map) "
HEADS = {
    "channels last": "scores = Transpose <perm = [0, 2, 3, 1]> (map)",
    "channels last, Softmax": LAST + "scores = Softmax <axis = -1> (last)",
    "linear layer for each position": LAST + "scores = MatMul (last, w)",
    "linear layer with a bias": LAST + "h = MatMul (last, w) scores = Add (h, b)",
}
# Window of the last convolution → side of the map at 32×32.
WINDOWS = {8: 1, 3: 6}


def positional(kit, head, window):
    side = WINDOWS[window]
    weights = {
        "stem_w": (6, 3, 3, 3),
        "map_w": (4, 6, window, window),
        **({"w": (4, 4)} if "MatMul" in head else {}),
        **({"b": (4,)} if "Add" in head else {}),
    }
    outputs = f"float[1, {side}, {side}, 4] scores"
    return kit.make(STEM + head, weights=weights, outputs=outputs)


@pytest.mark.parametrize(
    ("head", "window"),
    # At 3 the Softmax is declined: for all that a reader can tell, it is over a whole map.
    [(head, w) for head in HEADS.values() for w in WINDOWS if w == 8 or "Softmax" not in head],
)
def test_a_map_with_its_channels_last_is_no_fixed_head(kit, head, window):
    model = positional(kit, head, window)
    with pytest.raises(
        AnySizeAlreadyError, match=r"every position of the map by itself; .*dynamic"
    ):
        find_heads(model)
    result = rewrite(model)
    assert not result.applied
    assert "--to dynamic frees the sizes" in result.reason


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_dynamic_frees_the_axes_that_follow_the_image(kit, head, window):
    model = positional(kit, head, window)
    result = rewrite(model, to="dynamic")
    assert result.applied, result.reason
    dims = result.model.graph.output[0].type.tensor_type.shape.dim
    sides = [dim.dim_param or dim.dim_value for dim in dims]
    assert sides == ["batch", "map_height", "map_width", 4]
    images = kit.images(2, 3, 48, 64)
    (found,) = kit.run(result.model, images)
    side = WINDOWS[window]
    assert found.shape == (2, side + 4, side + 8, 4)
    # The layers are local: the corner of the image alone answers for the map's first cells.
    (corner,) = kit.run(result.model, np.ascontiguousarray(images[:, :, :32, :32]))
    is_inside = slice(0, max(1, side - 1)) if side > 1 else slice(0, 0)
    np.testing.assert_allclose(
        found[:, is_inside, is_inside], corner[:, is_inside, is_inside], atol=1e-5
    )


def test_features_with_sides_of_one_behind_a_flatten_are_a_head(kit):
    model = kit.fc(
        "flat = Flatten (fmap) h = Gemm <transB = 1> (flat, w) scores = Unsqueeze (h, sides)",
        {"w": (5, kit.FLAT)},
        constants={"sides": [1, 2]},
        outputs="float[1, 1, 1, 5] scores",
    )
    assert len(find_heads(model)) == 1
