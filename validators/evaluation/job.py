"""One model at one size on one runtime, in a process of its own: its answers, time and memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anysize.errors import (
    ModelFileError,
    NoAnswerError,
    NotRunError,
    RuntimeFailedError,
    UnsupportedModelError,
    UsageError,
)
from anysize.images import Fit, fitted, pixels_of, read_picture
from anysize.sizes import Size
from anysize.validators.evaluation.candidate import Candidate
from anysize.validators.evaluation.dataset import Dataset, Sample, output_of_class
from anysize.validators.evaluation.records import ROW, TOP, Measurement, NoAnswer, Record, Rows
from anysize.validators.inputs import MAX_BATCH, Case, make_inputs
from anysize.validators.run import machine, open_session, package_versions
from anysize.validators.worker import IsolatedSession, RuntimeInfo, get_runtime
from anysize.words import shape_text

__all__ = ["EvaluationSpec", "Job", "run_job"]

_SEED = 0
# Of a slow model, fewer runs do.
_LEAST_RUNS, _ENOUGH_S = 3, 20.0
_MOST_RECORDED = 1000
_MOST_AT_ONCE, _PIXELS_AT_ONCE = 16, 1 << 20

# Images or runs that are done, and what is being done.
Show = Callable[[int, str], None]
Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class EvaluationSpec:
    """How models are evaluated.

    Attributes:
        runtimes: Names of `anysize.validators.runtimes.known_runtimes()`.
        fit: How images are brought to a size; see `anysize.images.fitted`.
        batch: Images in a run; a file that fixes it has its own.
        warm_up: Runs before the timed ones.
        runs: Timed runs; fewer, and three at least, where they take more than 20 s.
        threads: Threads that one operator may use.

    Raises:
        UsageError: A number is out of range.
    """

    runtimes: tuple[str, ...]
    fit: Fit
    batch: int
    warm_up: int
    runs: int
    threads: int

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= MAX_BATCH:
            raise UsageError(f"batch {self.batch}: expected a whole number from 1 to {MAX_BATCH}")
        if self.runs < 1 or self.warm_up < 0:
            raise UsageError(f"runs {self.runs}, warm-up {self.warm_up}: expected 1 run or more")


@dataclass(frozen=True, slots=True)
class Job:
    """One row of an evaluation.

    Attributes:
        candidate: What runs.
        runtime: On which runtime.
        size: At which size; None takes each image as it is.
        fit: How images are brought to it.
    """

    candidate: Candidate
    runtime: RuntimeInfo
    size: Size | None
    fit: Fit

    def __str__(self) -> str:
        return f"{self.candidate.label} {self.size or 'as it is'} {self.runtime.name}"

    def batch(self, spec: EvaluationSpec) -> int:
        """Return how many images are in a timed run."""
        return self.candidate.batch or (1 if self.size is None else spec.batch)

    def group(self, spec: EvaluationSpec) -> int:
        """Return how many images are answered at once: small ones several, for speed alone."""
        if self.size is None or self.candidate.batch:
            return self.batch(spec)
        return max(spec.batch, min(_MOST_AT_ONCE, _PIXELS_AT_ONCE // self.size.area))

    def record(self, folder: Path, spec: EvaluationSpec, dataset: Dataset | None) -> Record:
        """Name the files of what it finds by all that this depends on."""
        depends = (
            self.candidate.file.sha256,
            self.candidate.file.files[1:],
            self.candidate.preprocessing.to_json(),
            (self.runtime.name, self.runtime.version, str(self.size), self.fit, self.batch(spec)),
            (spec.warm_up, spec.runs, spec.threads),
            "" if dataset is None else dataset.sha256,
            (machine(), [str(package) for package in package_versions()]),
        )
        digest = hashlib.sha256(json.dumps(depends).encode()).hexdigest()
        return Record(folder, digest[:24])


def run_job(
    job: Job, spec: EvaluationSpec, dataset: Dataset | None, record: Record, show: Show
) -> Measurement:
    """Run what is not known yet of a job, and keep it in `record`.

    Raises:
        NotRunError: The runtime cannot load the file, fails on an image, or lets nodes run
            elsewhere; the message is its words.
        UsageError: The classes of the dataset are not the model's.
        UnsupportedModelError: It has no output of scores.
    """
    measured, done = record.kept(), 0
    if dataset is not None:
        done = record.count(most=dataset.count)
    if measured is not None and (dataset is None or done == dataset.count):
        return measured
    show(done, f"{job}: loading")
    file = job.candidate.file
    opened = open_session(get_runtime(job.runtime.name), file.path, threads=spec.threads)
    session = opened.session
    if session is None:
        raise NotRunError(opened.words)
    assert isinstance(session, IsolatedSession)  # which every runtime of the table has
    try:
        if job.size is not None:  # before many images take more memory
            show(done, f"{job}: timing")
            measured = _measured(_time(job, job.size, spec, session), session)
        if dataset is not None:
            _answer(job, spec, dataset, record, session, show)
        if measured is None:
            measured = _measured(_recorded(record), session)
    finally:
        session.close()
    file.require_unchanged()
    record.keep(measured)
    return measured


def _measured(run_s: tuple[float, ...], session: IsolatedSession) -> Measurement:
    provenance = session.provenance()
    if provenance.fallback_nodes:
        raise NotRunError(f"fell back: {', '.join(provenance.fallback_nodes)}")
    uses = (f"{use.provider} ({use.nodes} nodes)" for use in provenance.providers)
    return Measurement(run_s, session.peak_memory_bytes(), ", ".join(uses))


def _answer(
    job: Job,
    spec: EvaluationSpec,
    dataset: Dataset,
    record: Record,
    session: IsolatedSession,
    show: Show,
) -> None:
    """Append the strongest outputs for each image that has none yet, a batch after the other."""
    done, batch = record.count(most=dataset.count), job.group(spec)
    samples = islice(dataset, done, None)
    with record.appending() as stream:
        while group := list(islice(samples, batch)):
            _answered(job, group, batch, dataset, session).tofile(stream)
            stream.flush()
            done += len(group)
            show(done, f"{job}: {done} of {dataset.count} images")


def _answered(
    job: Job, group: Sequence[Sample], batch: int, dataset: Dataset, session: IsolatedSession
) -> Rows:
    """Answer for one batch; what cannot be decoded, or is of no legal size, takes no part in it."""
    rows = np.zeros(len(group), ROW)
    rows["label"] = [sample.label for sample in group]
    rows["top"] = NoAnswer.NONE
    places, images = [], []
    for place, sample in enumerate(group):
        try:
            image = _prepared(job, sample.path)
        except ModelFileError:
            rows["top"][place, 0] = NoAnswer.BROKEN
            continue
        if job.candidate.takes(Size(*image.shape[1:])):
            places.append(place)
            images.append(image)
        else:
            rows["top"][place, 0] = NoAnswer.REFUSED
    if not images:
        return rows
    count = len(images)
    images += [images[-1]] * (batch - count)
    inputs = job.candidate.inputs
    try:
        answers = session.run({inputs.image: inputs.layout.arranged(np.stack(images))})
    except RuntimeFailedError as exc:
        if job.size is not None or isinstance(exc, NoAnswerError):
            raise
        rows["top"][places, 0] = NoAnswer.REFUSED  # the one image, by the runtime
        return rows
    scores = _scores(answers, batch, job.candidate)[:count]
    candidate = job.candidate
    output_of_class(dataset, scores.shape[1], candidate.class_names, candidate.label)
    rows["top"][places] = _strongest(scores)
    rows["run_s"][places] = session.last_run_s
    return rows


def _prepared(job: Job, path: Path) -> Array:
    """Return an image as the model takes it, (channels, height, width)."""
    inputs, how = job.candidate.inputs, job.candidate.preprocessing
    picture = read_picture(path, channels=inputs.channels)
    if job.size is not None:
        assert how.crop is not None
        assert how.interpolation is not None
        picture = fitted(
            picture, job.size, fit=job.fit, crop=how.crop, interpolation=how.interpolation
        )
    return how.applied(pixels_of(picture, channels=inputs.channels), inputs.dtype)


def _scores(answers: Mapping[str, Array], batch: int, candidate: Candidate) -> NDArray[np.float64]:
    """Return the scores (batch, classes): the first output of that rank, else the mean of a map.

    Each cell of a map (batch, classes, map_height, map_width) counts alike, as in the references
    that compose a map's answer from its windows.
    """
    floats = [array for array in answers.values() if array.dtype.kind == "f"]
    for array in floats:
        if array.ndim == 2 and len(array) == batch:
            return array.astype(np.float64)
    for array in floats:
        if array.ndim == 4 and len(array) == batch:
            is_last = candidate.classes not in (None, array.shape[1])
            axes = (1, 2) if is_last and candidate.classes == array.shape[3] else (2, 3)
            return np.asarray(array.mean(axes, dtype=np.float64))
    got = ", ".join(f"{name} {shape_text(array.shape)}" for name, array in answers.items())
    raise UnsupportedModelError(
        f"{candidate.label}: no output has scores (batch, classes) or a map of them; got {got}"
    )


def _strongest(scores: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return the strongest outputs of each image, of equal ones the first."""
    found = np.full((len(scores), TOP), NoAnswer.NONE, np.int32)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
    found[:, : order.shape[1]] = order
    is_number = ~np.isnan(scores) & (scores < np.inf)  # a LogSoftmax may well be −∞ somewhere
    found[~is_number.all(axis=1)] = NoAnswer.NONE
    found[~is_number.all(axis=1), 0] = NoAnswer.NOT_FINITE
    return found


def _time(
    job: Job, size: Size, spec: EvaluationSpec, session: IsolatedSession
) -> tuple[float, ...]:
    """Time runs of one made-up batch, as the runtime's process sees them."""
    inputs = make_inputs(Case(size, job.batch(spec)), job.candidate.inputs, _SEED)
    found: list[float] = []
    for number in range(spec.warm_up + spec.runs):
        session.run(inputs)
        if number >= spec.warm_up:
            found.append(session.last_run_s)
        if len(found) >= _LEAST_RUNS and sum(found) > _ENOUGH_S:
            break
    return tuple(found)


def _recorded(record: Record) -> tuple[float, ...]:
    """Return the seconds of the runs that images as they are took; they have many sizes."""
    times = (float(s) for block in record.blocks() for s in block["run_s"] if s > 0)
    return tuple(islice(times, _MOST_RECORDED)) or (0.0,)
