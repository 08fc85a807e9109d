"""What a module is exported as: one record, from the verb to the trace."""

from __future__ import annotations

from dataclasses import dataclass

from anysize.exporters.inputs import InputSpec
from anysize.exporters.opset_range import DEFAULT_OPSET
from anysize.heads import Output
from anysize.sizes import AXES, Size

__all__ = ["ExportSpec"]


@dataclass(frozen=True, slots=True)
class ExportSpec:
    """What to export a module as.

    Attributes:
        name: The source's name, for the file's metadata.
        head: The head as the zoo calls it; None for a module that is exported as it stands.
        to: The head to convert it to, with the surgery that rewrites a file; None for none.
        output: What it shall hand out then, as `surgery.rewrite` takes it.
        channels: Channels of the image.
        classes: Number of classes; None where it is not known.
        size: The training size.
        output_names: Names of the module's outputs, in order.
        file_inputs: What the file shall call its inputs; as the module does, if left out.
        file_outputs: The same of its outputs.
        extra_inputs: The module's arguments behind the image, in order.
        opset: ONNX operator set to write.
        min_size: The smallest image that the file shall take; the network's own by default.
        max_size: The largest; the network's own, or none, by default.
        with_symbols: Trace with symbols for the axes at once, and not at two sizes first.
        dynamic: The axes of the image that shall be free; None for all that can be.
        float16: Write weights and body in float16; inputs and outputs stay float32.
        seed: What the weights were drawn from; None where they were not drawn.
        weights_sha256: Hash of the weights file.
        state_sha256: Hash of the weights themselves.
        source: `surgery.MODULE_OBJECT` where no SOURCE named the module.
        options: Choices within the head, as JSON.
        model_args: What the source was called with, as JSON.
    """

    name: str
    head: str | None
    channels: int
    classes: int | None
    size: Size
    to: str | None = None
    output: Output = "map"
    output_names: tuple[str, ...] = ("logits",)
    file_inputs: tuple[str, ...] = ()
    file_outputs: tuple[str, ...] = ()
    extra_inputs: tuple[InputSpec, ...] = ()
    opset: int = DEFAULT_OPSET
    min_size: Size | None = None
    max_size: Size | None = None
    with_symbols: bool = False
    dynamic: frozenset[str] | None = None
    float16: bool = False
    seed: int | None = None
    weights_sha256: str | None = None
    state_sha256: str | None = None
    source: str | None = None
    options: str | None = None
    model_args: str | None = None

    @property
    def axes(self) -> frozenset[str]:
        """The axes of the image that shall be free, if they can be."""
        return frozenset(AXES) if self.dynamic is None else self.dynamic
