from dataclasses import replace

import pytest

from anysize.errors import ModelFileError
from anysize.preprocessing import Preprocessing
from anysize.sizes import Size
from anysize.surgery import FileMetadata, read_metadata, write_metadata

FULL = FileMetadata(
    version="1.2", model="vgg16", head="fcn", size=Size(224, 230), min_size=Size(32, 33),
    max_size=Size(255, 256), classes=3, class_names=("cat", "dög", "a, b"), map_stride=(32, 16),
    map_offset=(15.5, -3.0), receptive_field=(404, 11), source_sha256="ab" * 32, seed=0,
    weights_sha256="cd" * 32, preprocessing=Preprocessing("bgr", 1.0, (0.1, 0.2, 0.3)),
)  # fmt: skip


def _entries(model):
    return {entry.key: entry.value for entry in model.metadata_props}


def test_what_is_written_is_read_back(kit):
    model = kit.plain()
    assert read_metadata(model) == FileMetadata()
    write_metadata(model, FULL)
    assert read_metadata(model) == FULL
    entries = _entries(model)
    assert entries["anysize.size"] == "224x230"
    assert entries["anysize.map_offset"] == "15.5x-3"
    assert entries["anysize.map_stride"] == "32x16"
    assert entries["anysize.seed"] == "0"


def test_other_entries_stay_and_empty_ones_go(kit):
    model = kit.plain()
    for key in ("author", "anysize.future"):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, "x"
    write_metadata(model, FULL)
    write_metadata(model, replace(read_metadata(model), max_size=None, head="fc"))
    entries = _entries(model)
    assert "anysize.max_size" not in entries
    assert entries["anysize.head"] == "fc"
    assert entries["author"] == entries["anysize.future"] == "x"
    assert len(entries) == len(model.metadata_props)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("size", "banana"), ("min_size", "0x3"), ("classes", "many"), ("map_stride", "3"),
        ("receptive_field", "infx1"), ("class_names", "{}"), ("class_names", "["),
        ("preprocessing", "{}}"), ("preprocessing", "[1]"),
    ],
)  # fmt: skip
def test_a_malformed_entry_is_named(kit, key, value):
    model = kit.plain()
    entry = model.metadata_props.add()
    entry.key, entry.value = f"anysize.{key}", value
    with pytest.raises(ModelFileError, match=rf"metadata anysize\.{key}: .* cannot be read"):
        read_metadata(model)
