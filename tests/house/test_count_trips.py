"""The tool that counts what one rewrite does more than once."""

from __future__ import annotations

import threading

import count_trips
import onnx

import anysize
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


def test_one_verified_rewrite_works_nothing_out_many_times(tmp_path):
    for name in ("lenet", "digits"):  # all that is counted is loaded by the first
        anysize.export(name, tmp_path / f"{name}.onnx", head="fc", verify=False)
    anysize.rewrite(tmp_path / "lenet.onnx", tmp_path / "lenet-any.onnx")
    trips = count_trips.count(
        lambda: anysize.rewrite(tmp_path / "digits.onnx", tmp_path / "digits-any.onnx")
    )
    assert trips.loads == {"digits.onnx": 1, "digits-any.onnx": 1}
    assert trips.counts["searches for heads"] <= 2
    assert trips.counts["graphs with links built"] < 10
    assert trips.counts["walks over all shapes"] < 15
