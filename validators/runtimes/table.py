"""The table of runtimes: name → class, what installs it, and what it is. Nothing is imported.

Third parties add theirs through the entry point group `anysize.runtimes`:

    [project.entry-points."anysize.runtimes"]
    fast = "fast_package.anysize:FastRuntime"
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from anysize.words import cleaned

if TYPE_CHECKING:
    from importlib import metadata

__all__ = ["GROUP", "RUNTIMES", "RuntimeEntry", "known_runtimes"]

GROUP: Final = "anysize.runtimes"
_MODULES: Final = "anysize.validators.runtimes"
_RESERVED: Final = "all"
_NAME: Final = 100


@dataclass(frozen=True, slots=True)
class RuntimeEntry:
    """Where a runtime lives, and what installs it.

    Attributes:
        target: `module:Class`, imported only in the runtime's worker.
        install: What `pip install` takes, or npm's package.
        text: What it is, in a few words.
        device: What it computes on.
        profile: Its error profile, a key of `anysize.validators.judging.budget.PROFILES`.
        tf32: `module:Class` of the same with TF32 allowed; "" where it has none.
        is_set_up: Whether `anysize runtimes --setup NAME` installs it, and not pip.
        package: The Python package that several distributions hold, of which one may be installed;
            "" where there is but one.
    """

    target: str
    install: str
    text: str
    device: str = "cpu"
    profile: str = "strict"
    tf32: str = ""
    is_set_up: bool = False
    package: str = ""


RUNTIMES: Final[dict[str, RuntimeEntry]] = {
    "ort-cpu": RuntimeEntry(
        f"{_MODULES}.ort_cpu:OrtCpu",
        "anysize",
        "ONNX Runtime, CPU provider only",
        package="onnxruntime",
    ),
    "ort-cuda": RuntimeEntry(
        f"{_MODULES}.ort_cuda:OrtCuda",
        "onnxruntime-gpu[cuda,cudnn]",
        "ONNX Runtime, CUDA provider",
        device="cuda",
        tf32=f"{_MODULES}.ort_cuda:OrtCudaTf32",
    ),
    "ort-tensorrt": RuntimeEntry(
        f"{_MODULES}.ort_tensorrt:OrtTensorrt",
        "onnxruntime-gpu[cuda,cudnn] tensorrt",
        "ONNX Runtime, TensorRT provider",
        device="cuda",
        profile="tensorrt",
        tf32=f"{_MODULES}.ort_tensorrt:OrtTensorrtTf32",
    ),
    "onnx-reference": RuntimeEntry(
        f"{_MODULES}.onnx_reference:OnnxReferenceRuntime",
        "anysize",
        "the ONNX specification's own evaluator, in NumPy",
    ),
    "openvino": RuntimeEntry(
        f"{_MODULES}.openvino:OpenVino", "anysize[openvino]", "OpenVINO, CPU plugin, float32"
    ),
    "tract": RuntimeEntry(f"{_MODULES}.tract:Tract", "anysize[tract]", "tract, one thread"),
    "iree": RuntimeEntry(
        f"{_MODULES}.iree:Iree", "anysize[iree]", "IREE, compiled for this CPU, one thread"
    ),
    "mnn": RuntimeEntry(f"{_MODULES}.mnn:Mnn", "anysize[mnn]", "MNN, CPU backend, float32"),
    "opencv": RuntimeEntry(
        f"{_MODULES}.opencv:OpenCv", "anysize[opencv]", "OpenCV's dnn module, CPU, float32"
    ),
    "ort-node": RuntimeEntry(
        f"{_MODULES}.javascript.ort_node:OrtNode",
        "onnxruntime-node",
        "ONNX Runtime in Node, CPU provider only",
        is_set_up=True,
    ),
    "ort-web": RuntimeEntry(
        f"{_MODULES}.javascript.ort_web:OrtWeb",
        "onnxruntime-web",
        "ONNX Runtime Web in headless Chromium, WebAssembly",
        device="wasm",
        is_set_up=True,
    ),
    "ort-webgpu": RuntimeEntry(
        f"{_MODULES}.javascript.ort_web:OrtWebGpu",
        "onnxruntime-web",
        "ONNX Runtime Web in headless Chromium, WebGPU",
        device="webgpu",
        is_set_up=True,
    ),
}


def known_runtimes() -> dict[str, RuntimeEntry]:
    """Return the table with what installed packages add to it.

    A name that is taken gets `@package`. No entry point is imported here: a broken one harms
    nobody.
    """
    known = dict(RUNTIMES)
    for point, package, version in sorted(_added(), key=lambda p: (p[0].name, p[0].value)):
        name = cleaned(point.name, most=_NAME).replace(",", "-")  # lists of names have commas
        name = f"{name}@{package}" if name in known or name == _RESERVED else name
        known[name] = RuntimeEntry(_target(point), package, f"added by {package} {version}")
    return known


def _added() -> Iterator[tuple[metadata.EntryPoint, str, str]]:
    """Yield what each installed package adds; one whose metadata is damaged adds nothing."""
    from importlib import metadata  # a worker, which asks nobody, starts sooner without

    for distribution in metadata.distributions():
        try:
            points = distribution.entry_points.select(group=GROUP)
            if not points:  # reading all the rest of it takes far longer (2 ms each)
                continue
            package = cleaned(distribution.metadata["Name"] or "?", most=_NAME)
            version = cleaned(distribution.metadata["Version"] or "?", most=_NAME)
        except Exception:  # noqa: S112  (whatever its parser trips over)
            continue
        for point in points:
            yield point, package, version


def _target(point: metadata.EntryPoint) -> str:
    """Return `module:attribute`, without the extras that may stand behind it."""
    try:
        return f"{point.module}:{point.attr}"
    except AttributeError:
        return cleaned(point.value)
