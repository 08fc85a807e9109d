"""Wrong runtimes: a real one underneath, and one thing wrong with what goes through it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from sabotage.entry import Sabotage

from anysize.sizes import Size
from anysize.validators import Verdict
from anysize.validators.runtimes import Availability, Provenance, ProviderUse, Runtime, Session

__all__ = ["FAKES"]

Array = NDArray[np.generic]
Arrays = Mapping[str, Array]


class FakeSession:
    """Hands everything on; subclasses do something wrong."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def run(self, inputs: Arrays) -> Arrays:
        return self.session.run(inputs)

    def provenance(self) -> Provenance:
        return self.session.provenance()

    def close(self) -> None:
        self.session.close()


class Fake:
    """A runtime whose sessions are wrapped, and whose files may be rewritten."""

    def __init__(
        self,
        runtime: Runtime,
        wrap: Callable[[Session], Session],
        rewrite: Callable[[onnx.ModelProto], None] | None = None,
    ) -> None:
        self.runtime = runtime
        self.name, self.profile, self.device = runtime.name, runtime.profile, runtime.device
        self._wrap, self._rewrite = wrap, rewrite

    def availability(self) -> Availability:
        return self.runtime.availability()

    def version(self) -> str:
        return self.runtime.version()

    def load(self, model_path: Path, *, threads: int) -> Session:
        if self._rewrite is None:
            return self._wrap(self.runtime.load(model_path, threads=threads))
        model = onnx.load(model_path)
        self._rewrite(model)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            onnx.save(model, path)
            return self._wrap(self.runtime.load(path, threads=threads))


class OtherProvider(FakeSession):
    """Asked for one device, it computes on another and says so only in its profile."""

    def provenance(self) -> Provenance:
        used = sum(use.nodes for use in super().provenance().providers)
        return replace(
            super().provenance(),
            providers=(ProviderUse("FallbackProvider", used),),
            fallback_nodes=("features.0 (Conv on FallbackProvider)",),
        )


def to_tf32(array: Array) -> Array:
    """Round float32 to the ten bits behind the point that TF32 has."""
    if array.dtype != np.float32:
        return array
    bits = np.ascontiguousarray(array).view(np.uint32)
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


class RoundsImages(FakeSession):
    """The factors of the first product are TF32; those of the weights are made so on loading."""

    def run(self, inputs: Arrays) -> Arrays:
        return super().run({name: to_tf32(array) for name, array in inputs.items()})


def round_weights(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        rounded = to_tf32(numpy_helper.to_array(tensor))
        tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))


class WrongSecondTime(FakeSession):
    """The first answer for each shape is right."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.seen: set[tuple[int, ...]] = set()

    def run(self, inputs: Arrays) -> Arrays:
        (image,) = inputs.values()
        factor = np.float32(1.001 if image.shape in self.seen else 1.0)
        self.seen.add(image.shape)
        return {name: array * factor for name, array in super().run(inputs).items()}


class KeepsLargestSize(FakeSession):
    """Buffers grow and never shrink: a smaller image lies in a corner of the largest so far."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.sides = (0, 0)

    def run(self, inputs: Arrays) -> Arrays:
        ((name, image),) = inputs.items()
        before = self.sides
        self.sides = tuple(max(a, b) for a, b in zip(before, image.shape[2:], strict=True))
        more = [(0, side - own) for side, own in zip(self.sides, image.shape[2:], strict=True)]
        return super().run({name: np.pad(image, ((0, 0), (0, 0), *more))})


class AnswersByShape(FakeSession):
    """The first answer for each shape is given for every image of that shape."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.answers: dict[tuple[int, ...], Arrays] = {}

    def run(self, inputs: Arrays) -> Arrays:
        (image,) = inputs.values()
        if image.shape not in self.answers:
            answers = super().run(inputs).items()
            self.answers[image.shape] = {name: np.array(array) for name, array in answers}
        return self.answers[image.shape]


def runs_twice(size: Size, batch: int) -> bool:
    return (size, batch) in {(Size(32, 32), 1), (Size(36, 45), 2)}


def runs_after_a_larger_one(size: Size, batch: int) -> bool:
    return runs_twice(size, batch) and size != Size(36, 45)


_PROFILE_OFF = ("output 'logits'", "x the budget of")

FAKES = (
    Sabotage(
        "provider fallback",
        "lenet-spp",
        "another provider computes a node",
        Verdict.FALLBACK,
        fake=lambda runtime: Fake(runtime, OtherProvider),
        words=("features.0 (Conv on FallbackProvider)",),
    ),
    Sabotage(
        "TF32",
        "lenet-spp",
        "factors of products rounded to ten bits",
        Verdict.MISMATCH,
        fake=lambda runtime: Fake(runtime, RoundsImages, round_weights),
        words=_PROFILE_OFF,
    ),
    Sabotage(
        "wrong second time",
        "lenet-spp",
        "a session's second run × 1.001",
        Verdict.MISMATCH,
        fake=lambda runtime: Fake(runtime, WrongSecondTime),
        at=runs_twice,
        words=("the answer depends on what ran before",),
    ),
    Sabotage(
        "largest size kept",
        "lenet-spp",
        "a session pads to the largest image so far",
        Verdict.MISMATCH,
        fake=lambda runtime: Fake(runtime, KeepsLargestSize),
        at=runs_after_a_larger_one,
        words=("the answer depends on what ran before",),
    ),
    Sabotage(
        "answer by shape",
        "lenet-spp",
        "a session remembers answers by the image's shape",
        Verdict.MISMATCH,
        fake=lambda runtime: Fake(runtime, AnswersByShape),
        at=lambda size, batch: size == Size(32, 32) and batch == 1,
        words=("on other images, 8 times as bright",),
    ),
)
