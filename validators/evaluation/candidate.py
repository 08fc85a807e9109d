"""A file that is evaluated, and what is known of it before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anysize.class_names import check_class_names
from anysize.errors import UnsupportedModelError
from anysize.preprocessing import Preprocessing
from anysize.sizes import Size, SizeRange
from anysize.validators.evaluation.evaluation import ModelFacts
from anysize.validators.inputs import GraphInputs, graph_inputs
from anysize.validators.run import FileUnderTest

__all__ = ["Candidate"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file, its images and its classes.

    Attributes:
        model: What the user named.
        file: The file, read once.
        inputs: What it takes.
        preprocessing: All of it.
        preprocessing_from: Who said so: `flags`, `file`, or `assumed`.
        class_names: Names of its classes, in order; None where nobody says.
        training: The size that it was made for; None where it does not say.
        legal: The sizes that it takes; None where it does not say.
        batch: Images in a run, where the file fixes it; 0 where it does not.
    """

    model: str
    file: FileUnderTest
    inputs: GraphInputs
    preprocessing: Preprocessing
    preprocessing_from: str
    class_names: tuple[str, ...] | None
    training: Size | None
    legal: SizeRange | None
    batch: int

    @classmethod
    def read(
        cls,
        path: Path,
        model: str,
        *,
        preprocessing: Preprocessing,
        class_names: Sequence[str] | None = None,
    ) -> Candidate:
        """Read a file.

        Args:
            path: The file.
            model: What the user named.
            preprocessing: What the user said of it, which goes before what the file says.
            class_names: Names of the classes, likewise.

        Raises:
            AnysizeError: A subclass says why it cannot be evaluated.
        """
        from anysize.surgery import image_input, static_size, trained_size
        from anysize.surgery.shapes import refuse_oversized

        file = FileUnderTest.read(path)
        refuse_oversized(file.model, path)
        inputs = graph_inputs(file.model, seed=0)
        for other in inputs.others:
            if other.unknown:
                raise UnsupportedModelError(f"{path}: input {other.name!r}: {other.unknown}")
        prepared, who = Preprocessing.chosen(
            preprocessing,
            file.metadata.preprocessing,
            inputs.channels,
            takes_bytes=inputs.dtype == "uint8",
        )
        names = file.metadata.class_names if class_names is None else tuple(class_names)
        fixed = static_size(file.model)
        shape = image_input(file.model).type.tensor_type.shape
        return cls(
            model=model,
            file=file,
            inputs=inputs,
            preprocessing=prepared,
            preprocessing_from=who,
            class_names=None if names is None else check_class_names(names),
            training=trained_size(file.model),
            legal=SizeRange(fixed, fixed) if fixed else file.declared,
            batch=max(shape.dim[inputs.layout.batch].dim_value, 0),
        )

    @property
    def head(self) -> str:
        """The head that the file records; "" where it records none."""
        return self.file.metadata.head or ""

    @property
    def classes(self) -> int | None:
        """How many classes it has; None where nobody says."""
        return len(self.class_names) if self.class_names else self.file.metadata.classes

    @property
    def label(self) -> str:
        """What it is called among the others."""
        return f"{self.model} {self.head}".strip()

    def takes(self, size: Size) -> bool:
        """Whether it takes images of a size, as far as it says."""
        return self.legal is None or size in self.legal

    def facts(self) -> ModelFacts:
        """Describe it in a result."""
        return ModelFacts(
            model=self.model,
            head=self.head,
            sha256=self.file.sha256,
            sizes="" if self.legal is None else str(self.legal),
            preprocessing=str(self.preprocessing),
            preprocessing_from=self.preprocessing_from,
        )
