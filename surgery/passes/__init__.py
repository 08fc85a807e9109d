"""Normalisations: small rewrites that give every exporter's graphs one spelling."""

from anysize.surgery.passes.reduce_mean_to_global_pool import reduce_mean_to_global_pool
from anysize.surgery.passes.reshape_to_flatten import reshape_to_flatten
from anysize.surgery.passes.result import PassResult

__all__ = ["PassResult", "reduce_mean_to_global_pool", "reshape_to_flatten"]
