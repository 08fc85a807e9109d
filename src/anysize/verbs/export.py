"""Export a classifier with dynamic batch, height and width, and prove the file right."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from anysize.errors import UsageError
from anysize.files import check_output_path
from anysize.heads import Output
from anysize.preprocessing import Preprocessing
from anysize.sizes import AnySize, Size, SizeRange
from anysize.sources import is_of_zoo
from anysize.verbs.export_head import conversion
from anysize.verbs.export_writing import ExportResult, write_proved
from anysize.verbs.progress import Progress, silent
from anysize.verbs.verification import Verify, to_verify

if TYPE_CHECKING:
    from torch import Tensor, nn

    from anysize.exporters import InputSpec
    from anysize.models import HeadOptions, ResolvedModel

__all__ = ["export", "head_options", "input_shapes"]

_DEFAULT_SIZE = Size(224, 224)


def export(
    source: str | nn.Module,
    out: Path | str,
    *,
    head: str | None = None,
    output: Output | None = None,
    weights: Path | str | None = None,
    model_args: Mapping[str, object] | None = None,
    size: AnySize | None = None,
    min_size: AnySize | None = None,
    max_size: AnySize | None = None,
    dynamic: Sequence[str] | None = None,
    opset: int = 18,
    half: bool = False,
    seed: int = 0,
    external_data: Literal["auto", "always", "never"] = "auto",
    verify: Verify | bool = "quick",
    options: HeadOptions | None = None,
    inputs: Mapping[str, Sequence[int | str]] | None = None,
    example_inputs: Sequence[Tensor] | Mapping[str, Tensor] | None = None,
    image: str | None = None,
    input_names: Sequence[str] = (),
    output_names: Sequence[str] = (),
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] | None = None,
    progress: Progress = silent,
) -> ExportResult:
    """Export a model to an ONNX file whose batch, height and width are symbolic.

    Args:
        source: A SOURCE (zoo name, `torchvision:NAME`, `timm:NAME`, `package.module:NAME`,
            `file.py:NAME`) or a module in evaluation mode that maps images (batch, channels,
            height, width) to logits; one that takes regions of them, too, says so by an attribute
            `input_names` of ("input", "rois").
        out: The file to write; it appears whole or not at all.
        head: For a zoo name, the head to build. Otherwise `as-is`, or None for the same, or the
            head to convert the module to, as `anysize rewrite` does: `fcn`, `cam`, `adaptive`,
            `resize`.
        output: What an `fcn` or `cam` head hands out: the class `map`, `logits`, the mean of its
            cells, or `both`; what the head does by default.
        weights: A checkpoint: safetensors, or a torch file that holds only tensors.
        model_args: What the callable or the library builds the network with, such as
            `{"num_classes": 12}`.
        size: The training size.
        min_size: The smallest image that the file shall take; it fails below. The network's own
            smallest by default, which is computed.
        max_size: The largest image that the file shall take; it fails above. None by default,
            unless the head has a largest of its own.
        dynamic: The axes of the image that shall be free: `batch`, `height`, `width`; all that can
            be, by default. One that is not asked for has the length of the training size, and the
            batch is 1; one that is asked for and cannot be free is refused.
        opset: ONNX operator set to write, 13 to 24.
        half: Write weights and body in float16; inputs and outputs stay float32.
        seed: Seeds random weights.
        external_data: Whether weights lie beside the file: `auto` does so above 2 GB.
        verify: Compare the file with the eager module on ONNX Runtime's CPU provider, before it
            appears: `full`, at the sizes `auto`, for one and two images; `quick`, at the same kinds
            of sizes, fewer and smaller ones of them where the network is heavy; or `off`.
        options: For a zoo name, choices within the head, such as the levels of a pyramid.
        inputs: The module's arguments beside the image: name → axes without the batch, which are
            numbers, `height` or `width`.
        example_inputs: Tensors with the image among them instead, by position or by name; one with
            the image's height and width follows them. The image's size is the training size.
        image: The argument that is the image; the first one that is not in `inputs`, by default.
        input_names: What the file calls its inputs, in order; `input` and the module's own names
            for others by default.
        output_names: What it calls its outputs.
        preprocessing: How images are prepared for it, recorded in the file; what is not said is
            taken from timm's or torchvision's configuration of the network.
        class_names: Names of the classes, in order, recorded likewise.
        progress: Told how far it is.

    Raises:
        AnysizeError: A subclass says what cannot be used.
        VerificationError: The file does not compute what the module computes; it is not written.
    """
    from anysize.exporters import asked_axes, check_opset, narrowed
    from anysize.models import choose_head

    out, verify = Path(out), to_verify(verify)
    size, low, top = (
        None if side is None else Size.of(side) for side in (size, min_size, max_size)
    )
    check_output_path(out, inputs=() if weights is None else (Path(weights),))
    check_opset(opset)
    axes = asked_axes(dynamic)
    narrowed(SizeRange(Size(1, 1)), low, top)  # whatever the network takes
    if isinstance(source, str) and is_of_zoo(source):
        head = choose_head(source, head)
    head, to = conversion(source, head, output)
    # What can be refused without torch, which takes seconds to load, has been by now.
    from anysize.exporters import ExportSpec, described
    from anysize.exporters import output_names as names_of_outputs
    from anysize.models import state_sha256
    from anysize.surgery import MODULE_OBJECT, staged_model
    from anysize.validators.references import own_output_names

    with staged_model(out) as staged:
        progress(0, 2, "building the model")
        model = _resolve(
            source,
            head=head,
            weights=weights,
            size=size,
            seed=seed,
            options=options,
            arguments=model_args or {},
        )
        if example_inputs is not None:
            inputs, image, own = described(example_inputs, model.module, image)
            model = replace(model, training_size=size or own)
        progress(1, 2, f"tracing {model.name}")
        extra = _extra_inputs(model.module, inputs or {}, image)
        channels = _image_channels(model, extra)
        if extra and to is not None:
            raise UsageError(
                f"head {to}: converts modules that take an image alone, and this one takes "
                f"{', '.join(one.name for one in extra)}, too; leave --head out"
            )
        spec = ExportSpec(
            name=model.name,
            head=model.head,
            channels=channels,
            classes=model.classes,
            size=model.training_size,
            to=to,
            output=output or "map",
            file_inputs=tuple(input_names),
            file_outputs=tuple(output_names),
            output_names=own_output_names(model.module)
            or names_of_outputs(
                model.module, channels=channels, size=model.training_size, extra_inputs=extra
            ),
            opset=opset,
            dynamic=axes,
            float16=half,
            min_size=low,
            max_size=top,
            seed=model.seed,
            weights_sha256=model.weights_sha256,
            state_sha256=state_sha256(model.module),
            source=None if isinstance(source, str) else MODULE_OBJECT,
            options=model.options.to_json() if model.options else None,
            model_args=json.dumps(model_args) if model_args else None,
            extra_inputs=extra,
        )
        return write_proved(
            model,
            spec,
            out,
            staged,
            external_data=external_data,
            verify=verify,
            preprocessing=preprocessing or Preprocessing(),
            class_names=class_names,
            progress=progress,
        )


def head_options(**choices: object) -> HeadOptions | None:
    """Gather the choices within a zoo head that were made, by name; None where none was."""
    made = {name: choice for name, choice in choices.items() if choice is not None}
    if not made:
        return None
    from anysize.models import HeadOptions

    return HeadOptions(**made)  # type: ignore[arg-type]  # each by the name of its field


def input_shapes(texts: Sequence[str]) -> dict[str, tuple[int | str, ...]]:
    """Read inputs as the command line has them, `facts:4`; see `anysize.exporters.input_shape`."""
    if not texts:
        return {}
    from anysize.exporters import input_shape

    return dict(input_shape(text) for text in texts)


def _resolve(
    source: str | nn.Module,
    *,
    head: str | None,
    weights: Path | str | None,
    size: Size | None,
    seed: int,
    options: HeadOptions | None,
    arguments: Mapping[str, object],
) -> ResolvedModel:
    from anysize.models import (
        Classifier,
        ResolvedModel,
        configured_preprocessing,
        image_channels,
        resolve,
    )
    from anysize.validators.references import own_training_size

    if isinstance(source, str):
        path = None if weights is None else Path(weights)
        return resolve(
            source,
            head=head,
            size=size,
            seed=seed,
            weights=path,
            options=options,
            arguments=arguments,
        )
    if options is not None:
        raise UsageError("options: are choices within a zoo head; leave them out for a module")
    if arguments:
        raise UsageError("model_args: are for a SOURCE; a module is made already")
    if weights is not None:
        raise UsageError("weights: load them into the module before you export it")
    classes = getattr(source, "classes", None)
    return ResolvedModel(
        module=source,
        name=f"{type(source).__module__}:{type(source).__qualname__}",
        # A user's network may well have a layer of this name.
        head=source.head if isinstance(source, Classifier) else None,
        channels=image_channels(source),
        classes=classes if isinstance(classes, int) else None,
        training_size=size or own_training_size(source) or _DEFAULT_SIZE,
        seed=seed,
        weights_sha256=None,
        preprocessing=configured_preprocessing(source),
    )


def _image_channels(model: ResolvedModel, extra_inputs: tuple[InputSpec, ...]) -> int:
    from anysize.exporters import image_channels, refuse_other_sides

    channels = model.channels
    if not isinstance(getattr(model.module, "channels", None), int):
        size = model.training_size
        channels = image_channels(model.module, channels, size=size, extra_inputs=extra_inputs)
    if channels is None:
        refuse_other_sides(model.module)
        raise UsageError(
            f"{type(model.module).__name__}: has no Conv2d, so its channels are not known; give "
            "the module an attribute `channels`"
        )
    return channels


def _extra_inputs(
    module: nn.Module, given: Mapping[str, Sequence[int | str]], image: str | None
) -> tuple[InputSpec, ...]:
    from anysize.exporters import ROIS, named_inputs

    names = getattr(module, "input_names", ("input",))
    if isinstance(names, tuple) and names[1:] == (ROIS.name,) and not given:
        return (ROIS,)
    return named_inputs(module, {name: tuple(axes) for name, axes in given.items()}, image)
