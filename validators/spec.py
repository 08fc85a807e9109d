"""What a validation is asked: one record, from the command line to the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from anysize.errors import UsageError
from anysize.sizes import Size

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from anysize.validators.judging import PerOutput
    from anysize.validators.runtimes import Runtime
    from anysize.validators.worker import Limits

__all__ = ["ValidationSpec"]


@dataclass(frozen=True, slots=True)
class ValidationSpec:
    """What a file is compared with its original on, and how it is judged.

    Attributes:
        runtimes: Names of `anysize.validators.runtimes.known_runtimes()`, each of which runs in a
            worker process; or runtimes of the caller's own, which run in this one.
        sizes: Sizes of the images; `auto`, every kind around the training size; or `quick`, the
            same kinds, fewer and smaller ones of them where the network is heavy.
        batches: Numbers of images, all of them at each size; `quick` takes few of large ones.
        seed: What the images are drawn from.
        atol: With `rtol`, replaces the error budget by |y − ref| ≤ atol + rtol · |ref|, for all
            outputs or for those that are named; the name "" stands for all that are not.
        rtol: The relative part of that tolerance; either one alone makes the other 0.
        arbiter: `float64`, or `none` to let the float32 reference stand in for it.
        threads: Threads that one operator may use; 0 takes all that this process may use.
        limits: What the workers of runtimes given by name may take; None for the default.
        tf32: Allow TF32 on the runtimes that have it, and judge them by its error profile.
        half: Judge a file with float16 weights by the error profile `float16`; one that says so
            itself, or takes float16 images, is anyway.
        amplified: Add a case of other, brighter images; a network that is quantised for images of
            the usual brightness may saturate there by design.
        is_repeated: Run each size once more at one of its batches, from the largest down, which
            finds sessions whose answers depend on what ran before. The proof of a new file does
            without: a graph has no memory.
        inputs: Arrays for the graph's inputs, by name; they replace seeded images, sizes and
            batches.
        bisect: A folder. Each runtime's first failing cell is diagnosed, and its images are
            saved there.

    Raises:
        UsageError: The arbiter is unknown, or the seed is negative.
    """

    runtimes: Sequence[str | Runtime] = ("ort-cpu",)
    sizes: Sequence[Size] | Literal["auto", "quick"] = "auto"
    batches: Sequence[int] | int = (1, 2)
    seed: int = 0
    # A job of a matrix is a key, and these may be dictionaries.
    atol: PerOutput | None = field(default=None, hash=False)
    rtol: PerOutput | None = field(default=None, hash=False)
    arbiter: str = "float64"
    threads: int = 0
    limits: Limits | None = None
    tf32: bool = False
    half: bool = False
    amplified: bool = True
    is_repeated: bool = True
    inputs: Mapping[str, NDArray[np.generic]] | None = field(default=None, compare=False)
    bisect: Path | None = None

    def __post_init__(self) -> None:
        if self.arbiter not in ("float64", "none"):
            raise UsageError(f"arbiter {self.arbiter!r}: expected float64 or none")
        if self.seed < 0:
            raise UsageError(f"seed {self.seed}: expected a whole number from 0 on")
