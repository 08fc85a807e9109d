"""The tool that counts what one rewrite does more than once."""

from __future__ import annotations

import threading

import count_trips
import onnx

from anysize.surgery import read_metadata
from anysize.verbs import rewrite  # noqa: F401  (loads what is counted)


def test_every_name_that_is_counted_is_defined():
    assert None not in count_trips.count(lambda: None).counts.values()


def test_a_name_that_is_gone_is_missing_and_not_zero(monkeypatch):
    monkeypatch.setitem(count_trips.COUNTED, "moons", ("count_moons",))
    trips = count_trips.count(lambda: None)
    assert trips.counts["moons"] is None
    assert "missing" in trips.table()


def test_calls_are_counted_in_every_thread():
    def run():
        read_metadata(onnx.ModelProto())
        thread = threading.Thread(target=read_metadata, args=(onnx.ModelProto(),))
        thread.start()
        thread.join()

    counts = count_trips.count(run).counts
    assert counts["readings of metadata"] == 2
    assert counts["loads of a file"] == 0
