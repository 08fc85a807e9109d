"""The options that say how images are prepared, and what the classes are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from anysize.class_names import read_class_names
from anysize.preprocessing import Preprocessing, preprocessing_of_texts

__all__ = ["Preparation", "WholePreparation"]

_PANEL: Final = "How images are prepared"


@dataclass(frozen=True, slots=True)
class WholePreparation:
    """How images are prepared that are taken whole."""

    mean: Annotated[
        str | None,
        typer.Option(
            metavar="M,M,…",
            help="What the network's images have taken off, a number or one for each channel; of "
            "values that --scale has scaled.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    std: Annotated[
        str | None,
        typer.Option(
            metavar="S,S,…",
            help="What they are divided by then, likewise.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    scale: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER",
            help="What values from 0 to 255 are multiplied by: 1/255, or 1.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    bgr: Annotated[
        bool,
        typer.Option(
            "--bgr", help="The network takes blue first, not red.", rich_help_panel=_PANEL
        ),
    ] = False
    classes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Names of the classes, one a line, in the order of the outputs.",
            rich_help_panel=_PANEL,
        ),
    ] = None

    @property
    def preprocessing(self) -> Preprocessing:
        """Return what is said of the images."""
        return preprocessing_of_texts(
            mean=self.mean,
            std=self.std,
            scale=self.scale,
            bgr=self.bgr,
            crop=getattr(self, "crop", None),
        )

    @property
    def class_names(self) -> Sequence[str] | None:
        """Return what the file of names says; None without one."""
        return read_class_names(self.classes) if self.classes else None


@dataclass(frozen=True, slots=True)
class Preparation(WholePreparation):
    """How images are prepared that may be cropped."""

    crop: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="The part of an image that is kept where it is cropped, 0 to 1.",
            rich_help_panel=_PANEL,
        ),
    ] = None
