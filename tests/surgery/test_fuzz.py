"""Mutated models are rewritten right or refused in one line: no crash, no hang, no other error."""

from __future__ import annotations

import faulthandler
import random
import time

import numpy as np
import onnx
import pytest

import anysize
from anysize.errors import AnysizeError
from anysize.surgery import TARGETS

NUMBERS = (0, -1, 1, 2, 3, 7, 255, 65536, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))
WORDS = ("", "\0", "a\nb\x1b[31m", "x" * 70000, "../../etc/passwd", "Conv", "Loop", "ünï")
BOUND_S = 10.0


def models(kit):
    """Small valid classifiers, each with something else that a reader can stumble over."""
    fc = {"w1": (16, kit.FLAT), "b1": (16,), "w2": (5, 16), "b2": (5,)}
    yield kit.plain()
    yield kit.fc(
        """sides = Shape (fmap) batch = Gather (sides, zero) one = Unsqueeze (batch, zeros)
           target = Concat <axis = 0> (one, rest) flat = Reshape (fmap, target)
           hidden = MatMul (flat, w) biased = Add (hidden, b)
           scores = Softmax <axis = 1> (biased)""",
        {"w": (kit.FLAT, 5), "b": (5,)},
        constants={"zero": 0, "zeros": [0], "rest": [-1]},
        image="n, 3, 32, 32",
        outputs="float[n, 5] scores",
    )
    yield kit.fc(
        """flat = Reshape (fmap, target) hidden = Gemm <transB = 1, alpha = 0.5> (flat, w1, b1)
           normal = BatchNormalization (hidden, s, b, mean, var) warm = Relu (normal)
           kept, mask = Dropout (warm) scores = Gemm <transB = 1> (kept, w2, b2)""",
        {**fc, "s": (16,), "b": (16,), "mean": (16,), "var": (16,)},
        constants={"target": [1, kit.FLAT]},
    )
    yield kit.fc(
        """flat = Flatten (fmap) hidden = Gemm <transB = 1> (flat, w1, b1)
           norm = ReduceL2 <axes = [1]> (hidden) sides = Shape (hidden)
           wide = Expand (norm, sides) unit = Div (hidden, wide)
           left, right = Split <axis = 1> (unit) best = Max (left, right)
           some = Slice (unit, begin, end, one) parts = Concat <axis = 1> (some, best)
           row = LayerNormalization (parts, s, s) scores = Gemm <transB = 1> (row, w2, b2)""",
        {"w1": (16, kit.FLAT), "b1": (16,), "s": (13,), "w2": (5, 13), "b2": (5,)},
        constants={"begin": [3], "end": [8], "one": [1]},
    )
    yield kit.fc(
        """halves = LRN <size = 3> (fmap) left, right = Split <axis = 1> (halves)
           both = Concat <axis = 1> (right, left) pooled = GlobalAveragePool (both)
           flat = Flatten (pooled) scores = Gemm <transB = 1> (flat, w, b)""",
        {"w": (5, 4), "b": (5,)},
    )
    yield kit.fc(
        """groups = Reshape (fmap, shuffle) turned = Transpose <perm = [0, 2, 1, 3, 4]> (groups)
           mixed = Reshape (turned, back) padded = Pad (mixed, pads)
           pool = AveragePool <kernel_shape = [8, 8]> (padded)
           flat = Squeeze (pool, axes) scores = Gemm <transB = 1> (flat, w, b)""",
        {"w": (5, 4), "b": (5,)},
        constants={
            "shuffle": [1, 2, 2, 8, 8], "back": [1, 4, 8, 8], "pads": [0] * 8, "axes": [2, 3],
        },
    )  # fmt: skip


def messages(message):
    """Yield a message and all within it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if field.is_repeated else (value,):
                yield from messages(inner)


def mutate(model, rng):
    """Change one to three things in a model: fields deleted, doubled, swapped, overwritten."""
    names = [name for node in model.graph.node for name in (*node.input, *node.output)]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        message = rng.choice(list(messages(model)))
        fields = message.ListFields()
        if not fields:
            continue
        field, value = rng.choice(fields)
        number = rng.choice(NUMBERS) if rng.random() < 0.5 else rng.randint(-9, 99)
        word = rng.choice(WORDS) if rng.random() < 0.3 else rng.choice(names)
        action = rng.randrange(4)
        if action == 0:
            message.ClearField(field.name)
        elif field.is_repeated and action == 1:
            place = rng.randrange(len(value))
            del value[place]
        elif field.is_repeated and action == 2 and field.message_type is not None:
            value.add().CopyFrom(rng.choice(value))
        elif field.is_repeated and field.message_type is None:
            overwrite(value, rng.randrange(len(value)), field, number, word)
        elif field.is_repeated:
            first, second = rng.randrange(len(value)), rng.randrange(len(value))
            kept = type(value[first])()
            kept.CopyFrom(value[first])
            value[first].CopyFrom(value[second])
            value[second].CopyFrom(kept)
        elif field.message_type is None:
            overwrite(message, field.name, field, number, word)
    return model.SerializeToString()


def overwrite(owner, key, field, number, word):
    """Set a scalar to a number or a word, whichever it takes."""
    value = {
        field.CPPTYPE_STRING: word.encode() if field.type == field.TYPE_BYTES else word,
        field.CPPTYPE_FLOAT: float(number),
        field.CPPTYPE_DOUBLE: float(number),
        field.CPPTYPE_ENUM: number % 30,
        field.CPPTYPE_INT32: max(-(2**31), min(number, 2**31 - 1)),
        field.CPPTYPE_UINT64: abs(number),
    }.get(field.cpp_type, number)
    try:
        if isinstance(key, str):
            setattr(owner, key, value)
        else:
            owner[key] = value
    except ValueError:  # an enumeration that has no such number
        pass


def scramble(data, rng):
    """Change bytes: overwritten, cut off, left out, doubled."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        if not data:
            break
        place = rng.randrange(min(len(data), 1500))
        action = rng.randrange(8)
        if action < 5:
            data[place] = rng.randrange(256)
        elif action == 5:
            del data[place : place + rng.randint(1, 30)]
        elif action == 6:
            data[place:place] = data[place : place + rng.randint(1, 30)]
        else:
            del data[rng.randrange(len(data)) + 1 :]
    return bytes(data)


def run(model, image):
    """Run a model, as far as ONNX Runtime takes it; None where it does not."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        name = session.get_inputs()[0].name
        return session.run(None, {name: image})
    except Exception:
        return None


def attack(path, out, rng):
    """Inspect and rewrite one file; return whether it was rewritten. All else is an error."""
    before = path.read_bytes()
    start = time.perf_counter()
    is_applied, message = False, ""
    try:
        anysize.inspect(path)
        target = rng.choice(list(TARGETS))
        kind = rng.choice(["map", "logits"])
        is_applied = anysize.rewrite(path, out, to=target, output=kind, verify=False).applied
    except AnysizeError as error:
        message = str(error)
    assert time.perf_counter() - start < BOUND_S
    assert path.read_bytes() == before
    if message:
        assert len(message.splitlines()) == 1
        assert len(message) < 3000
        assert not out.exists()
    if is_applied:
        assert_equal_where_it_runs(onnx.load(path), onnx.load(out))
    out.unlink(missing_ok=True)
    return is_applied


def assert_equal_where_it_runs(original, rewritten):
    onnx.checker.check_model(rewritten, full_check=True)
    image = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    expected = run(original, image)
    if expected is None:
        return
    got = run(rewritten, image)
    assert got is not None
    for one, other in zip(expected, got, strict=False):
        scale = max(1.0, float(np.abs(one[np.isfinite(one)]).max(initial=0)))
        assert np.allclose(one.ravel(), other.ravel(), atol=1e-5 * scale, equal_nan=True)


def fuzz(kit, folder, seeds):
    """Attack with each seed; returns how many files were rewritten all the same."""
    originals = [model.SerializeToString() for model in models(kit)]
    path, out = folder / "in.onnx", folder / "out.onnx"
    rewritten = 0
    for seed in seeds:
        rng = random.Random(seed)
        data = rng.choice(originals)
        if rng.random() < 0.3:
            data = scramble(data, rng)
        else:
            data = mutate(onnx.ModelProto.FromString(data), rng)
        path.write_bytes(data)
        try:
            rewritten += attack(path, out, rng)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    return rewritten


def test_the_models_are_rewritten_before_they_are_mutated(kit, tmp_path):
    path, out = tmp_path / "in.onnx", tmp_path / "out.onnx"
    rewritten = 0
    for model in models(kit):
        onnx.save(model, path)
        rewritten += any(is_rewritten(path, out, target) for target in TARGETS)
    assert rewritten >= 4


def is_rewritten(path, out, target):
    try:
        return anysize.rewrite(path, out, to=target, verify=False).applied
    except AnysizeError:
        return False


def test_mutated_models_are_rewritten_right_or_refused(kit, tmp_path):
    assert fuzz(kit, tmp_path, range(150)) > 5


@pytest.mark.slow
def test_many_mutated_models_are_rewritten_right_or_refused(kit, tmp_path):
    faulthandler.dump_traceback_later(900, exit=True)
    assert fuzz(kit, tmp_path, range(1000, 7000)) > 200  # the others are refused
    faulthandler.cancel_dump_traceback_later()
