"""What the TOML file of a matrix may say: keys, types and defaults, of which its schema is made."""

from __future__ import annotations

import contextlib
import difflib
import re
import reprlib
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from anysize.errors import UsageError
from anysize.exporters import check_opset
from anysize.files import read_regular
from anysize.sizes import Size, SizeRange, to_sizes
from anysize.validators import parse_runtimes
from anysize.validators.inputs import MAX_BATCH

__all__ = ["Matrix", "Model", "Settings", "matrix_schema", "read_models"]

_MOST_BYTES = 1 << 20
_MOST_LETTERS = 50  # of a name, which becomes a file's
_EXPORTED = ("heads", "size", "min_size", "max_size", "opset")
_PLACE = re.compile(r"(.*?)(?: - at `\$(?:\.model\[(\d+)\])?\.?(\w*)[^`]*`)?", re.DOTALL)
_HEADER = re.compile(r"\s*\[\[\s*model\s*\]\]")

_OneSize: TypeAlias = int | str | tuple[int, int]
_Text: TypeAlias = Annotated[str, Meta(min_length=1)]
_Texts: TypeAlias = _Text | Annotated[tuple[_Text, ...], Meta(min_length=1)]
_Number: TypeAlias = Annotated[float, Meta(ge=0, le=sys.float_info.max)]
_Switch: TypeAlias = Annotated[bool, Meta(description="true or false")]
_ExportSize: TypeAlias = Annotated[
    _OneSize | None,
    Meta(description="HEIGHTxWIDTH such as 224x320, or one number for a square"),
]
_Tolerance: TypeAlias = Annotated[
    _Number | dict[str, _Number] | None,
    Meta(description="a number from 0 on, or a table of them by output"),
]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How files are compared; what stands above the models holds for all of them."""

    runtimes: Annotated[
        _Texts, Meta(description="a list of names as in `anysize runtimes`, or all")
    ] = ("ort-cpu",)
    sizes: Annotated[
        int | _Text | Annotated[tuple[_OneSize, ...], Meta(min_length=1)],
        Meta(description="a list of sizes such as 224 or 224x320, or auto"),
    ] = "auto"
    batches: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=MAX_BATCH)], ...],
        Meta(min_length=1, description=f"a list of whole numbers from 1 to {MAX_BATCH}"),
    ] = (1, 2)
    # TOML's own limit, which Python's reader does not keep.
    seed: Annotated[int, Meta(ge=0, le=sys.maxsize, description="a whole number from 0 on")] = 0
    atol: _Tolerance = None
    rtol: _Tolerance = None
    arbiter: Annotated[Literal["float64", "none"], Meta(description="float64 or none")] = "float64"
    half: _Switch = False
    tf32: _Switch = False
    bright: _Switch = True

    def __post_init__(self) -> None:
        with _at("runtimes"):
            parse_runtimes(",".join(listed(self.runtimes)))
        with _at("sizes"):
            self.read_sizes()

    def read_sizes(self) -> tuple[Size, ...] | Literal["auto", "quick"]:
        """Return the sizes; a word in a list of one stands for itself."""
        given = self.sizes
        return to_sizes(given[0] if given in (("auto",), ("quick",)) else given)


class Model(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file, or a source that is exported with each of its heads."""

    source: Annotated[str, Meta(description="a SOURCE to export")] = ""
    file: Annotated[str, Meta(description="an ONNX file")] = ""
    name: Annotated[
        Annotated[str, Meta(min_length=1, max_length=_MOST_LETTERS)] | None,
        Meta(description=f"1 to {_MOST_LETTERS} printable letters"),
    ] = None
    reference: Annotated[str, Meta(description="a SOURCE or an ONNX file")] = ""
    weights: Annotated[str, Meta(description="a checkpoint")] = ""
    model_args: Annotated[
        dict[str, Any] | None, Meta(description="a table of what the source is built with")
    ] = None
    heads: Annotated[_Texts | None, Meta(description="a list of heads")] = None
    size: _ExportSize = None
    min_size: _ExportSize = None
    max_size: _ExportSize = None
    opset: Annotated[int | None, Meta(description="a whole number")] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.source) == bool(self.file):
            raise ValueError("give either source or file")
        if self.source and self.reference:
            raise ValueError("reference is for a file; a source is its own")
        for key in _EXPORTED if self.file else ():
            if getattr(self, key) is not None:
                raise ValueError(f"{key} is for a source; a file is taken as it is")
        if self.name is not None and not (self.name.isprintable() and self.name.strip()):
            raise ValueError(f"name is {self.name!r}, expected {_expected('name')}")
        sizes = {}
        for key in ("size", "min_size", "max_size"):
            with _at(key):
                sizes[key] = Size.of(getattr(self, key) or 1)
        with _at("max_size"):
            SizeRange(sizes["min_size"], sizes["max_size"] if self.max_size else None)
        with _at("opset"):
            if self.opset is not None:
                check_opset(self.opset)


class Matrix(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Models, and the settings that hold for all of them."""

    model: Annotated[
        tuple[Model, ...],
        Meta(min_length=1, description="tables of their own: [[model]] with source or file"),
    ]


def listed(texts: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """Return one text, or several, as several."""
    return (texts,) if isinstance(texts, str) else texts or ()


def matrix_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a matrix's TOML file."""
    draft = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return draft | msgspec.json.schema(Matrix)


def read_models(path: Path) -> tuple[Model, ...]:
    """Read the models of a TOML file, each with the settings that hold for all of them.

    Raises:
        UsageError: It cannot be read, or a key or value is not understood; line, model and key are
            named, and what is allowed.
    """
    try:
        text = read_regular(path, most=_MOST_BYTES).decode()
        content = tomllib.loads(text)
        msgspec.convert(content, Matrix)
    except UsageError as exc:
        raise UsageError(f"matrix {path}: {exc}; expected a TOML file") from exc
    except msgspec.ValidationError as exc:
        raise UsageError(f"matrix {path}{_explained(str(exc), content, text)}") from exc
    except (ValueError, RecursionError) as exc:  # a number of too many digits is the former
        raise UsageError(f"matrix {path}: is no TOML: {exc}") from exc
    models = content.pop("model")
    return tuple(msgspec.convert({**content, **model}, Model) for model in models)


@contextlib.contextmanager
def _at(key: str) -> Iterator[None]:
    """Let msgspec say in which model a value cannot be used; its key begins the message."""
    try:
        yield
    except UsageError as exc:
        words = str(exc)
        raise ValueError(words if words.startswith(f"{key} ") else f"{key}: {words}") from exc


def _explained(error: str, content: dict[str, Any], text: str) -> str:
    """Say what is refused: line and model, the key, got and expected."""
    if not content.get("model"):
        return ": names no model; add a [[model]] with source or file"
    place = _PLACE.fullmatch(error)
    assert place is not None
    words, key = place[1], place[3]
    number = int(place[2]) if place[2] else None
    table, kind = (content, Matrix) if number is None else (content["model"][number], Model)
    if words.startswith("Object contains unknown field"):
        known = kind.__struct_fields__
        key = next(name for name in table if name not in known)
        close = difflib.get_close_matches(key, known, 1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
        words = f"key {reprlib.repr(key)} is unknown; {hint}"
    elif key:
        words = f"{key} is {_shown(table[key])}, expected {_expected(key)}"
    else:
        key = words.split()[0].rstrip(":")
    line = _line(text, number, key)
    at = f", line {line}" if line else ""
    return f"{at}{'' if number is None else f', model {number + 1}'}: {words}"


def _shown(value: object) -> str:
    try:
        return reprlib.repr(value)
    except ValueError:  # Python writes out no number of more than 4300 digits
        return "a number of thousands of digits"


def _expected(key: str) -> str:
    kinds = matrix_schema()["$defs"].values()
    return str(
        next(kind["properties"][key] for kind in kinds if key in kind["properties"])["description"]
    )


def _line(text: str, number: int | None, key: str) -> int:
    """Find the line of a key, or of its model; 0 where it cannot be found."""
    lines = text.split("\n")
    headers = [place for place, line in enumerate(lines) if _HEADER.match(line)]
    bounds = [0, *headers, len(lines)][0 if number is None else number + 1 :][:2]
    is_key = re.compile(rf"""\s*(\[\s*model\s*\.\s*)?["']?{re.escape(key)}["']?\s*[=.\]]""").match
    for place in range(*bounds) if key and len(bounds) == 2 else ():
        if is_key(lines[place]):
            return place + 1
    return headers[number] + 1 if number is not None and number < len(headers) else 0
