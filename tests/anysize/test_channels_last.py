"""Files whose image has its channels last are taken as they are, and freed as they are.

What a written file must answer is computed in PyTorch, channels first; the file is run by ONNX
Runtime, channels last. No code of the product is between them.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from keras_like.networks import Network, Written
from PIL import Image
from torch import nn

import anysize
from anysize import Size, surgery
from anysize.errors import DeclinedError, UsageError, VerificationError
from anysize.surgery.graph import image_layout

# What a file of each target computes, of what the network does.
ANSWERS = {"fcn": Written.windows, "adaptive": Written.pooled, "resize": Written.resized}
OFF_GRID = (3, 7)
FC = {
    "colours": Network(),
    "grey": Network(channels=1, batch=1),
    "rescaled, blue first": Network(channels=4, before=("scale", "bgr"), opset=17),
    "bytes, padded": Network(before=("cast", "normalise", "pad", "bgr")),
    "grey, padded behind": Network(channels=1, behind=("scale", "pad"), opset=9),
    "SAME with strides": Network(body=("same2", "depthwise", "norm", "same2"), opset=11),
    "layers between transpositions": Network(before=("normalise",), body=("pool", "last", "valid")),
    "activated behind the last Transpose": Network(head="bent_fc", before=("scale",)),
    "two heads": Network(head="two_fc", behind=("normalise",), body=("same2", "valid")),
}
GAP = ("gap", "gap_first", "gap_last", "gap_kept", "gap_turned", "gap_cell")


def pictures(network: Network, batch: int, height: int, width: int) -> torch.Tensor:
    """Draw images, channels first: whole numbers for a network that takes bytes."""
    draw = torch.Generator().manual_seed(height * width + batch)
    images = torch.randn(batch, network.channels, height, width, generator=draw)
    return (images * 50 + 120).clamp(0, 255).round() if "cast" in network.before else images


def answers(model, images: torch.Tensor) -> list[np.ndarray]:
    """Run a file on images, as ONNX Runtime alone does."""
    source = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    (declared,) = session.get_inputs()
    given = images.permute(0, 2, 3, 1).contiguous().numpy()
    return session.run(
        None, {declared.name: given.astype(np.uint8 if "uint8" in declared.type else np.float32)}
    )


def sizes_to_try(network: Network, sizes: anysize.SizeRange) -> list[tuple[int, int, int]]:
    """Choose batches and sizes: the trained one, larger and smaller ones, one side of each."""
    height, width = network.size
    more, less = OFF_GRID
    tried = [
        (1, height, width),
        (3, height + more, width + less),
        (2, 2 * height, width),
        (1, sizes.minimum.height, sizes.minimum.width + less),
        (1, height - more, width + more),
    ]
    return [one for one in tried if Size(*one[1:]) in sizes]


def assert_right(written: Written, to: str, file, sizes: anysize.SizeRange) -> None:
    network = written.spec
    tried = sizes_to_try(network, sizes)
    assert len(tried) >= 3
    for batch, height, width in tried:
        images = pictures(network, batch, height, width)
        expected = ANSWERS.get(to, Written.__call__)(written, images)
        got = answers(file, images)
        for one, other in zip(expected, got, strict=to != "cam"):
            assert one.shape == other.shape, (height, width)
            scale = max(1.0, float(one.abs().max()))
            np.testing.assert_allclose(other, one.numpy(), rtol=0, atol=3e-5 * scale)


def declared(value: onnx.ValueInfoProto) -> list[str | int]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


@pytest.fixture
def save(tmp_path):
    def save(network: Network, name: str = "keras.onnx"):
        written = Written(network)
        onnx.save(written.model, tmp_path / name)
        return written, tmp_path / name

    return save


@pytest.mark.parametrize("network", FC.values(), ids=FC)
def test_the_twin_is_what_the_file_computes(network):
    written = Written(network)
    images = pictures(network, 1, *network.size)
    got = answers(written.model.SerializeToString(), images)
    for one, other in zip(written(images), got, strict=True):
        np.testing.assert_allclose(other, one.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("to", ["fcn", "adaptive", "resize"])
@pytest.mark.parametrize(
    "name", ["grey", "bytes, padded", "activated behind the last Transpose", "two heads"]
)
def test_a_head_of_one_size_is_rewritten_proved_and_right(name, to, save, tmp_path):
    written, path = save(FC[name])
    done = anysize.rewrite(path, tmp_path / "any.onnx", to=to)
    assert done.proof is not None
    assert done.proof.ok
    model = onnx.load(done.path)
    onnx.checker.check_model(model, full_check=True)
    channels = FC[name].channels
    assert declared(model.graph.input[0]) == ["batch", "height", "width", channels]
    assert_right(written, to, done.path, done.sizes)


@pytest.mark.parametrize("to", ["cam", "dynamic", "resize"])
@pytest.mark.parametrize("head", ["gap_last", "gap_cell"])
def test_a_head_that_pools_is_freed_proved_and_right(head, to, save, tmp_path):
    written, path = save(Network(head=head, before=("scale",)))
    done = anysize.rewrite(path, tmp_path / "any.onnx", to=to)
    assert_right(written, to, done.path, done.sizes)


@pytest.mark.parametrize("head", GAP)
def test_the_class_map_of_every_mean_is_that_of_the_linear_layer_on_each_cell(head):
    written = Written(Network(head=head))
    done = surgery.rewrite(written.model, to="cam")
    assert_right(written, "cam", done.model.SerializeToString(), done.sizes)
    images = pictures(written.spec, 2, 31, 37)
    scores, cells = answers(done.model.SerializeToString(), images)
    np.testing.assert_allclose(cells.mean((2, 3)), scores, rtol=0, atol=1e-5)
    corner = written.classify(written.features(images)[:, :, :1, :1])[0]
    np.testing.assert_allclose(cells[:, :, 0, 0], corner.numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "network",
    [
        Network(head="map_last"),
        Network(head="map_last", size=(8, 8), body=("valid", "pool", "valid")),
        Network(head="dense_map", channels=1),
    ],
    ids=["map", "map of one cell, reshaped", "layer for each position"],
)
def test_an_output_with_its_channels_last_is_freed_and_no_head(network, save, tmp_path):
    written, path = save(network)
    with pytest.raises(DeclinedError, match=r"by itself; there is no fixed-size head"):
        anysize.rewrite(path, tmp_path / "fcn.onnx", to="fcn")
    assert not (tmp_path / "fcn.onnx").exists()
    done = anysize.rewrite(path, tmp_path / "any.onnx")
    assert done.head == "dynamic"
    assert_right(written, "dynamic", done.path, done.sizes)
    (output,) = onnx.load(done.path).graph.output
    assert declared(output)[:3] == ["batch", "map_height", "map_width"]


STEPS = ("scale", "normalise", "pad", "bgr")
LAYERS = ("same", "same2", "valid", "pool", "depthwise", "norm", "last", "gate", "skip")


@st.composite
def networks(draw):
    channels = draw(st.sampled_from([1, 3, 4]))
    steps = st.lists(st.sampled_from(STEPS[: 3 if channels == 1 else 4]), max_size=2, unique=True)
    return Network(
        channels=channels,
        size=draw(st.sampled_from([(20, 24), (23, 23), (17, 30)])),
        before=(*draw(st.sampled_from([(), ("cast",)])), *draw(steps)),
        behind=tuple(draw(steps)),
        # At least one layer tells which axes are height and width.
        body=(
            draw(st.sampled_from(LAYERS[:4])),
            *draw(st.lists(st.sampled_from(LAYERS), max_size=3)),
        ),
        head=draw(st.sampled_from(["fc", "bent_fc", "two_fc", *GAP, "map_last"])),
        batch=draw(st.sampled_from([1, "N", "unk__6"])),
        opset=draw(st.sampled_from([9, 11, 13, 17])),
    )


@settings(max_examples=25, deadline=None)
@given(networks(), st.data())
def test_whatever_is_written_is_right_at_every_size(network, data):
    written = Written(network)
    targets = ["fcn", "adaptive"] if "fc" in network.head else ["dynamic"]
    to = data.draw(st.sampled_from([*targets, "resize"]))
    done = surgery.rewrite(written.model, to=to)
    assert done.applied, done.reason
    assert_right(written, to, done.model.SerializeToString(), done.sizes)


@pytest.mark.parametrize("to", ["fcn", "resize"])
def test_a_written_file_is_known_by_its_channels_again(to, save, tmp_path):
    _, path = save(Network(channels=2, opset=11))  # which no sides tell
    done = anysize.rewrite(path, tmp_path / "any.onnx", to=to, verify=False)
    assert image_layout(onnx.load(done.path)).words == "channels last"
    report = anysize.validate(done.path, path, sizes=[Size(20, 24), Size(26, 31)], batches=1)
    assert {cell.verdict for cell in report.cells} == {"pass"}


def test_an_image_of_one_channel_is_turned_and_not_reshaped():
    done = surgery.rewrite(Written(Network(channels=1)).model)
    first = next(node for node in done.model.graph.node if "image" in node.input)
    assert (first.op_type, first.attribute[0].ints) == ("Transpose", [0, 3, 1, 2])


def test_an_image_of_one_row_keeps_its_channel_apart():
    network = Network(channels=1, size=(1, 24), body=("depthwise",))
    written = Written(network)
    done = surgery.rewrite(written.model)
    assert declared(done.model.graph.input[0]) == ["batch", "height", "width", 1]
    images = pictures(network, 2, 4, 31)
    (got,) = answers(done.model.SerializeToString(), images)
    np.testing.assert_allclose(got, written.windows(images)[0].numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("to", ["fcn", "adaptive", "resize"])
def test_a_network_may_read_the_rows_as_columns(to):
    written = Written(FC["colours"])
    model = onnx.ModelProto()
    model.CopyFrom(written.model)
    model.graph.node[0].attribute[0].ints[:] = [0, 3, 2, 1]
    for axis, side in ((1, 24), (2, 20)):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = side
    done = surgery.rewrite(model, to=to)
    assert done.geometry is None  # the map lies across the image
    for height, width in ((24, 20), (29, 33)):
        images = pictures(written.spec, 2, height, width)
        got = answers(done.model.SerializeToString(), images)
        expected = ANSWERS[to](written, images.transpose(2, 3))
        np.testing.assert_allclose(got[0], expected[0].numpy(), rtol=0, atol=3e-5)


def test_a_class_map_needs_no_size_where_none_is_declared():
    written = Written(Network(head="gap_last"))
    dims = written.model.graph.input[0].type.tensor_type.shape.dim
    dims[1].dim_param, dims[2].dim_param = "rows", "columns"
    done = surgery.rewrite(written.model, to="cam")
    assert_right(written, "cam", done.model.SerializeToString(), done.sizes)


def test_a_file_is_rewritten_by_its_name_a_second_time(save, tmp_path):
    written, path = save(FC["colours"])
    anysize.rewrite(path, path)
    again = anysize.rewrite(path, tmp_path / "again.onnx")
    assert not again.applied
    done = anysize.rewrite(path, tmp_path / "resized.onnx", to="resize")
    images = pictures(written.spec, 2, 33, 40)
    expected = written.windows(
        torch.nn.functional.interpolate(
            images, written.spec.size, mode="bilinear", align_corners=False
        )
    )
    np.testing.assert_allclose(answers(done.path, images)[0], expected[0].numpy(), atol=1e-5)


def test_a_proof_finds_rows_taken_for_columns(save, tmp_path, monkeypatch):
    _, path = save(FC["colours"])
    honest = surgery.rewrite

    def swapped(model, **options):
        done = honest(model, **options)
        node = next(n for n in done.model.graph.node if n.op_type == "Transpose")
        node.attribute[0].ints[:] = [0, 3, 2, 1]
        return done

    monkeypatch.setattr(surgery, "rewrite", swapped)
    with pytest.raises(VerificationError, match="the rewrite is wrong and was not written"):
        anysize.rewrite(path, tmp_path / "any.onnx", to="adaptive")
    assert not (tmp_path / "any.onnx").exists()


def test_images_that_the_network_cannot_take_are_refused(save, tmp_path):
    _, path = save(FC["colours"])
    done = anysize.rewrite(path, tmp_path / "any.onnx", verify=False)
    smallest = done.sizes.minimum
    for height, width in (
        (smallest.height - 1, smallest.width),
        (smallest.height, smallest.width - 1),
    ):
        with pytest.raises(Exception, match="ONNXRuntimeError"):
            answers(done.path, torch.zeros(1, 3, height, width))


# -- inspect, validate, heatmap


def test_inspect_says_where_the_channels_are_and_what_to_do(save):
    _, path = save(FC["colours"])
    facts = anysize.inspect(path, [Size(20, 24), Size(24, 20)])
    assert facts.input == "image (unk__6, 20, 24, 3), channels last"
    assert facts.training_size == Size(20, 24)
    assert str(facts.legal) == "20x24 only"
    assert [size.is_legal for size in facts.sizes] == [True, False]
    assert facts.head is not None
    assert facts.head.map_size == Size(8, 10)
    assert facts.advice[0] == f"anysize rewrite {path} -o any.onnx"


@pytest.mark.parametrize(
    ("network", "to"),
    [(FC["grey"], "fcn"), (FC["bytes, padded"], "resize"), (FC["two heads"], "adaptive"),
     (Network(head="gap_kept"), "cam")],
    ids=["fcn", "resize", "adaptive", "cam"],
)  # fmt: skip
def test_validate_compares_with_the_original(network, to, save, tmp_path):
    _, path = save(network)
    done = anysize.rewrite(path, tmp_path / "any.onnx", to=to, verify=False)
    report = anysize.validate(done.path, path, batches=2)
    assert report.ok, report
    assert {cell.verdict for cell in report.cells} <= {"pass", "rejected"}
    assert sum(cell.verdict == "pass" for cell in report.cells) >= 5


def test_validate_finds_rows_taken_for_columns(save, tmp_path):
    _, path = save(FC["colours"])
    done = anysize.rewrite(path, tmp_path / "any.onnx", to="adaptive", verify=False)
    model = onnx.load(done.path)
    next(n for n in model.graph.node if n.op_type == "Transpose").attribute[0].ints[:] = [
        0,
        3,
        2,
        1,
    ]
    onnx.save(model, done.path)
    report = anysize.validate(done.path, path, sizes=[Size(20, 24), Size(31, 29)], batches=1)
    assert {cell.verdict for cell in report.cells} == {"mismatch"}


@pytest.mark.parametrize("last", ["the file", "the original"])
def test_a_file_and_its_original_may_have_their_channels_in_different_places(last, save, tmp_path):
    _, path = save(FC["colours"])
    model = onnx.load(path)
    turned = next(n for n in model.graph.node if n.op_type == "Transpose")
    turned.op_type = "Identity"
    del turned.attribute[:]
    for axis, side in enumerate((3, 20, 24), start=1):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = side
    other = tmp_path / "first.onnx"
    onnx.save(model, other)
    source, reference = (path, other) if last == "the file" else (other, path)
    for to in ("fcn", "resize"):
        done = anysize.rewrite(source, tmp_path / "any.onnx", to=to, verify=False)
        report = anysize.validate(done.path, reference, sizes=[Size(20, 24), Size(30, 41)])
        assert {cell.verdict for cell in report.cells} == {"pass"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("to", ["fcn", "resize"])
def test_a_module_gets_the_images_of_a_file_with_its_channels_last(to, tmp_path):
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(594, 5))
    network, path = nn.Sequential(*layers).eval(), tmp_path / "turned.onnx"
    torch.onnx.export(
        network, (torch.zeros(1, 3, 20, 24),), path, dynamo=False, input_names=["first"]
    )
    model = onnx.load(path)
    model.graph.node.insert(
        0, onnx.helper.make_node("Transpose", ["image"], ["first"], perm=[0, 3, 1, 2])
    )
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 20, 24, 3])
    model.graph.input[0].CopyFrom(image)
    onnx.save(model, path)
    done = anysize.rewrite(path, tmp_path / "any.onnx", to=to, verify=False)
    report = anysize.validate(done.path, network, sizes=[Size(20, 24), Size(33, 29)])
    assert {cell.verdict for cell in report.cells} == {"pass"}


def test_arrays_are_given_as_the_file_takes_them(save, tmp_path):
    _, path = save(FC["colours"])
    done = anysize.rewrite(path, tmp_path / "any.onnx", verify=False)
    images = pictures(FC["colours"], 2, 25, 31).permute(0, 2, 3, 1).contiguous().numpy()
    report = anysize.validate(done.path, path, inputs={"image": images})
    assert [str(cell) for cell in report.cells] == ["ort-cpu 25x31 batch 2"]
    assert report.ok
    first = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    with pytest.raises(UsageError, match=r"expected \[batch, height, width, 3\]"):
        anysize.validate(done.path, path, inputs={"image": first})


def test_a_heat_map_lies_where_the_image_has_the_class(run, save, tmp_path):
    network = Network(before=("scale", "pad", "bgr"), body=("valid", "pool", "valid"))
    written, path = save(network)
    done = anysize.rewrite(path, tmp_path / "any.onnx", verify=False)
    metadata = surgery.read_metadata(onnx.load(done.path))
    # One cell of the map sees 20 × 24 pixels and the padding, 2 · 3 more, in steps of 2.
    assert metadata.map_stride == (2, 2)
    picture, output = tmp_path / "picture.png", tmp_path / "map.png"
    pixels = np.random.default_rng(3).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(picture)
    result = anysize.heatmap(done.path, picture, output, top=1)
    assert output.exists()
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    image = (torch.from_numpy(pixels / np.float32(255)) - mean) / deviation
    (expected,) = written.windows(image.permute(2, 0, 1)[None].float())
    assert tuple(expected.shape[2:]) == (result.map_size.height, result.map_size.width)
    (peak,) = result.peaks
    heat = expected[0, peak.index]
    row, column = divmod(int(heat.argmax()), heat.shape[1])
    assert (peak.y, peak.x) == (
        metadata.map_offset[0] + 2 * row,
        metadata.map_offset[1] + 2 * column,
    )
    assert peak.probability == pytest.approx(float(heat.max()), abs=1e-5)


# -- what is declined


@pytest.mark.parametrize("to", ["fcn", "adaptive", "cam"])
def test_an_image_that_is_flattened_itself_is_declined(to, run, tmp_path):
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 13]> g (float[n, 24, 32, 3] image)
        => (float[n, 4] y) { half = Mul (image, scale) flat = Flatten (half)
        y = Gemm <transB = 1> (flat, w) }"""
    )
    weights = {"w": np.ones((4, 2304), np.float32), "scale": np.float32(0.5)}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in weights.items()
    )
    path, output = tmp_path / "keras.onnx", tmp_path / "any.onnx"
    onnx.save(model, path)
    done = run("rewrite", path, "-o", output, "--to", to)
    assert done.code == 2
    assert len(done.errors) == 1
    assert not output.exists()
    if to != "cam":
        assert "flattens the image itself, whose channels are not in axis 1" in done.errors[0]


@pytest.mark.parametrize("to", ["fcn", "cam", "gap", "adaptive", "resize", "dynamic"])
@pytest.mark.parametrize("proof", [(), ("--no-verify",)], ids=["proved", "not proved"])
def test_channels_between_the_sides_are_declined_by_name(to, proof, save, run, tmp_path):
    _, path = save(FC["colours"])
    model = onnx.load(path)
    next(n for n in model.graph.node if n.op_type == "Transpose").attribute[0].ints[:] = [
        0,
        2,
        1,
        3,
    ]
    for axis, side in enumerate((20, 3, 24), start=1):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = side
    onnx.save(model, path)
    done = run("rewrite", path, "-o", tmp_path / "any.onnx", "--to", to, *proof)
    assert done.code == 2
    assert "input 'image' has its channels in axis 2, expected" in done.errors[0]
    assert not (tmp_path / "any.onnx").exists()
    done = run("validate", path, "--reference", path, "--sizes", "20x24")
    assert done.code == 2
    assert "has its channels in axis 2" in done.errors[0]
