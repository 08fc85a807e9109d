"""Files that several tests read, each made once; and one way to run the command line."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SMALL_NET = '''
"""An AlexNet in small: strided convolution, overlapping pooling, three FC layers."""
import torch
from torch import nn


def make():
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=2, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(),
        nn.Linear(12 * 3 * 3, 20), nn.ReLU(), nn.Dropout(), nn.Linear(20, 16), nn.ReLU(),
        nn.Linear(16, 7),
    ).eval()
'''
# Of the digits that were held out each sixth is a picture.
_EVERY = 6
# 25 to 32 pixels → 13 to 16 → 6 or 7 → 3 cells.
SMALL_SIZE = "32x32"


@dataclass(frozen=True, slots=True)
class Finished:
    """One finished command line."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines that say what went wrong; progress and notes are others."""
        starts = ("anysize: ", "Traceback", "  File")
        return [line for line in self.err.splitlines() if line.startswith(starts)]


Run = Callable[..., Finished]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process."""
    from anysize.cli import main

    def run(*arguments: str | Path) -> Finished:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Finished(code, out, err)

    return run


@contextmanager
def working_folder(path: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small network's source: `small_net:make` is a SOURCE there."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "small_net.py").write_text(SMALL_NET)
    return folder


@pytest.fixture(scope="session")
def small_exports(small_folder: Path) -> dict[str, Path]:
    """The small network as `torch.onnx.export` writes it, statically, in both of its modes."""
    import torch

    from anysize.models import resolve
    from anysize.sizes import Size

    with working_folder(small_folder):
        module = resolve("small_net:make", size=Size.parse(SMALL_SIZE)).module
    paths = {mode: small_folder / f"{mode}.onnx" for mode in ("torchscript", "dynamo")}
    for mode, path in paths.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, about itself
            torch.onnx.export(
                module,
                (torch.zeros(1, 3, 32, 32),),
                str(path),
                dynamo=mode == "dynamo",
                input_names=["image"],
                output_names=["scores"],
                external_data=False,
                verbose=False,
            )
    return paths


@pytest.fixture(scope="session")
def digits_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The digits classifier with three heads."""
    import anysize

    folder = tmp_path_factory.mktemp("digits")
    paths = {head: folder / f"{head}.onnx" for head in ("fc", "fcn", "gap")}
    for head, path in paths.items():
        anysize.export("digits", path, head=head, verify=False)
    return paths


@pytest.fixture(scope="session")
def rewritten_digits(digits_files: dict[str, Path]) -> Path:
    """The FC file of the digits classifier, rewritten."""
    import anysize

    path = digits_files["fc"].with_name("any.onnx")
    anysize.rewrite(digits_files["fc"], path, verify=False)
    return path


@pytest.fixture(scope="session")
def scans(tmp_path_factory) -> Path:
    """Sixty scans that the network was not trained on, a folder for each digit."""
    pytest.importorskip("sklearn", reason="the scans come with scikit-learn")
    import numpy as np
    from PIL import Image

    from digits.scans import centred_pixels, load_scans

    folder = tmp_path_factory.mktemp("data") / "scans"
    found = load_scans("held-out")
    for pixels, label, index in zip(
        centred_pixels(found)[::_EVERY],
        found.labels[::_EVERY].tolist(),
        found.indices[::_EVERY].tolist(),
        strict=True,
    ):
        path = folder / str(label) / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels[0].numpy() * 255).round().astype(np.uint8)).save(path)
    return folder
