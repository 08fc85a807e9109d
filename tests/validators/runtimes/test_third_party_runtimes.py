"""Runtimes that other packages add through the entry point group `anysize.runtimes`."""

from __future__ import annotations

from pathlib import Path

import pytest

from anysize.errors import UsageError
from anysize.sizes import Size
from anysize.validators import Verdict, list_runtimes, parse_runtimes, validate_model
from anysize.validators.runtimes import RUNTIMES, known_runtimes

FAKES = Path(__file__).parents[1] / "fakes"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Make a distribution with runtimes appear, as `pip install` would."""
    monkeypatch.syspath_prepend(FAKES)
    monkeypatch.syspath_prepend(tmp_path)

    def make(name, version="2.1", **runtimes):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}")
        lines = "".join(f"{key.replace('_', '-')} = {value}\n" for key, value in runtimes.items())
        (folder / "entry_points.txt").write_text(f"[anysize.runtimes]\n{lines}")

    return make


def test_an_installed_package_adds_its_runtime_to_list_and_validation(tiny, install):
    install("fastpackage", fast="misbehaving:Healthy")
    assert list(known_runtimes()) == [*RUNTIMES, "fast"]
    (info,) = list_runtimes(["fast"])
    assert info.is_available
    assert (info.version, info.device, info.profile) == ("1.2", "cpu", "strict")
    assert info.text == "added by fastpackage 2.1"
    assert parse_runtimes("fast,ort-cpu") == ("fast", "ort-cpu")
    report = validate_model(
        tiny.fc_file(tiny.fc()), tiny.fc(), runtimes=("fast", "ort-cpu"), sizes=(Size(8, 8),)
    )
    assert report.ok
    assert [record.name for record in report.runtimes] == ["fast", "ort-cpu"]


def test_a_package_that_is_gone_takes_its_runtime_with_it():
    with pytest.raises(UsageError, match="'fast': unknown"):
        parse_runtimes("fast")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nowhere_at_all:Runtime", "No module named 'nowhere_at_all'"),
        ("misbehaving:Missing", "module 'misbehaving' has no attribute 'Missing'"),
        ("misbehaving:IsNoRuntime", "misbehaving:IsNoRuntime is not a Runtime"),
        ("misbehaving:AbortsWhenAsked", "describe: the process died of SIGABRT"),
    ],
)
def test_a_broken_runtime_is_listed_with_its_reason_and_harms_nobody(tiny, install, target, words):
    install("badpackage", bad=target)
    (bad, good) = list_runtimes(["bad", "ort-cpu"])
    assert not bad.is_available
    assert words in bad.reason
    assert bad.install == "pip install badpackage"
    assert good.is_available
    report = validate_model(
        tiny.fc_file(tiny.fc()), tiny.fc(), runtimes=("bad", "ort-cpu"), sizes=(Size(8, 8),)
    )
    verdicts = {cell.runtime: cell.verdict for cell in report.cells}
    assert verdicts == {"bad": Verdict.UNAVAILABLE, "ort-cpu": Verdict.PASS}
    assert report.exit_code == 3


def test_a_name_that_is_taken_is_told_apart_by_its_package(install):
    install("rival", ort_cpu="misbehaving:Healthy", all="misbehaving:Healthy")
    install("zrival", ort_cpu="misbehaving:Healthy")
    added = [name for name in known_runtimes() if name not in RUNTIMES]
    assert sorted(added) == ["all@rival", "ort-cpu@rival", "ort-cpu@zrival"]
    assert known_runtimes()["ort-cpu"] == RUNTIMES["ort-cpu"]
