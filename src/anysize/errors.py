"""Every error that anysize raises on purpose, each tied to the exit code of the command line."""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AnysizeError",
    "DeclinedError",
    "ExportError",
    "MapSizeError",
    "ModelFileError",
    "NoAnswerError",
    "NotRunError",
    "RuntimeFailedError",
    "SourceError",
    "UnsupportedModelError",
    "UsageError",
    "VerificationError",
    "WeightsError",
    "WorkerCrashedError",
    "WorkerTimeoutError",
]

_LONGEST = 2000


class AnysizeError(Exception):
    """Something that the user can act on; its message is one line: what, got and expected, way out.

    Attributes:
        exit_code: What the command line exits with: 1 a comparison failed, 2 the input cannot
            be used, 3 something asked for did not run.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str = "") -> None:
        if len(message) > _LONGEST:  # a hostile file has names of megabytes
            message = f"{message[: _LONGEST // 2]} … {message[-_LONGEST // 2 :]}"
        super().__init__(message)


class UsageError(AnysizeError):
    """An argument is malformed or contradicts another one."""


class MapSizeError(UsageError, ValueError):
    """A head cannot take a feature map of this size; PyTorch raises a ValueError for the like."""


class SourceError(AnysizeError):
    """A SOURCE names no model that can be built."""


class WeightsError(AnysizeError):
    """A weights file cannot be read safely, or does not fit the model."""


class ModelFileError(AnysizeError):
    """An ONNX file is unreadable, invalid or unsafe."""


class UnsupportedModelError(AnysizeError):
    """A valid model has a form that anysize does not handle."""


class DeclinedError(UnsupportedModelError):
    """A rewrite would have to guess, and declines.

    Attributes:
        node: Name of the node that stands in the way, or "" where it is the whole graph.
    """

    def __init__(self, message: str, *, node: str = "") -> None:
        super().__init__(message)
        self.node = node


class ExportError(AnysizeError):
    """A module cannot be exported as a graph that is right at every legal size."""


class VerificationError(AnysizeError):
    """A file that was just written does not compute what its original computes."""

    exit_code = 1


class NotRunError(AnysizeError):
    """Something asked for did not run: a runtime is missing, crashed, or fell back."""

    exit_code = 3


class RuntimeFailedError(NotRunError):
    """A runtime in a worker process raised an exception; the message is its own words."""


class NoAnswerError(RuntimeFailedError):
    """A runtime ran out of memory or answered with no numbers: no way to refuse an input."""


class WorkerCrashedError(NotRunError):
    """The worker process of a runtime ended while it had something to do."""


class WorkerTimeoutError(NotRunError):
    """The worker process of a runtime did not answer within its time."""
