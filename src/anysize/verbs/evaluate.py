"""How good and how fast models and heads are, by size: on labelled images, or without."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from anysize.errors import UsageError
from anysize.files import made_folder
from anysize.heads import AS_IS, HEAD_KINDS
from anysize.images import Fit
from anysize.preprocessing import Preprocessing
from anysize.sizes import Size, to_sizes
from anysize.verbs.progress import Progress, silent

if TYPE_CHECKING:
    from torch import nn

    from anysize.validators.evaluation import Candidate, Evaluation

    Model = str | Path | nn.Module

__all__ = ["benchmark", "evaluate"]

_AUTO = "auto"


def evaluate(
    models: Model | Sequence[Model],
    data: Path | str | None,
    *,
    heads: str | Sequence[str] = (),
    weights: Path | str | None = None,
    model_args: Mapping[str, object] | None = None,
    size: Size | str | None = None,
    reference: Model | None = None,
    sizes: str | Sequence[Size | str | Sequence[int]] = _AUTO,
    fit: Fit = "crop",
    runtimes: str | Sequence[str] = "ort-cpu",
    batch: int = 1,
    warm_up: int = 3,
    runs: int = 20,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] | None = None,
    folder: Path | str | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Classify labelled images at several sizes, and measure time and memory beside.

    The answer for an image is the first output `(batch, classes)`; where there is none, the mean
    over the cells of the first map `(batch, classes, map_height, map_width)`.

    Args:
        models: ONNX files, SOURCEs and modules in evaluation mode; a SOURCE or module is exported,
            without a proof.
        data: A folder with a folder of images for each class, or a CSV of `path,label`; None
            measures time and memory alone.
        heads: The heads that each model is exported with, or that each file is rewritten to;
            `as-is`, or the head that a file records, is the file itself. Their own by default.
        weights: A checkpoint for every SOURCE.
        model_args: What every SOURCE is built with, such as `{"num_classes": 12}`.
        size: The training size of every SOURCE and module; the network's own, or 224x224, by
            default. That of a file that is rewritten, where it does not tell.
        reference: What `agreement` is with, at the size that it was made for; the first model by
            default.
        sizes: Image sizes, as `anysize.validate` takes them; `auto` is 0.75, 1, 1.5, 2 and 3 times
            the first model's training size, `quick` 1 and 2 times.
        fit: How images are brought to a size: `crop`, resized with their proportions kept and cut
            out of the middle; `resize`, whatever becomes of the proportions; `none`, each as it
            is, one in a run.
        runtimes: Names as in `anysize runtimes`, a list or comma-separated, or `all`.
        batch: Images in a run; a file that fixes it has its own.
        warm_up: Runs before the timed ones.
        runs: Timed runs; fewer where they take more than 20 s.
        preprocessing: What images become; what it does not say is taken from the file, and what
            that does not say is assumed.
        class_names: Names of the outputs, in order; the file's by default. Where the data use
            these names, they say which class is which; else both are in the same order.
        folder: Keeps what has been found, for a later evaluation of the same to go on with.
        progress: Told how far it is.

    Raises:
        AnysizeError: A subclass says what cannot be used. What a runtime cannot do is no error but
            a row of the result.
    """
    from anysize.validators import parse_runtimes
    from anysize.validators.evaluation import (
        EvaluationSpec,
        evaluate_candidates,
        evaluation_sizes,
        read_dataset,
    )
    from anysize.validators.run import usable_cpus

    names = parse_runtimes(runtimes if isinstance(runtimes, str) else ",".join(runtimes))
    spec = EvaluationSpec(names, fit, batch, warm_up, runs, usable_cpus())
    chosen = to_sizes(sizes)
    if fit == "none" and chosen != _AUTO:
        raise UsageError("fit none takes each image at its own size; leave out sizes")
    dataset = None
    if data is not None:
        progress(0, 0, f"listing {data}")
        dataset = read_dataset(Path(data))
    wanted: list[str | None] = [*_texts(heads)] or [None]
    with tempfile.TemporaryDirectory(prefix="anysize-evaluation-") as temporary:
        made = _Candidates(
            Path(temporary), weights, model_args, size, preprocessing, class_names, progress
        )
        candidates = [made.read(model, head) for model in _listed(models) for head in wanted]
        trained = next((one.training for one in candidates if one.training), None)
        every = (None,) if fit == "none" else evaluation_sizes(chosen, trained)
        return evaluate_candidates(
            candidates,
            every,
            spec,
            made.folder if folder is None else made_folder(Path(folder)),
            dataset=dataset,
            reference=candidates[0] if reference is None else made.read(reference, None),
            show=progress,
        )


def benchmark(
    models: Model | Sequence[Model],
    *,
    heads: str | Sequence[str] = (),
    weights: Path | str | None = None,
    model_args: Mapping[str, object] | None = None,
    size: Size | str | None = None,
    sizes: str | Sequence[Size | str | Sequence[int]] = _AUTO,
    runtimes: str | Sequence[str] = "ort-cpu",
    batch: int = 1,
    warm_up: int = 3,
    runs: int = 20,
    folder: Path | str | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Measure latency, images per second and peak memory, as `evaluate` does without data.

    Arguments and errors are those of `evaluate`.
    """
    return evaluate(
        models,
        None,
        heads=heads,
        weights=weights,
        model_args=model_args,
        size=size,
        sizes=sizes,
        runtimes=runtimes,
        batch=batch,
        warm_up=warm_up,
        runs=runs,
        folder=folder,
        progress=progress,
    )


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Makes files of models and heads, in a folder, and reads them."""

    folder: Path
    weights: Path | str | None
    model_args: Mapping[str, object] | None
    size: Size | str | None
    preprocessing: Preprocessing | None
    class_names: Sequence[str] | None
    progress: Progress

    def read(self, model: Model, head: str | None) -> Candidate:
        from anysize.validators.evaluation import Candidate

        said = self.preprocessing or Preprocessing()
        path, name = self._file(model, head), _name(model)
        return Candidate.read(path, name, preprocessing=said, class_names=self.class_names)

    def _file(self, model: Model, head: str | None) -> Path:
        """Return the file of a model with a head; it is written where there is none."""
        path = self.folder / f"{len(list(self.folder.iterdir()))}.onnx"
        if isinstance(model, Path) or (isinstance(model, str) and model.endswith(".onnx")):
            return self._rewritten(Path(model), head, path)
        from anysize.verbs.export import export

        self.progress(0, 0, f"exporting {_name(model)} {head or ''}".rstrip())
        weights, args = (self.weights, self.model_args) if isinstance(model, str) else (None, None)
        export(
            model,
            path,
            head=head,
            weights=weights,
            model_args=args,
            size=self.size,
            verify=False,
        )
        return path

    def _rewritten(self, file: Path, head: str | None, path: Path) -> Path:
        from anysize.surgery import load_model, read_metadata, trained_size
        from anysize.verbs.rewrite import rewrite

        graph = load_model(file, weights="in_file")
        if head in (None, AS_IS, read_metadata(graph).head):
            return file
        target = HEAD_KINDS[head].target if head in HEAD_KINDS else None
        if target is None:
            known = ", ".join(name for name, kind in HEAD_KINDS.items() if kind.is_converted)
            raise UsageError(
                f"head {head!r}: {file} can be rewritten to {known}; {AS_IS} is the file itself"
            )
        self.progress(0, 0, f"rewriting {file} to {head}")
        size = None if trained_size(graph) else self.size
        rewrite(file, path, to=target, size=size, verify=False)
        return path


def _listed(models: Model | Sequence[Model]) -> Sequence[Model]:
    if not isinstance(models, (list, tuple)):
        return [models]  # type: ignore[list-item]  # a sequence of characters is none of models
    if not models:
        raise UsageError("models: got none; name a file, a SOURCE or a module")
    return models


def _texts(names: str | Sequence[str]) -> list[str]:
    texts = names.split(",") if isinstance(names, str) else names
    return [text.strip() for text in texts if text.strip()]


def _name(model: Model) -> str:
    return str(model) if isinstance(model, (str, os.PathLike)) else type(model).__qualname__
