"""Export a module as a graph that is right at every legal size, or say which layer prevents it."""

from __future__ import annotations
