"""Writing a model: whole or not at all, its external weights copied without loading them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Literal

import onnx
import onnx.numpy_helper
from google.protobuf.message import EncodeError

from anysize.errors import UsageError
from anysize.files import atomic_output, check_output_path
from anysize.surgery.storage.external_data import (
    ExternalRange,
    copy_range,
    external_range,
    set_external,
)
from anysize.surgery.storage.loading import PROTOBUF_LIMIT_BYTES
from anysize.surgery.storage.payloads import HeldWeights, WeightPlace, locate
from anysize.surgery.storage.streaming import write_model
from anysize.surgery.storage.tensors import (
    DATA_FIELDS,
    Place,
    all_tensors,
    is_loaded,
    is_outside,
    payload_bytes,
    place_of,
)
from anysize.surgery.storage.weight_files import free_name, replaced_weights
from anysize.surgery.storage.weightless import copy_fields

__all__ = ["ExternalData", "save_model"]

ExternalData = Literal["auto", "always", "never"]

# What a file may weigh before its weights move out: protobuf's limit less room for the graph.
INLINE_LIMIT_BYTES = PROTOBUF_LIMIT_BYTES - (16 << 20)
# Tensors below this stay in the file: shapes, axes, biases of small layers.
_SMALLEST_EXTERNAL_BYTES = 1024
# Runtimes map large weights into memory, which works from page boundaries.
_PAGE_BYTES = 4096
_LARGE_BYTES = 1 << 20


def save_model(
    model: onnx.ModelProto,
    path: Path | str,
    *,
    source: Path | str | HeldWeights | None = None,
    external_data: ExternalData = "auto",
    target: Path | None = None,
) -> tuple[str, ...]:
    """Write `model` to `path`, and its external weights, if any, beside it.

    The weights appear under a name that nothing has, `<path>.data` if that is free, and then the
    model in one step: whatever ends the program, each model has its own weights. Those of a model
    that stood at `path` are removed last. `path` may be the source itself.

    Args:
        model: Not modified.
        path: The file to write.
        source: The file that `model` was loaded from, or what holds its weights; needed where the
            model does not hold them itself.
        external_data: `auto` keeps external weights external and inline ones inline, unless the
            file would pass protobuf's 2 GiB; `always` moves all weights out; `never` brings all
            in.
        target: Where the files are moved to afterwards, as by `staged_model`: what lies there keeps
            its name, too.

    Returns:
        Names of the files beside it that hold its weights.

    Raises:
        UsageError: The path cannot be written, would overwrite the source's weights, or `never`
            was asked for and the file would pass 2 GiB.
        ModelFileError: The source's external data is missing, unsafe or cut short.
    """
    path = Path(path)
    check_output_path(path)
    with replaced_weights(path):
        return _save(model, path, source, external_data, target or path)


def _save(
    model: onnx.ModelProto,
    path: Path,
    source: Path | str | HeldWeights | None,
    external_data: ExternalData,
    target: Path,
) -> tuple[str, ...]:
    if external_data not in ("auto", "always", "never"):
        raise UsageError(f"external data {external_data!r}: expected auto, always or never")
    absent = [tensor for tensor in all_tensors(model) if not is_loaded(tensor)]
    if absent and source is None:
        raise UsageError(
            f"output {path}: tensor {absent[0].name!r} is not in memory; say which file it came "
            "from"
        )
    outside = [tensor for tensor in absent if is_outside(tensor)]
    held = source if isinstance(source, HeldWeights) else None
    file = Path(source) if isinstance(source, Path | str) else None
    place = held or (path if file is None else file).parent
    total = sum(payload_bytes(tensor) or 0 for tensor in all_tensors(model))
    outside_bytes = sum(payload_bytes(tensor) or 0 for tensor in outside)
    if external_data == "never":
        if total > INLINE_LIMIT_BYTES:
            raise UsageError(
                f"output {path}: {total} bytes of weights, expected at most {INLINE_LIMIT_BYTES} "
                "in one file (protobuf's limit); use external data"
            )
        _save_inline(model, path, place)
        return ()
    moves_inline = external_data == "always" or total - outside_bytes > INLINE_LIMIT_BYTES
    if not (outside or moves_inline):
        _save_inline(model, path, place)
        return ()
    data_path = path.with_name(free_name(target))
    _save_external(model, path, data_path, file, place, moves_inline=moves_inline)
    return (data_path.name,) if data_path.stat().st_size else ()


def _save_inline(model: onnx.ModelProto, path: Path, place: WeightPlace) -> None:
    with atomic_output(path) as stream:
        try:
            write_model(model, stream, place=place)
        except (ValueError, EncodeError) as exc:
            raise UsageError("model passes protobuf's 2 GiB; use external data") from exc


def _save_external(
    model: onnx.ModelProto,
    path: Path,
    data_path: Path,
    source: Path | None,
    place: WeightPlace,
    *,
    moves_inline: bool,
) -> None:
    light, moved = _without_weights(model, moves_inline=moves_inline)
    outside = [
        tensor
        for tensor in all_tensors(light)
        if place_of(tensor) is Place.OTHER_FILE
        or (moves_inline and place_of(tensor) is Place.OWN_FILE)
    ]
    folder = path.parent if isinstance(place, HeldWeights) else place
    pieces = [external_range(tensor, folder) for tensor in outside]
    is_same = source is not None and path.resolve() == source.resolve()
    if source is not None and not is_same:
        read = {source.resolve(), *(path.resolve() for path in {p.path for p in pieces})}
        own = path.with_name(f"{path.name}.data")  # nobody should have two files of this name
        if not read.isdisjoint((path.resolve(), own.resolve())):
            raise UsageError(
                f"output {path}: would overwrite a file that {source} needs; choose another name"
            )
    with contextlib.ExitStack() as stack:
        # Entered last is renamed first: the weights stand before the model names them.
        model_stream = stack.enter_context(atomic_output(path))
        data_stream = stack.enter_context(atomic_output(data_path))
        writer = _DataWriter(data_stream, data_path.name, pieces)
        for tensor, piece in zip(outside, pieces, strict=True):
            writer.point(tensor, piece)
        for original, copy in moved:
            writer.write(copy, original, place)
        write_model(light, model_stream, place=place, keeps_external=True)


def _without_weights(
    model: onnx.ModelProto, *, moves_inline: bool
) -> tuple[onnx.ModelProto, list[tuple[onnx.TensorProto, onnx.TensorProto]]]:
    """Copy `model` less the initializers that leave memory; pair those with their empty copies."""
    light = onnx.ModelProto()
    copy_fields(model, light, leave_out=("graph",))
    copy_fields(model.graph, light.graph, leave_out=("initializer",))
    moved = []
    for original in model.graph.initializer:
        copy = light.graph.initializer.add()
        place = place_of(original)
        is_inline = place in (Place.MEMORY, Place.BESIDE, Place.PERMUTED)
        is_moved = (moves_inline and is_inline) or (
            place is Place.PERMUTED and is_outside(original)
        )
        if is_moved and (payload_bytes(original) or 0) >= _SMALLEST_EXTERNAL_BYTES:
            copy_fields(original, copy, leave_out=(*DATA_FIELDS, "external_data", "data_location"))
            moved.append((original, copy))
        else:
            copy.CopyFrom(original)
    return light, moved


class _DataWriter:
    """Appends weights to one data file, each byte once, and points tensors at them.

    Ranges of another file that lie side by side are copied as one, from page to page: a file
    system that shares blocks then copies nothing, and ranges that overlap in a hostile file do not
    multiply.
    """

    def __init__(
        self, stream: BinaryIO, location: str, pieces: Iterable[ExternalRange] = ()
    ) -> None:
        self._stream = stream
        self._location = location
        self._spans = [(span, self._copy_span(span)) for span in _joined(pieces)]

    def _copy_span(self, span: ExternalRange) -> int:
        offset = self._align(_LARGE_BYTES)
        with span.path.open("rb") as source:
            copy_range(source, self._stream, span)
        return offset

    def point(self, tensor: onnx.TensorProto, piece: ExternalRange) -> None:
        """Point a tensor at the copy of its range, one of those announced."""
        for span, offset in self._spans:
            start = piece.offset - span.offset
            if span.path == piece.path and 0 <= start <= span.size_bytes - piece.size_bytes:
                place = offset + start
                set_external(tensor, self._location, offset=place, size_bytes=piece.size_bytes)
                return
        raise AssertionError(f"{piece} was not announced")

    def write(
        self, tensor: onnx.TensorProto, original: onnx.TensorProto, place: WeightPlace
    ) -> None:
        """Write the bytes of a tensor in memory, little-endian as ONNX stores them."""
        if is_loaded(original) and not original.HasField("raw_data"):
            original = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(original))
        payload = locate(original, place)
        offset = self._align(payload.size_bytes)
        payload.copy_to(self._stream)
        set_external(tensor, self._location, offset=offset, size_bytes=payload.size_bytes)

    def _align(self, size_bytes: int) -> int:
        step = _PAGE_BYTES if size_bytes >= _LARGE_BYTES else 64
        end = self._stream.seek(0, os.SEEK_END)
        padding = -end % step
        self._stream.write(bytes(padding))
        return end + padding


def _joined(pieces: Iterable[ExternalRange]) -> list[ExternalRange]:
    """Join ranges that overlap or lie within a page of each other; each begins at a page."""
    spans: list[ExternalRange] = []
    for piece in sorted(set(pieces), key=lambda one: (str(one.path), one.offset, one.size_bytes)):
        end = piece.offset + piece.size_bytes
        last = spans[-1] if spans and spans[-1].path == piece.path else None
        if last is not None and piece.offset <= last.offset + last.size_bytes + _PAGE_BYTES:
            size_bytes = max(last.size_bytes, end - last.offset)
            spans[-1] = ExternalRange(last.path, last.offset, size_bytes)
        else:
            start = piece.offset // _PAGE_BYTES * _PAGE_BYTES
            spans.append(ExternalRange(piece.path, start, end - start))
    return spans
