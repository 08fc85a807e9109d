"""A quantised file is held to what it means, and that to its original but for what it costs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from quantised_digits import changed, digits, quantise, scans

from anysize.sizes import Size
from anysize.validators import Report, Verdict, validate_model
from anysize.validators.inputs import make_inputs
from anysize.validators.judging import PROFILES, QUANTISED
from anysize.validators.references import Perturbed
from anysize.validators.references.graph import GraphPair, OnnxReference, dithered, is_quantised
from anysize.validators.runtimes import Availability, Provenance

SCANS = 32
KINDS = {"each": {}, "channels": {"per_channel": True}, "bytes": {"activation_type": "QUInt8"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("quantised")


@pytest.fixture(params=KINDS)
def pair(folder, request):
    """A quantised head that takes any size, and its original."""
    return quantised(folder, "gap", request.param), digits(folder, "gap")


@pytest.fixture
def fc(folder):
    return quantised(folder, "fc", "channels"), digits(folder, "fc")


def quantised(folder, head, kind):
    from onnxruntime.quantization import QuantType

    path = folder / f"{head}-{kind}.onnx"
    options = dict(KINDS[kind])
    if "activation_type" in options:
        options["activation_type"] = QuantType[options["activation_type"]]
    return path if path.exists() else quantise(digits(folder, head), path, **options)


def on_scans(path, original, **options):
    return validate_model(path, original, inputs={"input": scans()[:SCANS]}, **options)


def verdicts(report):
    return {cell.verdict for cell in report.cells}


def test_right_files_pass_on_made_images_of_many_sizes(pair):
    report = validate_model(*pair, sizes=[Size(20, 20), Size(32, 32), Size(37, 41), Size(64, 50)])
    assert verdicts(report) == {Verdict.PASS}
    assert {runtime.profile for runtime in report.runtimes} == {QUANTISED}
    assert report.reference.kind == QUANTISED
    assert {one.verdict for one in report.quantisation} == {Verdict.PASS}
    assert len(report.quantisation) == len(report.cells)


def test_the_loss_is_told_beside_the_verdict_with_agreement_over_real_images(fc):
    report = on_scans(*fc)
    (cost,), (cell,) = report.quantisation, report.cells
    (output,), (own,) = cost.outputs, cell.outputs
    assert (cell.verdict, cost.batch) == (Verdict.PASS, SCANS)
    assert output.top1_agreement == 1.0
    # Eight bits cost some percent; a runtime is held to far less.
    assert 1e-3 < output.deviation.error < output.deviation.budget < 0.1
    assert own.deviation.budget < output.deviation.error / 100
    (note,) = (one for one in report.notes if one.startswith("quantised: "))
    assert note.endswith("its strongest class is the same for 100.0%")
    assert Report.from_json(report.to_json()) == report


def test_a_right_file_is_far_from_the_limit(pair, fc):
    for path, original in (pair, fc):
        (cost,) = on_scans(path, original).quantisation
        assert cost.outputs[0].deviation.ratio < 0.5


SABOTAGE = {
    "a scale is a tenth larger": ("classifier.0.weight_scale", lambda scale: scale * 1.1),
    "the first scale is a tenth larger": ("features.0.weight_scale", lambda scale: scale * 1.1),
    "the zero point is three off": ("features.7.weight_zero_point", lambda zero: zero + 3),
    "a scale is zero": ("features.5.weight_scale", np.zeros_like),
    "one channel's scale is zero": (
        "features.0.weight_scale",
        lambda scale: np.where(np.arange(len(scale)) == 1, 0, scale),
    ),
}


@pytest.mark.parametrize("name", SABOTAGE)
def test_a_file_that_means_something_else_than_its_original_is_red(fc, tmp_path, name):
    path, original = fc
    report = on_scans(changed(path, tmp_path / "wrong.onnx", *SABOTAGE[name]), original)
    (cell,) = report.cells
    assert cell.verdict is Verdict.MISMATCH
    assert cell.message.startswith("it computes what the quantised file says, and that is not its")
    assert cell.ratio > 1


@pytest.mark.parametrize("factor", [1.1, 0.9], ids=["scale-larger", "scale-smaller"])
def test_a_scale_that_only_one_side_of_a_rounding_has_is_red(fc, tmp_path, factor):
    """Activations come back a tenth larger or smaller than they were rounded."""
    path, original = fc
    model = onnx.load(path)
    (node,) = (n for n in model.graph.node if n.output[0] == "features.6_DequantizeLinear_Output")
    scale = next(t for t in model.graph.initializer if t.name == node.input[1])
    value = (numpy_helper.to_array(scale) * factor).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(value, "other"))
    node.input[1] = "other"
    onnx.save(model, tmp_path / "wrong.onnx")
    assert verdicts(on_scans(tmp_path / "wrong.onnx", original)) == {Verdict.MISMATCH}


def test_where_rounding_costs_as_much_as_images_differ_a_note_says_so(folder, tmp_path):
    """A large offset leaves few steps for what the images change."""
    plain = digits(folder, "gap")
    (gemm,) = (node for node in onnx.load(plain).graph.node if node.op_type == "Gemm")
    path = changed(plain, tmp_path / "far.onnx", gemm.input[2], lambda bias: bias + 3000)
    target = quantise(path, tmp_path / "far-q.onnx")
    report = validate_model(target, path, sizes=[Size(32, 32)], batches=1)
    (cost,) = report.quantisation
    assert cost.verdict is Verdict.VACUOUS
    assert any("proves little at 32x32" in note for note in report.notes)


class Otherwise:
    """ONNX Runtime on another file than the one it is given."""

    name, profile, device = "otherwise", "strict", "cpu"

    def __init__(self, change):
        self._change = change

    def availability(self):
        return Availability(is_available=True)

    def version(self):
        return "1"

    def load(self, model_path, *, threads):
        import onnxruntime

        model = self._change(onnx.load(model_path))
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        return self

    def run(self, inputs):
        return {"logits": self._session.run(None, dict(inputs))[0]}

    def provenance(self):
        return Provenance()

    def close(self):
        pass


def rounded_up(model):
    """Let each rounding go up: half a step is added before it."""
    scales = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type == "QuantizeLinear":
            half, moved = f"{node.output[0]}_half", f"{node.output[0]}_moved"
            step = scales[node.input[1]] * np.float32(0.49)
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(step), half))
            model.graph.node.append(helper.make_node("Add", [node.input[0], half], [moved]))
            node.input[0] = moved
        model.graph.node.append(node)
    return model


def test_a_runtime_that_rounds_otherwise_is_red_though_the_loss_would_be_right(fc):
    path, original = fc
    report = on_scans(path, original, runtimes=[Otherwise(rounded_up)])
    (cell,), (cost,) = report.cells, report.quantisation
    assert (cell.verdict, cost.verdict) == (Verdict.MISMATCH, Verdict.PASS)
    assert cell.outputs[0].deviation.error < cost.outputs[0].deviation.budget


def test_a_runtime_that_does_not_quantise_at_all_is_red(fc):
    """It is near, and exact nowhere: where no number is in doubt, nothing excuses that."""
    path, original = fc
    runtime = Otherwise(lambda _: onnx.load(original))
    sizes = [Size(height, 32) for height in (32, 33, 34, 35)]
    report = validate_model(path, original, runtimes=[runtime], sizes=sizes)
    assert Verdict.MISMATCH in verdicts(report)


def test_the_same_runtime_on_the_file_itself_is_right(fc):
    path, original = fc
    assert on_scans(path, original, runtimes=[Otherwise(lambda model: model)]).ok


def test_a_quantised_original_is_the_reference_itself(fc):
    path, _ = fc
    report = on_scans(path, path)
    assert report.ok
    assert (report.quantisation, report.reference.kind) == ((), "onnx")


def halves(offset):
    """Images → 8 bits of step 1 → logits; every pixel lies `offset` beside the middle."""
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "one", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "one", "zero"], ["logits"]),
    ]
    shape = ("batch", 1, "height", "width")
    graph = helper.make_graph(
        nodes,
        "halves",
        [helper.make_tensor_value_info("image", 1, shape)],
        [helper.make_tensor_value_info("logits", 1, shape)],
        [
            numpy_helper.from_array(np.float32(1), "one"),
            numpy_helper.from_array(np.uint8(0), "zero"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    pixels = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4) + np.float32(0.5 + offset)
    return model, {"image": pixels}


def drawn(model, inputs):
    reference = OnnxReference(GraphPair(model, name="halves"))
    try:
        return np.stack([reference.run(inputs, Perturbed(draw))[0] for draw in range(16)])
    finally:
        reference.close()


def test_numbers_in_the_middle_of_two_steps_go_either_way_and_others_do_not():
    near = drawn(*halves(0.0))
    assert np.all(near.min(0) + 1 == near.max(0))
    far = drawn(*halves(1e-4))
    assert np.all(far.min(0) == far.max(0))


def test_dither_is_as_large_as_what_rounding_loses():
    model, inputs = halves(0.0)
    reference = OnnxReference(GraphPair(dithered(GraphPair(model, name="").graph), name="noisy"))
    try:
        answers = np.stack([reference.run(inputs, "float32")[0] for _ in range(64)])
        bright = reference.run({"image": np.full((1, 1, 4, 4), 300, np.float32)}, "float32")[0]
    finally:
        reference.close()
    assert abs(answers.std(0).mean() - 12**-0.5) < 0.02
    assert np.abs(bright - 255).max() > 10  # up to 45 and a half: what lies beyond the range


def test_weights_alone_in_8_bits_make_no_quantised_file(fc):
    model = onnx.load(fc[0])
    assert is_quantised(model)
    for node in list(model.graph.node):
        if node.op_type == "QuantizeLinear":
            model.graph.node.remove(node)
    assert not is_quantised(model)


def test_images_are_made_of_the_pixels_that_the_file_tells_apart(fc):
    from dataclasses import replace

    from anysize.validators.inputs import Case, graph_inputs
    from anysize.validators.references.graph import image_range

    model = onnx.load(fc[0])
    found = image_range(model, "input")
    assert found == pytest.approx((0.0, 1.0))
    signature = replace(graph_inputs(model, 0), pixels=found)
    pixels = make_inputs(Case(Size(32, 32), 2), signature, 0)["input"]
    assert 0.0 <= pixels.min() < 0.3
    assert 0.7 < pixels.max() <= 1.0
    bright = make_inputs(Case(Size(32, 32), 2, is_amplified=True), signature, 0)["input"]
    assert (bright.min(), bright.max()) == pytest.approx((0.0, 1.0))


def test_the_budget_without_a_rounding_in_doubt_is_that_of_float32():
    assert PROFILES[QUANTISED].budget(0.0) == PROFILES["strict"].budget(0.0)
