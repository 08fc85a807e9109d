"""An ONNX graph as the reference: float32 by ONNX Runtime, float64 by the reference evaluator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anysize.errors import (
    ModelFileError,
    NotRunError,
    RuntimeFailedError,
    SourceError,
    WorkerCrashedError,
    WorkerTimeoutError,
)
from anysize.surgery.graph import Graph, Model, image_layout, required_inputs, static_size
from anysize.validators.references.protocol import (
    Perturbed,
    Precision,
    Recorded,
    Rejected,
)
from anysize.words import WITHOUT_ARBITER, one_line

if TYPE_CHECKING:
    import onnx

    from anysize.validators.references.graph.plan import GraphPlan
    from anysize.validators.runtimes import Session

__all__ = ["GraphPair", "OnnxReference"]

Array = NDArray[np.generic]

_IMAGE_RANK = 4
# What NumPy and ONNX Runtime say, in a process whose memory has a limit.
_EXHAUSTED = ("allocate", "bad_alloc", "MemoryError")


class GraphPair:
    """One graph in two precisions, each loaded when it is first needed.

    Args:
        model: The graph, with what is known of it; weights may still be in its file, or external.
        name: How messages call it.
        source: The file that it was read from; needed where weights are not in memory.
        threads: Threads for ONNX Runtime.
    """

    def __init__(
        self,
        model: Model,
        *,
        name: str,
        source: Path | None = None,
        threads: int = 1,
    ) -> None:
        self.name = name
        self.graph = Graph.of(model)
        self.model = self.graph.model
        self._source = source
        self._threads = threads
        self._plan: GraphPlan | None = None
        self._sessions: dict[Precision, Session] = {}
        self._perturbed: GraphPair | None = None
        inputs = required_inputs(self.model)
        self._inputs = [i.name for i in inputs]
        self._kinds = [_float_type(i) for i in inputs]

    @classmethod
    def of_file(
        cls, path: Path, *, model: Model | None = None, name: str = "", threads: int = 1
    ) -> GraphPair:
        """Open a file, its weights left there; `model` is what was read from it already, if any.

        Runtimes are given its graph with weights that lie in the file, which they map: reading the
        file themselves would copy each weight up to three times (VGG-16 in ONNX Runtime, 0.6 s for
        2.5 s).
        """
        from anysize.surgery import load_model

        read = load_model(path, weights="in_file") if model is None else model
        label = name or path.name
        return cls(read, name=label, source=path, threads=threads)

    def changed(self, model: Model, *, name: str = "") -> GraphPair:
        """Return a graph that was made of this one, whose weights lie where this one's do."""
        return GraphPair(model, name=name or self.name, source=self._source, threads=self._threads)

    def run(self, arrays: tuple[Array, ...], precision: Precision) -> tuple[Array, ...] | Rejected:
        """Run on arrays given in the order of the graph's inputs.

        Floats are cast to float64, or, for float32, to what the graph declares: one in half
        precision is its own reference, whose error against float64 is that of its arithmetic.

        Raises:
            ModelFileError: ONNX Runtime cannot load the graph.
            SourceError: The evaluator cannot load it in float64.
            NotRunError: The memory is exhausted, or what runs it crashed or took too long.
        """
        if isinstance(precision, Perturbed):
            return self._with_noise().run(arrays, "float32")
        if isinstance(precision, Recorded):
            return self._recorded(arrays, precision)
        if len(arrays) != len(self._inputs):
            raise SourceError(
                f"reference {self.name}: takes {len(self._inputs)} input(s), got {len(arrays)}"
            )
        session = self._session(precision)
        inputs = {
            name: array.astype(kind if precision == "float32" else precision)
            if np.issubdtype(array.dtype, np.floating)
            else array
            for name, kind, array in zip(self._inputs, self._kinds, arrays, strict=True)
        }
        try:
            return tuple(session.run(inputs).values())
        except MemoryError as exc:
            raise self._exhausted(arrays, exc) from exc
        except (WorkerCrashedError, WorkerTimeoutError) as exc:
            way_out = WITHOUT_ARBITER if precision == "float64" else ""
            raise NotRunError(
                f"reference {self.name} at {list(arrays[0].shape)}: {exc}{way_out}"
            ) from exc
        except Exception as exc:  # each runtime has exceptions of its own
            if any(words in str(exc) for words in _EXHAUSTED):
                raise self._exhausted(arrays, exc) from exc
            return Rejected(one_line(exc))

    def close(self) -> None:
        """Release both sessions."""
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()
        if self._perturbed is not None:
            self._perturbed.close()
            self._perturbed = None
        if self._plan is not None:
            self._plan.close()
            self._plan = None

    def _with_noise(self) -> GraphPair:
        """Return the graph whose nodes draw new roundings in each run, one after the other."""
        from anysize.validators.references.graph.perturbed import perturbed

        if self._perturbed is None:
            self._perturbed = self.changed(perturbed(self.graph))
        return self._perturbed

    def _recorded(
        self, arrays: tuple[Array, ...], precision: Recorded
    ) -> tuple[Array, ...] | Rejected:
        """Run with each floating-point tensor as an output, and write them all down."""
        from anysize.validators.references.graph.insides import shown, tensors_of
        from anysize.validators.references.steps import Recorder

        tensors = tensors_of(self.model)
        pair = self.changed(shown(self.model, [tensor.name for tensor in tensors]))
        try:
            answer = pair.run(arrays, precision.numbers)
        finally:
            pair.close()
        if isinstance(answer, Rejected):
            return answer
        made = dict(zip((o.name for o in pair.model.graph.output), answer, strict=True))
        recorder = Recorder(precision.folder)
        for name, array in zip(self._inputs, arrays, strict=True):
            recorder.add(array, layer="", operator="input", tensor=name)
        for one in tensors:
            recorder.add(made[one.name], layer=one.node, operator=one.operator, tensor=one.name)
        return answer[: len(self.model.graph.output)]

    def _session(self, precision: Precision) -> Session:
        from google.protobuf.message import EncodeError

        from anysize.validators.references.graph import evaluator, literal_ort

        if precision in self._sessions:
            return self._sessions[precision]
        worker = literal_ort.WORKER if precision == "float32" else evaluator.DOUBLE
        try:
            session = worker.load(self._planned(), threads=self._threads)
        except (WorkerCrashedError, WorkerTimeoutError) as exc:
            raise NotRunError(f"reference {self.name}: {exc}") from exc
        except (RuntimeFailedError, ValueError, EncodeError) as exc:  # beyond 2 GiB, for one
            if precision == "float32":
                raise ModelFileError(
                    f"reference {self.name}: ONNX Runtime cannot load it: {one_line(exc)}"
                ) from exc
            raise SourceError(
                f"reference {self.name}: cannot be evaluated in float64 "
                f"({one_line(exc)}){WITHOUT_ARBITER}"
            ) from exc
        self._sessions[precision] = session
        return session

    def _planned(self) -> Path:
        """Write the graph down for a worker, once."""
        from anysize.validators.references.graph.plan import GraphPlan

        if self._plan is None:
            folder = self._source.absolute().parent if self._source else None
            self._plan = GraphPlan(self.model, folder=folder)
        return self._plan.path

    def _exhausted(self, arrays: tuple[Array, ...], exc: Exception) -> NotRunError:
        return NotRunError(
            f"reference {self.name}: out of memory at {list(arrays[0].shape)}; give smaller "
            f"--sizes or --batches ({one_line(exc)})"
        )


class OnnxReference:
    """An ONNX graph as the original.

    A graph that declares batch 1 answers for each item of a batch by itself: that is what its
    user does with it. One that declares 10 gets ten at a time; the last ten are filled up with the
    last image, whose further answers are left out.

    Args:
        graph: The original; reports call it by its name.
    """

    kind = "onnx"

    def __init__(self, graph: GraphPair) -> None:
        outputs = graph.model.graph.output
        self.name = graph.name
        self.output_names: tuple[str, ...] | None = tuple(output.name for output in outputs)
        self._declared = _first_axes(graph.model)
        self._size, self._layout = static_size(graph.graph), image_layout(graph.graph)
        self._pair = graph

    def run(
        self, inputs: Mapping[str, Array], precision: Precision
    ) -> tuple[Array, ...] | Rejected:
        """Run the graph on the inputs, by position."""
        arrays = tuple(inputs.values())
        image = next((array.shape for array in arrays if array.ndim == _IMAGE_RANK), None)
        if self._size is not None and (image is None or self._layout.size(image) != self._size):
            return Rejected(
                f"{self.name} declares images of {self._size} and cannot be asked about others"
            )
        declared = self._batch(arrays)
        if declared > 1 and len(arrays[0]) != declared:
            return self._in_groups(arrays, declared, precision)
        # Of inputs that it declares 1 long.
        lengths = [len(a) for a, axis in zip(arrays, self._declared, strict=False) if axis == 1]
        batch = max(lengths, default=1)
        if batch == 1 or len(arrays) != len(self._declared):
            return self._pair.run(arrays, precision)
        if 0 in self._declared:
            raise SourceError(
                f"reference {self.name}: takes one image, and what it reads beside it has no batch "
                "axis; give --batches 1"
            )
        items: list[tuple[Array, ...]] = []
        for item in range(batch):
            one = (
                array[item : item + 1] if axis == 1 and len(array) == batch else array
                for array, axis in zip(arrays, self._declared, strict=True)
            )
            answer = self._pair.run(tuple(one), precision)
            if isinstance(answer, Rejected):
                return answer
            items.append(answer)
        if any(output.shape[:1] != (1,) for output in items[0]):
            raise SourceError(
                f"reference {self.name}: takes one image, and has an output whose axis 0 is no "
                "batch; give --batches 1"
            )
        return tuple(np.concatenate(parts) for parts in zip(*items, strict=True))

    def _batch(self, arrays: tuple[Array, ...]) -> int:
        """Return the batch that is declared; 0 where what stands beside the image has another."""
        lengths = {len(array) for array in arrays if array.ndim}
        is_alone = len(arrays) == len(self._declared) and len(lengths) == 1
        return self._declared[0] if is_alone and len(set(self._declared)) == 1 else 0

    def _in_groups(
        self, arrays: tuple[Array, ...], batch: int, precision: Precision
    ) -> tuple[Array, ...] | Rejected:
        """Run as many items at a time as the graph declares."""
        count, groups = len(arrays[0]), list[tuple[Array, ...]]()
        for start in range(0, count, batch):
            places = np.minimum(np.arange(start, start + batch), count - 1)
            answer = self._pair.run(tuple(array[places] for array in arrays), precision)
            if isinstance(answer, Rejected):
                return answer
            if any(output.ndim == 0 or len(output) != batch for output in answer):
                raise SourceError(
                    f"reference {self.name}: takes {batch} images, and has an output without a "
                    f"batch axis; give --batches {batch}"
                )
            groups.append(answer)
        return tuple(np.concatenate(parts)[:count] for parts in zip(*groups, strict=True))

    def close(self) -> None:
        """Release the sessions."""
        self._pair.close()


def _float_type(value: onnx.ValueInfoProto) -> np.dtype[Any]:
    """Return the floating-point type that an input declares, float32 where that is another."""
    from onnx.helper import tensor_dtype_to_np_dtype

    kind = tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type or 1)
    return np.dtype(kind if np.issubdtype(kind, np.floating) else np.float32)


def _first_axes(model: onnx.ModelProto) -> list[int]:
    """Return the declared length of each input's first axis; 0 for any length, -1 for a scalar."""
    shapes = [value.type.tensor_type.shape.dim for value in required_inputs(model)]
    return [int(dims[0].dim_value) if len(dims) else -1 for dims in shapes]
