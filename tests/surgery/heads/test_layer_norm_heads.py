"""LayerNorm before the Linear, as ConvNeXt has it: declined by name, or no obstacle."""

from __future__ import annotations

import pytest

from anysize.errors import DeclinedError
from anysize.sizes import Size
from anysize.surgery import rewrite
from anysize.validators.proof import prove_rewrite

# Before opset 17 exporters write a LayerNorm out.
WRITTEN_OUT = """
    mean = ReduceMean <axes = [-1]> (rows) centred = Sub (rows, mean)
    square = Mul (centred, centred)
    spread = ReduceMean <axes = [-1]> (square) shifted = Add (spread, epsilon)
    root = Sqrt (shifted) unit = Div (centred, root) scaled = Mul (unit, s) norm = Add (scaled, t)
"""
NORMS = {
    "operator": (17, "norm = LayerNormalization (rows, s, t)", ("norm",)),
    "written-out": (13, WRITTEN_OUT, ("mean", "spread")),
}
LINEAR = "scores = Gemm <transB = 1> (norm, w, b)"


@pytest.fixture(params=NORMS)
def network(request, kit):
    """Return a function that puts a LayerNorm and a Linear behind `rows`, and its nodes' names."""
    opset, norm, names = NORMS[request.param]

    def build(rows, features):
        return kit.fc(
            rows + norm + LINEAR,
            {"s": (features,), "t": (features,), "w": (5, features), "b": (5,)},
            floats={"epsilon": [1e-5]} if "epsilon" in norm else None,
            opset=opset,
        )

    return build, names


AVERAGE = "p = GlobalAveragePool (fmap) rows = Flatten (p) "


@pytest.mark.parametrize("to", ["fcn", "adaptive"])
def test_a_norm_on_the_average_takes_any_size_already(network, to):
    done = rewrite(network[0](AVERAGE, 4), to=to)
    assert not done.applied
    assert "global pooling, which takes any size already" in done.reason


def test_a_norm_on_the_average_leaves_no_class_map(network):
    with pytest.raises(DeclinedError, match="does not commute with averaging"):
        rewrite(network[0](AVERAGE, 4), to="cam")


@pytest.mark.parametrize("to", ["fcn", "adaptive"])
def test_a_norm_on_the_flattened_map_is_declined_by_name_with_the_way_out(network, to):
    build, names = network
    with pytest.raises(DeclinedError, match=r"flattened features, .* --to resize keeps") as caught:
        rewrite(build("rows = Flatten (fmap) ", 4 * 8 * 8), to=to)
    assert caught.value.node in names


@pytest.mark.parametrize("rows", [AVERAGE, "rows = Flatten (fmap) "], ids=["average", "flat"])
def test_the_way_out_is_one(network, rows):
    model = network[0](rows, 4 if rows == AVERAGE else 4 * 8 * 8)
    proof = prove_rewrite(model, rewrite(model, to="resize").model, [Size(40, 51)])
    assert proof.ok, proof.message
