"""A recurrent layer on the meta device gives the shapes that it has, and not each of its steps."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from anysize.exporters.tracing import WHOLE_RECURRENCE, ReplacedFunctions, on_meta

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
    with torch.device("meta"), ReplacedFunctions(WHOLE_RECURRENCE), Counter() as counter:
        found = shapes(run(torch.empty(shape)))
    assert found == shapes(layer(torch.zeros(shape)))
    assert counter.count < 12


def test_a_packed_sequence_is_left_to_pytorch():
    packed = nn.utils.rnn.pack_padded_sequence(torch.zeros(5, 2, 4), [5, 3])
    layer = LAYERS["rnn"]
    meta = nn.utils.rnn.PackedSequence(packed.data.to("meta"), packed.batch_sizes)
    with torch.device("meta"), ReplacedFunctions(WHOLE_RECURRENCE):
        output, state = on_meta(layer)(meta)
    assert output.data.shape == layer(packed)[0].data.shape
    assert state.shape == (1, 2, 6)
