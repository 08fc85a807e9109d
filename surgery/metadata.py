"""What anysize records in a file: `anysize.*` strings in `metadata_props`."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace

import onnx

from anysize.errors import ModelFileError, UsageError
from anysize.preprocessing import Preprocessing
from anysize.sizes import ANY_SIDE, Size, SizeRange, Steps
from anysize.surgery.graph import Graph, Model

__all__ = ["MODULE_OBJECT", "FileMetadata", "read_metadata", "write_metadata"]

# What `FileMetadata.source` says of a file that was made of an `nn.Module` in memory.
MODULE_OBJECT = "module object"

_PREFIX = "anysize."
# The steps of heights and of widths.
_STEPS = "size_steps"
_TWO_SIZES = "path_sizes"
_SIZES = ("size", "min_size", "max_size", "asked_min_size", "asked_max_size")
_COUNTS = ("asked_batch", "classes", "seed")
_LISTS = ("class_names", "kept", "output_names")
_PAIRS = ("map_stride", "map_offset", "receptive_field")


@dataclass(frozen=True, slots=True)
class FileMetadata:
    """The facts that an anysize file carries about itself; None where it carries none.

    Attributes:
        version: anysize's version.
        model: The source's name.
        head: One of the heads of the project, for example `fcn`.
        options: Choices within the head that are not its defaults, as JSON.
        size: The training size.
        min_size: The smallest legal input.
        max_size: The largest legal input; None where there is no bound.
        size_steps: The remainders that legal heights and widths have; None for any.
        asked_min_size: The smallest input that the user wanted it to take.
        asked_max_size: The largest.
        asked_batch: The only number of images that the user wanted it to take.
        other_path: What the module does otherwise at sizes that it takes and the file does not.
        path_sizes: Two sizes at which it does what the file does.
        classes: Number of classes.
        class_names: Their names, in order.
        map_stride: Pixels between neighbouring map cells, (height, width).
        map_offset: Centre of the receptive field of cell (0, 0), in pixels, (height, width).
        receptive_field: Pixels that one map cell sees, (height, width).
        source_sha256: Hash of the file that was rewritten.
        seed: Seed of randomly initialised weights.
        weights_sha256: Hash of the weights file.
        state_sha256: Hash of the weights themselves, whatever file they came from.
        source: `MODULE_OBJECT` where no SOURCE named what was exported.
        precision: `float16` where weights and body are in half precision.
        preprocessing: How an image's pixels become what the network takes, as far as it is known.
        kept: Nodes whose numbers are constants of the network, as the user of a rewrite said.
        model_args: What the source was called with, as JSON.
        output_names: What the outputs were called before the user gave them other names.
    """

    version: str | None = None
    model: str | None = None
    head: str | None = None
    options: str | None = None
    size: Size | None = None
    min_size: Size | None = None
    max_size: Size | None = None
    size_steps: tuple[Steps, Steps] | None = None
    asked_min_size: Size | None = None
    asked_max_size: Size | None = None
    asked_batch: int | None = None
    other_path: str | None = None
    path_sizes: tuple[Size, Size] | None = None
    classes: int | None = None
    class_names: tuple[str, ...] | None = None
    map_stride: tuple[int, int] | None = None
    map_offset: tuple[float, float] | None = None
    receptive_field: tuple[int, int] | None = None
    source_sha256: str | None = None
    seed: int | None = None
    weights_sha256: str | None = None
    state_sha256: str | None = None
    source: str | None = None
    precision: str | None = None
    preprocessing: Preprocessing | None = None
    kept: tuple[str, ...] | None = None
    model_args: str | None = None
    output_names: tuple[str, ...] | None = None

    @property
    def sizes(self) -> SizeRange | None:
        """The sizes that the file says it takes; None where it says nothing."""
        if self.min_size is None and self.max_size is None and self.size_steps is None:
            return None
        heights, widths = self.size_steps or (ANY_SIDE, ANY_SIDE)
        low = self.min_size or Size(heights.from_(1), widths.from_(1))
        return SizeRange(low, self.max_size, heights, widths)

    @property
    def asked_sizes(self) -> SizeRange:
        """The sizes between the bounds that the user wanted; all where there are none."""
        return SizeRange(self.asked_min_size or Size(1, 1), self.asked_max_size)

    def with_sizes(self, sizes: SizeRange) -> FileMetadata:
        """Return the same facts of a file that takes these sizes."""
        steps = (sizes.heights, sizes.widths)
        return replace(
            self,
            min_size=sizes.minimum,
            max_size=sizes.maximum,
            size_steps=None if all(one.is_any for one in steps) else steps,
        )


def read_metadata(model: Model) -> FileMetadata:
    """Read the `anysize.*` entries of a model; entries that are not known are passed over.

    Raises:
        ModelFileError: An entry does not read as what its key says.
    """
    graph = Graph.of(model)
    return graph.found("metadata", lambda: _read(graph.model))


def _read(model: onnx.ModelProto) -> FileMetadata:
    known = {field.name for field in fields(FileMetadata)}
    found: dict[str, object] = {}
    for entry in model.metadata_props:
        name = entry.key.removeprefix(_PREFIX)
        if entry.key.startswith(_PREFIX) and name in known:
            found[name] = _parse(name, entry.value)
    return FileMetadata(**found)  # type: ignore[arg-type]


def write_metadata(model: Model, metadata: FileMetadata) -> None:
    """Make the `anysize.*` entries of `model` say exactly `metadata`; all others stay as they are.

    Edits `model` itself. To change one entry, pass `dataclasses.replace(read_metadata(model), …)`.
    """
    proto = model.model if isinstance(model, Graph) else model
    wanted = {
        _PREFIX + field.name: _format(field.name, getattr(metadata, field.name))
        for field in fields(FileMetadata)
    }
    for index in reversed(range(len(proto.metadata_props))):
        entry = proto.metadata_props[index]
        if entry.key not in wanted:
            continue
        value = wanted.pop(entry.key)
        if value is None:
            del proto.metadata_props[index]
        else:
            entry.value = value
    for key, value in wanted.items():
        if value is not None:
            entry = proto.metadata_props.add()
            entry.key, entry.value = key, value
    if isinstance(model, Graph):
        model.changed()


def _format(name: str, value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, Preprocessing):
        return value.to_json()
    if name in _LISTS:
        return json.dumps(value, ensure_ascii=False)
    if name == _STEPS:
        assert isinstance(value, tuple)
        return ";".join(steps.written() for steps in value)
    if name == _TWO_SIZES:
        assert isinstance(value, tuple)
        return ";".join(map(str, value))
    if name in _PAIRS:
        assert isinstance(value, tuple)
        return "x".join(f"{part:.10g}" for part in value)
    return str(value)


def _parse(name: str, text: str) -> object:
    try:
        if name in _SIZES:
            return Size.parse(text)
        if name in _COUNTS:
            return int(text)
        if name == "preprocessing":
            return Preprocessing.from_json(text)
        if name in _LISTS:
            names = json.loads(text)
            if not isinstance(names, list):
                raise TypeError(text)  # noqa: TRY301
            return tuple(str(entry) for entry in names)
        if name == _STEPS:
            heights, widths = text.split(";")
            return Steps.parse(heights), Steps.parse(widths)
        if name == _TWO_SIZES:
            one, other = text.split(";")
            return Size.parse(one), Size.parse(other)
        if name in _PAIRS:
            height, width = (float(part) for part in text.split("x"))
            return (height, width) if name == "map_offset" else (int(height), int(width))
    except (ValueError, TypeError, OverflowError, RecursionError, UsageError) as exc:
        raise ModelFileError(
            f"metadata {_PREFIX}{name}: {text[:60]!r} cannot be read; remove the entry"
        ) from exc
    return text
