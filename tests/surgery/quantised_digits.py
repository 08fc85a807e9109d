"""The digits classifier, quantised by ONNX Runtime with scans as its calibration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import anysize


def scans() -> np.ndarray[Any, Any]:
    """Held-out scans as pages of 32×32, `(count, 1, 32, 32)`, paper 1."""
    data = pytest.importorskip("sklearn.datasets", reason="the scans come with scikit-learn")
    image = pytest.importorskip("PIL.Image", reason="the scans are drawn by Pillow")
    pages = []
    for scan in data.load_digits().images[4::5]:
        ink = image.fromarray((255 - scan / 16 * 255).astype("uint8"))
        page = image.new("L", (32, 32), 255)
        page.paste(ink.resize((24, 24), image.Resampling.BICUBIC), (4, 4))
        pages.append(np.asarray(page, np.float32)[None] / np.float32(255))
    return np.stack(pages)


def quantise(source: Path, target: Path, **options: Any) -> Path:
    """Quantise a file by `quantize_static`, as its users do."""
    from onnxruntime import quantization

    class Scans(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._pages: Iterator[np.ndarray[Any, Any]] = iter(scans()[::4, None])

        def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
            page = next(self._pages, None)
            return None if page is None else {"input": page}

    quantization.quantize_static(source, target, Scans(), **options)
    return target


def digits(folder: Path, head: str) -> Path:
    """Write a head of the digits classifier in float32."""
    path = folder / f"{head}.onnx"
    if not path.exists():
        anysize.export("digits", path, head=head, verify=False)
    return path


def changed(source: Path, target: Path, name: str, change: Any) -> Path:
    """Write a file with one of its constants changed."""
    model = onnx.load(source)
    (tensor,) = (one for one in model.graph.initializer if one.name == name)
    before = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(change(before).astype(before.dtype), name))
    onnx.save(model, target)
    return target
