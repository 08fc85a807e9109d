"""Runtimes in a process of their own, so that whatever they do ends in a verdict."""

from __future__ import annotations

from anysize.validators.worker.isolated import IsolatedRuntime, IsolatedSession
from anysize.validators.worker.process import Limits, Worker

__all__ = ["IsolatedRuntime", "IsolatedSession", "Limits", "Worker"]
