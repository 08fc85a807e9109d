"""Runtimes that make something else of a twin, or of a sabotage, than the others do."""

from __future__ import annotations

from sabotage.entry import Elsewhere, everywhere

from anysize.validators import Verdict

__all__ = ["ENTRIES", "TWINS_UNFIT"]

_NO_FLOAT16 = Elsewhere((Verdict.PASS,), "it computes in float32 what stands between two Casts")
_UNCHECKED = Elsewhere((Verdict.PASS,), "it does not check the declared axes of its input")
_PANICS = Elsewhere((Verdict.CRASHED,), "max pooling of a map without rows: a panic, then SIGABRT")

_REFUSES = Elsewhere(
    (Verdict.REJECTED,), "its max pooling refuses a map smaller than its window, guard or no guard"
)

_GELU = Elsewhere(
    (Verdict.CRASHED,), "OpenCV 5.0, of a GELU as x · (½ · (1 + erf)): SIGSEGV while loading"
)

# By runtime and twin: a twin that is not green there serves no sabotage.
TWINS_UNFIT: dict[tuple[str, str], Elsewhere] = {
    ("onnx-reference", "response"): Elsewhere(
        (Verdict.MISMATCH,),
        "onnx 1.23: its LRN goes over as many channels as the batch has items, and leaves the "
        "others as they are",
    ),
    ("iree", "response"): Elsewhere(
        (Verdict.UNSUPPORTED,), "IREE 3.13, of a convolution: 'expected sizes to be non-negative'"
    ),
    ("mnn", "labels"): Elsewhere((Verdict.SHAPE,), "MNN 3.6: ArgMax gives int32"),
    **{("opencv", twin): _GELU for twin in ("photo", "response", "masked", "labels")},
    ("tract", "lenet-fc"): Elsewhere(
        (Verdict.UNSUPPORTED,), "Flatten: 'Can not compute a shape with square of symbols'"
    ),
}

# By runtime and name of the entry.
ENTRIES: dict[tuple[str, str], Elsewhere] = {
    ("openvino", "float16 inside"): _NO_FLOAT16,
    ("mnn", "float16 inside"): _NO_FLOAT16,
    ("onnx-reference", "fixed size"): _UNCHECKED,
    ("mnn", "fixed size"): _UNCHECKED,
    ("opencv", "fixed size"): _UNCHECKED,
    ("mnn", "float64 output"): Elsewhere((Verdict.PASS,), "it gives float32 whatever is declared"),
    ("mnn", "local average"): Elsewhere(
        (Verdict.CRASHED,), "it divides by zero where a pooling has no strides", everywhere
    ),
    ("openvino", "specialised average pooling"): Elsewhere(
        (Verdict.ERROR, Verdict.MISMATCH, Verdict.PASS),
        "it fails where the sides of two matrices do not fit, and then at legal sizes, too",
        everywhere,
    ),
    ("openvino", "no size guard"): _REFUSES,
    ("openvino", "guard off by one"): _REFUSES,
    ("tract", "specialised average pooling"): Elsewhere(
        (Verdict.MISMATCH,), "it multiplies matrices whose sides do not fit"
    ),
    ("tract", "ignored corner"): Elsewhere(
        (Verdict.UNSUPPORTED,), "Pad by a computed number of rows: 'Undetermined symbol'"
    ),
    ("tract", "local average"): Elsewhere(
        (Verdict.UNSUPPORTED,),
        "Flatten: 'Can not compute a shape with square of symbols'",
        everywhere,
    ),
    ("tract", "reversed batch"): Elsewhere(
        (Verdict.UNSUPPORTED,), "'Streaming dimensions with strides are not supported'", everywhere
    ),
    ("tract", "space folded into batch"): Elsewhere(
        (Verdict.UNSUPPORTED,), "Reshape of a map with symbolic sides", everywhere
    ),
    ("tract", "no size guard"): _PANICS,
    ("tract", "guard off by one"): _PANICS,
    ("tract", "too few sizes declared"): Elsewhere(
        (Verdict.UNSUPPORTED,),
        "Expand to what a table gives: 'shape input is variable'",
        everywhere,
    ),
    ("tract", "NaN at one size"): Elsewhere(
        (Verdict.PASS,), "it takes a symbolic height for unequal to every number, before it runs"
    ),
    ("iree", "local average"): Elsewhere(
        (Verdict.UNSUPPORTED,), "'operand and result must have the same size and dtype'", everywhere
    ),
    ("iree", "a class left out"): Elsewhere(
        (Verdict.UNSUPPORTED,), "'exceeded stack allocation limit'", everywhere
    ),
    ("iree", "float64 output"): Elsewhere(
        (Verdict.ERROR,), "the buffer is half as long as its view"
    ),
    ("iree", "space folded into batch"): Elsewhere(
        (Verdict.MISMATCH,), "Reshape to [-1, K] keeps the batch and reads a part of the map"
    ),
}
