"""On the meta device whole layers give the shapes that they have, and not each of their steps."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from anysize.exporters.tracing import SHAPES_AT_ONCE, ReplacedFunctions, on_meta

LAYERS = {
    "gru": nn.GRU(4, 6, 2, batch_first=True),
    "lstm": nn.LSTM(4, 6, bidirectional=True),
    "projected": nn.LSTM(4, 6, proj_size=3, batch_first=True, bidirectional=True),
    "rnn": nn.RNN(4, 6, bias=False),
    "rectifiers": nn.RNN(4, 6, nonlinearity="relu", dropout=0.5, num_layers=2).eval(),
}


class Counter(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def shapes(answer):
    output, state = answer
    return [tuple(t.shape) for t in (output, *(state if isinstance(state, tuple) else (state,)))]


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("shape", [(5, 7, 4), (40, 2, 4), (9, 4)], ids=str)
def test_a_recurrent_layer_has_its_shapes_and_few_operators(layer, shape):
    run = on_meta(layer)
    with torch.device("meta"), ReplacedFunctions(SHAPES_AT_ONCE), Counter() as counter:
        found = shapes(run(torch.empty(shape)))
    assert found == shapes(layer(torch.zeros(shape)))
    assert counter.count < 12


def test_a_packed_sequence_is_left_to_pytorch():
    packed = nn.utils.rnn.pack_padded_sequence(torch.zeros(5, 2, 4), [5, 3])
    layer = LAYERS["rnn"]
    meta = nn.utils.rnn.PackedSequence(packed.data.to("meta"), packed.batch_sizes)
    with torch.device("meta"), ReplacedFunctions(SHAPES_AT_ONCE):
        output, state = on_meta(layer)(meta)
    assert output.data.shape == layer(packed)[0].data.shape
    assert state.shape == (1, 2, 6)


PRODUCTS = {
    "matrices": ("bnk, bkc -> bnc", (2, 3, 4), (2, 4, 5)),
    "one cell": ("bkn,bcn->bkc", (2, 3, 1), (2, 4, 1)),
    "in order of letters": ("ba,ac", (2, 3), (3, 5)),
    "no letter": ("i,i->", (4,), (4,)),
    "a diagonal": ("bii->bi", (2, 3, 3)),
    "broadcast": ("bi,bj->bij", (1, 3), (4, 5)),
    "three": ("bi,ij,j->b", (2, 3), (3, 4), (4,)),
    "dots": ("b...c,cd->b...d", (2, 3, 4, 5), (5, 6)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_sum_of_products_has_its_shape_and_few_operators(name):
    equation, *shapes = PRODUCTS[name]
    expected = torch.einsum(equation, *map(torch.zeros, shapes)).shape
    operands = [torch.empty(shape, device="meta") for shape in shapes]
    for given in (operands, [operands]):
        with ReplacedFunctions(SHAPES_AT_ONCE), Counter() as counter:
            assert torch.einsum(equation, *given).shape == expected
        assert counter.count == 1 or name == "dots"


@pytest.mark.parametrize(
    ("equation", "shapes"), [("bi,bj->b", [(2, 3), (3, 4)]), ("b->b", [(2, 3)])]
)
def test_a_sum_of_products_that_does_not_fit_is_refused_in_pytorchs_words(equation, shapes):
    operands = [torch.empty(shape, device="meta") for shape in shapes]
    with pytest.raises(RuntimeError, match=r"einsum\(\)"), ReplacedFunctions(SHAPES_AT_ONCE):
        torch.einsum(equation, *operands)


def test_a_sum_of_products_by_numbers_of_axes_is_left_to_pytorch():
    with ReplacedFunctions(SHAPES_AT_ONCE):
        found = torch.einsum(torch.ones(2, 3), [0, 1], torch.ones(3, 4), [1, 2], [0, 2])
    assert found.shape == (2, 4)
