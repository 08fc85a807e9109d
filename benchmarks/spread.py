"""Measure how far right float32 answers spread, and how often one of them alone would mislead.

    python benchmarks/spread.py [--networks resnet18,…] [--images 40] [--side 64]

Each network has one output, the worst case: the error of a single number varies most. For each
image the module answers in float64, once in float32 (e_ref), and sixteen times with roundings that
fall otherwise (e_spread); ONNX Runtime and OpenVINO answer from the exported file. Written are a
table, `results/spread.md`, and a picture for the documentation.
"""

from __future__ import annotations

import argparse
import operator
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

import anysize
from anysize import Size
from anysize.models import build
from anysize.validators import get_runtime
from anysize.validators.inputs import make_images
from anysize.validators.judging import PROFILES, float_error
from anysize.validators.references import Perturbed
from anysize.validators.references.eager import ModuleReference

RESULTS = Path(__file__).parent / "results" / "spread.md"
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "spread.png"
RUNTIMES = ("ort-cpu", "openvino")
DRAWS = 16


@dataclass(frozen=True, slots=True)
class Image:
    """Errors on one image, relative to the answer: of float32, of draws and of runtimes."""

    own: float
    draws: tuple[float, ...]
    runtimes: tuple[float, ...]

    @property
    def spread(self) -> float:
        """The root mean square of the draws."""
        return float(np.sqrt(np.mean(np.square(self.draws))))

    @property
    def budget(self) -> float:
        """What a runtime may be off by."""
        return PROFILES["strict"].budget(max(self.own, self.spread))


def measure(network: str, images: int, side: int) -> Iterator[Image]:
    """Measure one network on seeded images."""
    module = build(network, size=Size(side, side), classes=1, seed=0).eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.onnx"
        anysize.export(module, path, size=Size(side, side), verify=False)
        sessions = [get_runtime(name).load(path, threads=1) for name in RUNTIMES]
        reference = ModuleReference(module)
        for seed in range(images):
            image = make_images(Size(side, side), 1, channels=module.channels, seed=seed)
            inputs = {"input": image}
            precise, usual = (
                reference.run(inputs, "float64")[0],
                reference.run(inputs, "float32")[0],
            )
            drawn = (reference.run(inputs, Perturbed(draw))[0] for draw in range(DRAWS))
            answers = (next(iter(session.run(inputs).values())) for session in sessions)
            yield Image(
                float_error(usual, usual, precise),
                tuple(float_error(one, usual, precise) for one in drawn),
                tuple(float_error(one, usual, precise) for one in answers),
            )
        for session in sessions:
            session.close()


def table(found: dict[str, list[Image]]) -> str:
    """Write for each network and runtime how often each budget would have been passed."""
    lines = [
        "| network | runtime | images | error / e_ref | error / e_spread | red by e_ref | red |",
        "|---|---|---|---|---|---|---|",
    ]
    for network, images in found.items():
        for place, runtime in enumerate(RUNTIMES):
            errors = [one.runtimes[place] for one in images]
            alone = [e / max(one.own, 1e-30) for e, one in zip(errors, images, strict=True)]
            drawn = [e / one.spread for e, one in zip(errors, images, strict=True)]
            limits = ([8 * i.own for i in images], [i.budget for i in images])
            red = [sum(map(operator.gt, errors, limit)) for limit in limits]
            lines.append(
                f"| {network} | {runtime} | {len(images)} | {np.median(alone):.2f}, at most "
                f"{max(alone):.3g} | {np.median(drawn):.2f}, at most {max(drawn):.2f} | {red[0]} "
                f"| {red[1]} |"
            )
    return "\n".join(lines) + "\n"


def draw(images: list[Image], network: str) -> None:
    """Draw errors and budgets, image by image."""
    mpl.use("Agg")
    images = sorted(images, key=lambda one: one.own)
    places = np.arange(len(images))
    figure, axes = plt.subplots(figsize=(8.0, 4.0), layout="constrained")
    for place, one in enumerate(images):
        axes.plot([place] * DRAWS, one.draws, "_", color="0.75", zorder=1)
    axes.plot(places, [one.own for one in images], "k.", label="e_ref, the one float32 answer")
    axes.plot(places, [one.spread for one in images], color="0.5", label="e_spread of 16 draws")
    for place, (runtime, mark) in enumerate(zip(RUNTIMES, "x+", strict=True)):
        errors = [one.runtimes[place] for one in images]
        axes.plot(places, errors, mark, color=f"C{place}", label=runtime)
    axes.step(places, [8 * i.own for i in images], ":", color="C3", where="mid", label="8 · e_ref")
    axes.step(places, [i.budget for i in images], color="C2", where="mid", label="budget")
    axes.set(
        yscale="log",
        ylabel="error, relative to the output",
        xlabel=f"images of {network} with one output, by e_ref",
    )
    axes.legend(loc="lower right", ncols=2, fontsize="small")
    figure.savefig(PICTURE, dpi=120)


def main() -> None:
    """Measure, and write the table and the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--networks", default="resnet18,resnet34,nin,lenet")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--side", type=int, default=96)
    arguments = parser.parse_args()
    found = {
        name: list(measure(name, arguments.images, arguments.side))
        for name in arguments.networks.split(",")
    }
    text = f"Sides of {arguments.side} pixels, seeds 0 to {arguments.images - 1}.\n\n{table(found)}"
    RESULTS.write_text(f"# Spread of float32 answers\n\n{text}", encoding="utf-8")
    network, images = next(iter(found.items()))
    draw(images, network)
    print(text)


if __name__ == "__main__":
    main()
