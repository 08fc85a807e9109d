"""`nn.RNN`, which torch.onnx writes as a loop over the steps of one example.

GRU and LSTM it translates itself (torch 2.13).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from onnxscript import opset18 as op

__all__ = ["recurrent_translations"]


def recurrent_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the translations of `nn.RNN` to ONNX's RNN, by its two activations."""
    aten = torch.ops.aten
    return {aten.rnn_tanh.input: _tanh, aten.rnn_relu.input: _relu}


def _rnn(
    activation: str,
    x: Any,
    hx: Any,
    params: Sequence[Any],
    has_biases: Any,
    num_layers: int,
    dropout: float,
    train: Any,
    bidirectional: Any,
    batch_first: Any,
) -> tuple[Any, Any]:
    del dropout, train
    directions = 2 if bidirectional else 1
    count = 4 if has_biases else 2
    states = []
    x = op.Transpose(x, perm=[1, 0, 2]) if batch_first else x
    for layer in range(num_layers):
        first = layer * directions
        own = [params[count * place :][:count] for place in range(first, first + directions)]
        weights = (_stacked([one[place] for one in own]) for place in (0, 1))
        biases = [op.Concat(*one[2:], axis=0) for one in own if has_biases]
        start, end = (op.Constant(value_ints=[place]) for place in (first, first + directions))
        answers, state = op.RNN(
            x,
            *weights,
            _stacked(biases) if has_biases else None,
            None,
            op.Slice(hx, start, end, op.Constant(value_ints=[0])),
            activations=[activation] * directions,
            direction="bidirectional" if bidirectional else "forward",
            hidden_size=int(hx.shape[2]),
        )
        states.append(state)
        # (steps, directions, batch, features) → (steps, batch, directions · features)
        answers = op.Transpose(answers, perm=[0, 2, 1, 3])
        x = op.Reshape(answers, op.Constant(value_ints=[0, 0, -1]))
    x = op.Transpose(x, perm=[1, 0, 2]) if batch_first else x
    return x, op.Concat(*states, axis=0)


def _stacked(values: Sequence[Any]) -> Any:
    axis = op.Constant(value_ints=[0])
    return op.Concat(*(op.Unsqueeze(value, axis) for value in values), axis=0)


_tanh, _relu = partial(_rnn, "Tanh"), partial(_rnn, "Relu")
