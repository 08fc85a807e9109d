"""All that the validators must see: wrong graphs and wrong runtimes, one entry each."""

from __future__ import annotations

from sabotage.fakes import FAKES
from sabotage.layers import LAYERS
from sabotage.outputs import OUTPUTS
from sabotage.pooling import POOLING
from sabotage.sizes import SIZES

__all__ = ["CATALOGUE"]

CATALOGUE = (*LAYERS, *POOLING, *OUTPUTS, *SIZES, *FAKES)
