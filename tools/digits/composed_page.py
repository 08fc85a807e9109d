"""The demo's page, composed of held-out scans on paper, with the truth about them.

In this folder's parent, `python -m digits.composed_page -o FOLDER` composes the page that is
shipped again. The network has seen none of these scans in training.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from anysize.errors import AnysizeError, UsageError
from anysize.files import atomic_output
from anysize.models.digits import Page, PageDigit
from digits.marks import ring, segment
from digits.scans import Scans, draw, load_scans, random_pose, uniform

__all__ = ["compose", "main", "save_page"]

_HEIGHT, _WIDTH = 288, 416
_COUNTS = (8, 12)
# Digits keep this far from the edge and from each other, in pixels between centres.
_MARGIN, _APART = 26.0, 44.0
_ATTEMPTS = 2000
# The page that is shipped: twelve digits of nine kinds.
_SHIPPED_SEED = 113


def compose(scans: Scans, *, seed: int, height: int = _HEIGHT, width: int = _WIDTH) -> Page:
    """Put 8 to 12 of `scans` on a page with ruled lines, a cup's ring, strokes and noise.

    Args:
        scans: Where the digits are drawn from.
        seed: Equal seeds give equal pages.
        height: Rows of the page.
        width: Columns of the page.

    Raises:
        UsageError: The page is too small for the digits.
    """
    generator = torch.Generator().manual_seed(seed)
    count = int(torch.randint(_COUNTS[0], _COUNTS[1] + 1, (1,), generator=generator))
    places = _scatter(count, height, width, generator)
    chosen = torch.randperm(len(scans.labels), generator=generator)[:count]
    pose = random_pose(generator, places[:, 0], places[:, 1])
    strength = uniform(generator, count, 0.75, 1.0)[:, None, None]
    drawn = draw(scans.ink[chosen], pose, height, width)
    digits = [
        _describe(drawn[i], int(scans.labels[chosen[i]]), int(scans.indices[chosen[i]]))
        for i in range(count)
    ]
    marks = _marks(places, height, width, generator)
    ink = torch.maximum((strength * drawn).amax(0), marks)
    light = torch.linspace(0.02, 0.08, width)[None, :] + torch.linspace(0.0, 0.03, height)[:, None]
    ink = ink + light + 0.025 * torch.randn(height, width, generator=generator)
    # As the picture file has it, so that a page and its saved twin are the same numbers.
    grey = np.rint((1.0 - ink).clamp(0.0, 1.0).numpy() * 255.0).astype(np.uint8)
    return Page.from_grey(grey, tuple(sorted(digits, key=lambda one: (one.y, one.x))))


def save_page(page: Page, folder: Path) -> None:
    """Write `page.png`, 8-bit grey, and `page.json`, the truth, into `folder`.

    Raises:
        UsageError: The folder cannot be written.
    """
    from PIL import Image

    grey = np.rint(page.pixels[0, 0] * 255.0).astype(np.uint8)
    picture = io.BytesIO()
    Image.fromarray(grey).save(picture, format="PNG", optimize=True)
    with atomic_output(folder / "page.png") as stream:
        stream.write(picture.getvalue())
    truth = {
        "height": grey.shape[0],
        "width": grey.shape[1],
        "digits": [asdict(digit) for digit in page.digits],
    }
    with atomic_output(folder / "page.json") as stream:
        stream.write((json.dumps(truth, indent=2, sort_keys=True) + "\n").encode())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0; 2 where the arguments cannot be used; 3 where scikit-learn is not installed.
    """
    parser = argparse.ArgumentParser(prog="python -m digits.composed_page")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder, created")
    parser.add_argument("--seed", type=int, default=_SHIPPED_SEED)
    options = parser.parse_args(arguments)
    try:
        page = compose(load_scans("held-out"), seed=options.seed)
        options.output.mkdir(parents=True, exist_ok=True)
        save_page(page, options.output)
    except (AnysizeError, OSError) as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 2 if isinstance(exc, OSError) else exc.exit_code
    labels = " ".join(str(digit.label) for digit in page.digits)
    sys.stdout.write(f"{options.output / 'page.png'}: {len(page.digits)} digits: {labels}\n")
    return 0


def _scatter(count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Centres `(count, 2)` in pixels: anywhere on the page, but apart."""
    places: list[tuple[float, float]] = []
    for _ in range(_ATTEMPTS):
        y = float(uniform(generator, 1, _MARGIN, height - _MARGIN))
        x = float(uniform(generator, 1, _MARGIN, width - _MARGIN))
        if all(math.hypot(y - row, x - column) >= _APART for row, column in places):
            places.append((y, x))
        if len(places) == count:
            return torch.tensor(places)
    raise UsageError(f"page {height}x{width}: no room for {count} digits; make it larger")


def _describe(drawn: Tensor, label: int, scan: int) -> PageDigit:
    """The box around the ink of one digit on its own canvas."""
    rows, columns = torch.nonzero(drawn > 0.3, as_tuple=True)
    top, bottom = int(rows.min()), int(rows.max())
    left, right = int(columns.min()), int(columns.max())
    return PageDigit(
        label=label,
        y=(top + bottom) / 2,
        x=(left + right) / 2,
        height=bottom - top + 1,
        width=right - left + 1,
        scan=scan,
    )


def _marks(places: Tensor, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Ruled lines, a margin, a cup's ring, pen strokes and specks, `(height, width)`."""
    rules = torch.arange(40.0, height - 8.0, 36.0)
    edges = torch.tensor([0.0, float(width)])
    lines = torch.stack([rules, edges[:1].expand_as(rules), rules, edges[1:].expand_as(rules)], 1)
    ruled = 0.16 * segment(lines, torch.ones(len(rules)), height, width).amax(0)
    margin = torch.tensor([[0.0, 0.09 * width, float(height), 0.09 * width]])
    ruled = torch.maximum(ruled, 0.22 * segment(margin, torch.ones(1), height, width)[0])
    cup = torch.stack(
        [uniform(generator, 1, 0.3, 0.7) * height, uniform(generator, 1, 0.6, 0.9) * width], 1
    )
    stain = 0.2 * ring(cup, torch.tensor([52.0]), torch.tensor([5.0]), height, width)[0]
    strokes = _free_strokes(places, height, width, generator)
    return torch.maximum(torch.maximum(ruled, stain), strokes)


def _free_strokes(places: Tensor, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Pen strokes and specks that keep clear of the digits."""
    count = 60
    start = torch.stack(
        [uniform(generator, count, 6.0, height - 6.0), uniform(generator, count, 6.0, width - 6.0)],
        1,
    )
    is_long = torch.arange(count) % 4 == 0
    length = torch.where(
        is_long, uniform(generator, count, 55.0, 90.0), uniform(generator, count, 0.0, 4.0)
    )
    angle = uniform(generator, count, -0.35, 0.35)
    end = start + torch.stack([torch.sin(angle) * length, torch.cos(angle) * length], 1)
    along = torch.linspace(0.0, 1.0, 12)[None, :, None]
    points = start[:, None] + along * (end - start)[:, None]
    clearance = torch.cdist(points.reshape(-1, 2), places).reshape(count, -1).amin(1)
    is_free = (clearance > 30.0) & (end[:, 1] < width - 6.0)
    kept = torch.cat([torch.nonzero(is_free & is_long)[:3], torch.nonzero(is_free & ~is_long)[:12]])
    if not len(kept):
        return torch.zeros(height, width)
    ends = torch.cat([start, end], 1)[kept[:, 0]]
    thickness = uniform(generator, len(kept), 1.2, 2.2)
    strength = uniform(generator, len(kept), 0.45, 0.85)[:, None, None]
    return (strength * segment(ends, thickness, height, width)).amax(0)


if __name__ == "__main__":
    sys.exit(main())
