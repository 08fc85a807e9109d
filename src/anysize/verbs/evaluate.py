"""How good and how fast models and heads are, by size: on labelled images, or without."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
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

    from anysize.validators.evaluation import Candidate, Dataset, Evaluation, EvaluationSpec

    Model = str | Path | nn.Module

__all__ = ["benchmark", "evaluate"]

_AUTO = "auto"


def evaluate(
    models: Model | Sequence[Model],
    data: Path | str,
    *,
    heads: str | Sequence[str] = (),
    weights: Path | str | None = None,
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
        data: A folder with a folder of images for each class, or a CSV of `path,label`.
        heads: The heads that each model is exported with, or that each file is rewritten to;
            `as-is`, or the head that a file records, is the file itself. Their own by default.
        weights: A checkpoint for every SOURCE.
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
    from anysize.validators.evaluation import read_dataset

    progress(0, 0, f"listing {data}")
    dataset = read_dataset(Path(data))
    return _evaluated(
        _listed(models),
        dataset,
        heads=heads,
        weights=weights,
        reference=reference,
        sizes=sizes,
        fit=fit,
        runtimes=runtimes,
        numbers={"batch": batch, "warm_up": warm_up, "runs": runs},
        preprocessing=preprocessing,
        class_names=class_names,
        folder=folder,
        progress=progress,
    )


def benchmark(
    models: Model | Sequence[Model],
    *,
    heads: str | Sequence[str] = (),
    weights: Path | str | None = None,
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
    return _evaluated(
        _listed(models),
        None,
        heads=heads,
        weights=weights,
        sizes=sizes,
        runtimes=runtimes,
        numbers={"batch": batch, "warm_up": warm_up, "runs": runs},
        folder=folder,
        progress=progress,
    )


def _evaluated(
    models: Sequence[Model],
    dataset: Dataset | None,
    *,
    heads: str | Sequence[str],
    weights: Path | str | None,
    sizes: str | Sequence[Size | str | Sequence[int]],
    runtimes: str | Sequence[str],
    numbers: dict[str, int],
    folder: Path | str | None,
    progress: Progress,
    reference: Model | None = None,
    fit: Fit = "crop",
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] | None = None,
) -> Evaluation:
    from anysize.validators import parse_runtimes
    from anysize.validators.evaluation import (
        Candidate,
        EvaluationSpec,
        evaluate_candidates,
        evaluation_sizes,
    )
    from anysize.validators.run import usable_cpus

    names = parse_runtimes(runtimes if isinstance(runtimes, str) else ",".join(runtimes))
    spec = EvaluationSpec(names, fit, threads=usable_cpus(), **numbers)
    chosen = to_sizes(sizes)
    if fit == "none" and chosen != _AUTO:
        raise UsageError("fit none takes each image at its own size; leave out sizes")
    wanted: list[str | None] = [*_texts(heads)] or [None]
    _check_numbers(spec)
    with tempfile.TemporaryDirectory(prefix="anysize-evaluation-") as temporary:
        place = Path(temporary)

        def candidate(model: Model, head: str | None) -> Candidate:
            path = _file(model, head, weights, place, progress)
            said = preprocessing or Preprocessing()
            name = _name(model)
            return Candidate.read(path, name, preprocessing=said, class_names=class_names)

        candidates = [candidate(model, head) for model in models for head in wanted]
        original = candidates[0] if reference is None else candidate(reference, None)
        trained = next((one.training for one in candidates if one.training), None)
        every = (None,) if fit == "none" else evaluation_sizes(chosen, trained)
        return evaluate_candidates(
            candidates,
            every,
            spec,
            place if folder is None else made_folder(Path(folder)),
            dataset=dataset,
            reference=original,
            show=progress,
        )


def _check_numbers(spec: EvaluationSpec) -> None:
    from anysize.validators.inputs import MAX_BATCH

    if not 1 <= spec.batch <= MAX_BATCH:
        raise UsageError(f"batch {spec.batch}: expected a whole number from 1 to {MAX_BATCH}")
    if spec.runs < 1 or spec.warm_up < 0:
        raise UsageError(f"runs {spec.runs}, warm-up {spec.warm_up}: expected 1 run or more")


def _file(
    model: Model,
    head: str | None,
    weights: Path | str | None,
    folder: Path,
    progress: Progress,
) -> Path:
    """Return the file of a model with a head; it is written where there is none."""
    path = folder / f"{len(list(folder.iterdir()))}.onnx"
    if isinstance(model, Path) or (isinstance(model, str) and model.endswith(".onnx")):
        return _rewritten(Path(model), head, path, progress)
    from anysize.verbs.export import export

    progress(0, 0, f"exporting {_name(model)} {head or ''}".rstrip())
    source = str(model) if isinstance(model, Path) else model
    checkpoint = weights if isinstance(source, str) else None
    export(source, path, head=head, weights=checkpoint, verify=False)
    return path


def _rewritten(file: Path, head: str | None, path: Path, progress: Progress) -> Path:
    from anysize.surgery import load_model, read_metadata
    from anysize.verbs.rewrite import rewrite

    if head in (None, AS_IS):
        return file
    if head == read_metadata(load_model(file, weights="in_file")).head:
        return file
    target = HEAD_KINDS[head].target if head in HEAD_KINDS else None
    if target is None:
        known = ", ".join(name for name, kind in HEAD_KINDS.items() if kind.is_converted)
        raise UsageError(
            f"head {head!r}: {file} can be rewritten to {known}; {AS_IS} is the file itself"
        )
    progress(0, 0, f"rewriting {file} to {head}")
    rewrite(file, path, to=target, verify=False)
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
