"""`import anysize` and `anysize --help` load no framework and no runtime."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "onnx", "onnxruntime", "onnxscript", "onnx_graphsurgeon", "numpy", "matplotlib")
REPORT = f"import sys; print(sorted(set(sys.modules) & set({HEAVY!r})))"


def heavy_modules(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{REPORT}"], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1]


HELP = "from anysize.cli import main\nmain(['--help'])"
LIGHT = {
    "import anysize": "import anysize",
    "anysize --help": HELP,
    "anysize export --help": HELP.replace("['--help']", "['export', '--help']"),
    "anysize.models": "import anysize.models",
    "anysize.exporters": "import anysize.exporters",
}


@pytest.mark.parametrize("code", LIGHT.values(), ids=LIGHT.keys())
def test_nothing_heavy_is_loaded(code):
    assert heavy_modules(code) == "[]"


def test_surgery_loads_onnx_and_numpy_alone():
    assert heavy_modules("import anysize.surgery") == "['numpy', 'onnx']"


def test_the_worker_of_a_reference_imports_neither_onnx_nor_torch():
    """Its start is part of each proof; with them it took eight times as long."""
    code = "from anysize.validators.runtimes.literal_ort import LiteralOrt"
    assert heavy_modules(code) == "['numpy']"


def test_a_rewrite_is_proved_without_torch(tmp_path):
    import anysize

    anysize.export("lenet", tmp_path / "fc.onnx", head="fc", verify=False)
    files = str(tmp_path / "fc.onnx"), str(tmp_path / "fcn.onnx")
    code = f"import anysize\nassert anysize.rewrite(*{files!r}).proof.ok"
    assert heavy_modules(code) == "['numpy', 'onnx']"


REFUSED = {
    "opset": ["export", "lenet", "-o", "x.onnx", "--opset", "99"],
    "network": ["export", "lenot", "-o", "x.onnx"],
    "head": ["export", "lenet", "-o", "x.onnx", "--head", "rio"],
    "size": ["export", "lenet", "-o", "x.onnx", "--size", "12x"],
    "bounds": ["export", "lenet", "-o", "x.onnx", "--min-size", "9x9", "--max-size", "8x8"],
    "folder": ["export", "lenet", "-o", "no/such/folder/x.onnx"],
}


@pytest.mark.parametrize("arguments", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_wrong_at_first_sight_is_refused_at_once(arguments):
    code = f"from anysize.cli import main\nassert main({arguments!r}) == 2"
    assert heavy_modules(code) == "[]"


def test_a_heavy_import_is_noticed():
    assert heavy_modules("import anysize\nimport numpy") == "['numpy']"


def test_the_public_names_are_exactly_these():
    import anysize

    assert sorted(anysize.__all__) == [
        "AnysizeError",
        "Evaluation",
        "ExportResult",
        "HeatmapResult",
        "Inspection",
        "JoinedReport",
        "OptimizationProfile",
        "Preprocessing",
        "Report",
        "RewriteResult",
        "RuntimeInfo",
        "Size",
        "SizeRange",
        "__version__",
        "benchmark",
        "evaluate",
        "export",
        "heatmap",
        "inspect",
        "matrix",
        "plan_matrix",
        "profile",
        "report",
        "rewrite",
        "runtimes",
        "validate",
    ]
    assert all(getattr(anysize, name) is not None for name in anysize.__all__)


def test_a_name_that_is_not_public_is_an_attribute_error():
    import anysize

    with pytest.raises(AttributeError, match="no attribute 'exprot'"):
        anysize.exprot  # noqa: B018
