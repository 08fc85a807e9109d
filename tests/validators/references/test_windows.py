"""The proof of a fully convolutional rewrite: every cell is the FC layers on its window."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from anysize.errors import DeclinedError, SourceError
from anysize.sizes import Size, SizeRange
from anysize.surgery import load_model, rewrite, save_model
from anysize.validators import Verdict, validate_model
from anysize.validators.inputs import rewrite_plan
from anysize.validators.inputs.images import make_images
from anysize.validators.proof import prove_rewrite
from anysize.validators.references.composed.windows import WindowsReference, expected_maps
from anysize.validators.references.eager.module import ModuleFc
from anysize.validators.references.protocol import Rejected

TRAINED, LARGER = Size(8, 8), Size(17, 22)
RUNTIMES = ("ort-cpu", "onnx-reference")


class Halves(nn.Module):
    """TinyFc with the two halves that the proof asks for."""

    head, training_size, map_size = "fc", TRAINED, Size(2, 2)

    def __init__(self, whole):
        super().__init__()
        self.whole = whole

    def forward_features(self, images):
        return self.whole.pool(torch.relu(self.whole.conv(images)))

    def forward_head(self, feature_map):
        return self.whole.linear(torch.flatten(feature_map, 1))

    def forward(self, images):
        return self.forward_head(self.forward_features(images))


@pytest.fixture
def halves(tiny):
    return Halves(tiny.fc()).eval()


@pytest.fixture
def original(tiny):
    return tiny.fc_file(tiny.fc(), batch=1, side=8)


def rewritten(original, output="map", sabotage=None):
    model = rewrite(load_model(original), output=output).model
    if sabotage:
        sabotage(model.graph)
    path = original.with_name(f"any-{output}.onnx")
    save_model(model, path)
    return path


def fc_convolution(graph):
    return next(node for node in reversed(graph.node) if node.op_type == "Conv")


def drop_bias(graph):
    del fc_convolution(graph).input[2]


def edit_kernel(change):
    def apply(graph):
        name = fc_convolution(graph).input[1]
        tensor = next(t for t in graph.initializer if t.name == name)
        array = change(numpy_helper.to_array(tensor))
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), name))

    return apply


def flatten_hwc(kernel):
    classes, channels, height, width = kernel.shape
    return kernel.reshape(classes, height, width, channels).transpose(0, 3, 1, 2)


SABOTAGES = [
    pytest.param(drop_bias, id="bias dropped"),
    pytest.param(edit_kernel(flatten_hwc), id="flatten order HWC"),
    pytest.param(edit_kernel(lambda w: w.swapaxes(2, 3)), id="kernel transposed"),
    pytest.param(edit_kernel(lambda w: w[..., ::-1]), id="kernel flipped"),
    pytest.param(edit_kernel(lambda w: w[::-1]), id="classes reversed"),
]


@pytest.mark.parametrize("reference", ["file", "module"])
@pytest.mark.parametrize("output", ["map", "logits", "both"])
def test_a_right_rewrite_passes_against_its_original(original, halves, output, reference):
    against = original if reference == "file" else halves
    path = rewritten(original, output)
    report = validate_model(path, against, runtimes=RUNTIMES, sizes=(TRAINED, LARGER))
    assert report.reference.kind == "windows"
    assert {cell.verdict for cell in report.cells} == {Verdict.PASS}


@pytest.mark.parametrize("reference", ["file", "module"])
def test_an_image_without_a_window_is_rejected_on_both_sides(original, halves, reference):
    against = original if reference == "file" else halves
    path = rewritten(original)
    model = onnx.load(path)
    del model.metadata_props[:]  # so that the original has to say it, not the file
    onnx.save(model, path)
    report = validate_model(path, against, runtimes=RUNTIMES, sizes=(Size(7, 8), TRAINED))
    small = [cell for cell in report.cells if cell.size != TRAINED]
    assert {cell.verdict for cell in small} == {Verdict.REJECTED}
    assert all("smaller than the 2x2" in cell.message for cell in small)
    assert report.ok


@pytest.mark.parametrize("sabotage", SABOTAGES)
def test_a_wrong_rewrite_is_a_mismatch_on_every_runtime(original, sabotage):
    path = rewritten(original, sabotage=sabotage)
    report = validate_model(path, original, runtimes=RUNTIMES, sizes=(TRAINED, LARGER))
    assert {cell.verdict for cell in report.cells} == {Verdict.MISMATCH}


@pytest.mark.parametrize("output", ["map", "logits", "both"])
def test_the_proof_holds_for_a_right_rewrite(original, output):
    model = load_model(original)
    proof = prove_rewrite(model, rewrite(model, output=output).model, [LARGER])
    assert proof.ok, proof.message
    assert len(proof.cells) == 3
    assert "answers equal at 2 sizes; largest error" in proof.message


@pytest.mark.parametrize("sabotage", SABOTAGES)
def test_the_proof_fails_for_a_wrong_rewrite_and_tells_the_worst_cell(original, sabotage):
    proof = prove_rewrite(original, rewritten(original, sabotage=sabotage), [LARGER])
    assert not proof.ok
    assert "output 'logits' at [" in proof.message
    assert "x the budget" in proof.message


@pytest.mark.parametrize("sabotage", SABOTAGES)
def test_the_proof_of_a_heavy_network_fails_as_well(original, sabotage):
    plan = rewrite_plan(
        TRAINED, SizeRange(TRAINED), cost=10**12, stride=None, is_below=False, is_full=False
    )
    path = rewritten(original, sabotage=sabotage)
    proof = prove_rewrite(original, path, plan.sizes, trained_batch=plan.trained_batch)
    assert not proof.ok
    assert {cell.verdict for cell in proof.cells} == {Verdict.MISMATCH}


def test_the_proof_counts_every_window(original):
    proof = prove_rewrite(original, rewritten(original), [LARGER], batch=2)
    # 17×22 pixels make a map of 4×5, which holds 3×4 windows of 2×2; 8×8 pixels hold one.
    assert proof.answers == 2 * (1 + 3 * 4)


def test_the_proof_holds_for_a_softmax_tail(tiny):
    module = tiny.fc(softmax=True)
    original = tiny.fc_file(module, batch=1, side=8)
    for output in ("map", "logits"):
        proof = prove_rewrite(original, rewritten(original, output), [LARGER])
        assert proof.ok, proof.message


def test_the_proof_takes_windows_one_by_one_where_the_head_insists(tiny):
    def reshape(graph, pooled):
        return graph.add("Reshape", pooled, graph.constant([1, 24], np.int64))

    original = tiny.fc_file(tiny.fc(), flatten=reshape, batch=1, side=8)
    proof = prove_rewrite(original, rewritten(original), [LARGER])
    assert proof.ok, proof.message


def test_the_proof_declines_an_original_without_fc_head(tiny):
    path = tiny.cam_file(tiny.cam(), ("map",))
    with pytest.raises(DeclinedError):
        prove_rewrite(path, path, [TRAINED])


def test_the_expected_map_is_the_head_on_each_window(halves):
    images = make_images(LARGER, 2, channels=3, seed=3)
    (maps,) = expected_maps(ModuleFc(halves), images, "float64")
    with torch.inference_mode():
        feature_map = halves.forward_features(torch.from_numpy(images))
        for item, row, column in ((0, 0, 0), (1, 2, 3), (0, 1, 2)):
            window = feature_map[item : item + 1, :, row : row + 2, column : column + 2]
            cell = halves.forward_head(window)[0].numpy()
            np.testing.assert_allclose(maps[item, :, row, column], cell, atol=1e-6)
    assert maps.shape == (2, 5, 3, 4)


def test_chunks_of_windows_make_the_same_map(halves, monkeypatch):
    images = make_images(LARGER, 2, channels=3, seed=3)
    whole = expected_maps(ModuleFc(halves), images, "float64")
    monkeypatch.setattr("anysize.validators.references.composed.windows._CHUNK_BYTES", 1)
    np.testing.assert_array_equal(whole, expected_maps(ModuleFc(halves), images, "float64"))


def test_images_that_hold_no_window_are_rejected(halves):
    reference = WindowsReference(ModuleFc(halves))
    answer = reference.run({"x": make_images(Size(7, 9), 1, channels=3, seed=0)}, "float32")
    assert isinstance(answer, Rejected)
    assert "feature map is 1x2, smaller than the 2x2" in answer.reason


def test_a_module_without_halves_is_refused(tiny):
    with pytest.raises(SourceError, match="has no map_size, forward_features and forward_head"):
        ModuleFc(tiny.fc())


def test_a_map_without_metadata_is_compared_by_windows_too(original):
    path = rewritten(original)
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path)
    report = validate_model(path, original, sizes=(TRAINED, LARGER))
    assert report.reference.kind == "windows"
    assert report.ok


class TestClassActivationMaps:
    """A head that pools globally is its own linear layer on windows of one cell."""

    @staticmethod
    def files(folder):
        import anysize

        original, rewritten = folder / "gap.onnx", folder / "cam.onnx"
        anysize.export("digits", original, head="gap", verify=False)
        return original, rewritten

    def test_a_rewrite_to_cam_is_proved_and_validated(self, tmp_path):
        import anysize

        original, rewritten = self.files(tmp_path)
        done = anysize.rewrite(original, rewritten, to="cam")
        assert done.proof is not None
        assert done.proof.ok
        report = anysize.validate(rewritten, original, sizes=[Size(32, 32), Size(45, 70)])
        assert report.ok
        assert report.reference.kind == "windows"

    def test_a_wrong_map_is_noticed(self, tmp_path):
        import anysize
        from anysize.surgery import load_model, save_model

        original, rewritten = self.files(tmp_path)
        anysize.rewrite(original, rewritten, to="cam")
        model = load_model(rewritten)
        conv = next(node for node in model.graph.node if "map" in node.output)
        (bias,) = [t for t in model.graph.initializer if t.name == conv.input[2]]
        bias.raw_data = bytes(len(bias.raw_data))
        save_model(model, rewritten)
        report = anysize.validate(rewritten, original, sizes=[Size(45, 70)])
        assert report.exit_code == 1
