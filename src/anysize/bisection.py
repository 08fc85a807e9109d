"""Where a run of whole numbers that have a property begins and ends."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["highest", "lowest"]


def lowest(holds: Callable[[int], bool], start: int, *, least: int = 1) -> int:
    """Return the lowest number, at least `least`, of the run around `start` for which `holds`.

    The steps grow from 1 on, so a run that ends soon is never left by far.

    Args:
        holds: True at `start`, and changing at most once from there down to `least`.
        start: A number for which `holds`.
        least: Where the search ends.
    """
    bad, good, step = least - 1, start, 1
    while good - step > bad:
        if not holds(good - step):
            bad = good - step
            break
        good, step = good - step, 2 * step
    while good - bad > 1:
        middle = (bad + good) // 2
        if holds(middle):
            good = middle
        else:
            bad = middle
    return good


def highest(
    holds: Callable[[int], bool], start: int, *, most: int, guess: int | None = None
) -> int:
    """Return the highest number, at most `most`, of the run around `start` for which `holds`.

    The steps grow from 1 on, so a run that ends soon is never left by far.

    Args:
        holds: True at `start`, and changing at most once from there up to `most`.
        start: A number for which `holds`.
        most: Where the search ends.
        guess: Where the run probably ends, which is asked first.
    """
    if guess is not None and start <= guess < most and holds(guess):
        if not holds(guess + 1):
            return guess
        start = guess
    good, bad, step = start, most + 1, 1
    while good + step < bad:
        if not holds(good + step):
            bad = good + step
            break
        good, step = good + step, 2 * step
    while bad - good > 1:
        middle = (bad + good) // 2
        if holds(middle):
            good = middle
        else:
            bad = middle
    return good
