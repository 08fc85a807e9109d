"""References: modules and graphs, in float32 and float64."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from anysize.errors import ModelFileError, NotRunError, SourceError
from anysize.sizes import Size
from anysize.surgery import load_model
from anysize.validators import Verdict, validate_model
from anysize.validators.inputs.images import make_images
from anysize.validators.references import Rejected, WindowsReference, choose_reference
from anysize.validators.references.eager.module import ModuleReference
from anysize.validators.references.graph.float64 import to_float64
from anysize.validators.references.graph.model import GraphPair, OnnxReference

SIZE = Size(8, 8)
IMAGES = {"input": make_images(SIZE, 2, channels=3, seed=0)}


def test_a_module_answers_in_both_precisions_and_is_left_as_it_was(tiny):
    module = tiny.fc()
    reference = ModuleReference(module)
    (y32,), (y64,) = reference.run(IMAGES, "float32"), reference.run(IMAGES, "float64")
    assert (y32.dtype, y64.dtype) == (np.float32, np.float64)
    assert 0 < np.abs(y32 - y64).max() < 1e-5
    assert module.conv.weight.dtype == torch.float32
    assert reference.name == "TinyFc"


def test_a_size_that_the_module_refuses_is_rejected_in_its_words(tiny):
    images = {"input": make_images(Size(16, 16), 1, channels=3, seed=0)}
    answer = ModuleReference(tiny.fc()).run(images, "float32")
    assert isinstance(answer, Rejected)
    assert "shapes cannot be multiplied" in answer.reason
    assert "\n" not in answer.reason


def test_a_module_in_training_mode_is_refused_with_the_layer_named(tiny):
    module = tiny.fc()
    module.conv.train()
    with pytest.raises(SourceError, match=r"layer 'conv' is in training mode.*\.eval\(\)"):
        ModuleReference(module)


def test_a_module_that_is_not_float32_is_refused(tiny):
    with pytest.raises(SourceError, match=r"'conv.weight' is float64, expected float32"):
        ModuleReference(tiny.fc().double())


class Answers(nn.Module):
    """Answers with what a function makes of the images."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        return self.function(images)


def test_tuples_lists_and_dicts_become_a_tuple():
    for function in (lambda x: (x, x), lambda x: [x, x], lambda x: {"a": x, "b": x}):
        reference = ModuleReference(Answers(function).eval())
        assert len(reference.run(IMAGES, "float32")) == 2
    assert reference.output_names == ("a", "b")


def test_something_else_than_tensors_is_refused():
    with pytest.raises(SourceError, match="returns str, expected a tensor"):
        ModuleReference(Answers(lambda x: "cat").eval()).run(IMAGES, "float32")


@pytest.mark.parametrize(
    "error", [AssertionError, AttributeError, IndexError, KeyError, TypeError, ZeroDivisionError]
)
def test_a_module_may_refuse_a_size_with_any_exception(error):
    def refuse(images):
        raise error("not this size")

    answer = ModuleReference(Answers(refuse).eval()).run(IMAGES, "float32")
    assert isinstance(answer, Rejected)
    assert "not this size" in answer.reason


def test_a_module_that_ends_the_program_is_refused():
    def leave(images):
        raise SystemExit(0)

    with pytest.raises(SourceError, match=r"ends the program, by sys\.exit"):
        ModuleReference(Answers(leave).eval()).run(IMAGES, "float32")


def test_a_module_that_takes_other_inputs_is_told_from_one_that_refuses_them():
    with pytest.raises(SourceError, match=r"cannot be called with 2 input\(s\)"):
        ModuleReference(Answers(torch.sigmoid).eval()).run(
            {**IMAGES, "rois": np.zeros(3)}, "float32"
        )


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_module_may_write_to_its_input(precision):
    reference = ModuleReference(Answers(lambda x: x.sub_(0.25).mean((2, 3))).eval())
    before = IMAGES["input"].copy()
    (first,), (second,) = reference.run(IMAGES, precision), reference.run(IMAGES, precision)
    assert np.array_equal(first, second)
    assert np.array_equal(IMAGES["input"], before)


def test_what_the_process_allows_itself_does_not_reach_the_reference(tiny):
    reference = ModuleReference(tiny.fc())
    (expected,) = reference.run(IMAGES, "float32")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (answer,) = reference.run(IMAGES, "float32")
    assert np.array_equal(answer, expected)


def test_a_tensor_that_numpy_does_not_have_is_refused():
    with pytest.raises(SourceError, match=r"\(bfloat16, strided\); let it return \.float\(\)"):
        ModuleReference(Answers(lambda images: images.bfloat16()).eval()).run(IMAGES, "float32")


@pytest.mark.parametrize(
    "cast",
    [
        lambda images: images.float(),
        lambda images: images.to(torch.float32),
        lambda images: images + torch.full((1,), 0.1),
        lambda images: torch.softmax(images, 1, dtype=torch.float32),
    ],
    ids=["float", "to", "default", "dtype"],
)
def test_whatever_asks_for_float32_gets_float64_of_the_arbiter(cast):
    (answer,) = ModuleReference(Answers(cast).eval()).run(IMAGES, "float64")
    assert answer.dtype == np.float64
    exact = cast(torch.from_numpy(IMAGES["input"]).double())
    assert np.abs(answer - exact.numpy()).max() < 1e-7
    assert torch.get_default_dtype() == torch.float32


def test_a_float64_answer_without_numbers_is_the_reference_s_fault(tiny):
    narrow = Answers(lambda x: x.mean((2, 3)) / (x.dtype == torch.float32)).eval()
    with pytest.raises(SourceError, match="NaN or Inf in float64; give --arbiter none"):
        validate_model(tiny.fc_file(tiny.fc()), narrow, sizes=(SIZE,))


def test_exhausted_memory_is_no_rejection():
    def exhaust(images):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(NotRunError, match="out of memory"):
        ModuleReference(Answers(exhaust).eval()).run(IMAGES, "float32")


def test_a_reference_that_is_random_is_refused(tiny):
    noisy = Answers(lambda x: nn.functional.dropout(x, 0.5, training=True).mean((2, 3))).eval()
    with pytest.raises(SourceError, match="answers differently to the same images"):
        validate_model(tiny.fc_file(tiny.fc()), noisy, sizes=(SIZE,))


def test_a_reference_that_insists_on_float32_needs_no_arbiter(tiny):
    module = tiny.fc()
    stubborn = Answers(lambda x: module(x.float()) * (1 / (x.dtype == torch.float32))).eval()
    stubborn.function = lambda x: module(x) if x.dtype == torch.float32 else x.new_zeros(1) @ x
    further = tiny.fc_file(module, tail=lambda g, y: g.add("Mul", y, g.constant(1 + 3.3e-6)))
    with pytest.raises(SourceError, match=r"not in float64.*--arbiter none"):
        validate_model(further, stubborn, sizes=(SIZE,))
    report = validate_model(further, stubborn, sizes=(SIZE,), arbiter="none")
    assert report.ok
    assert report.reference.arbiter == "none"


def test_a_reference_that_ignores_its_input_is_vacuous(tiny):
    def constant(graph, logits):
        zero = graph.add("Mul", logits, graph.constant(0.0))
        return graph.add("Add", zero, graph.constant([0.1, -0.2, 0.3, 0.0, 0.05]))

    module = Answers(lambda x: x.new_zeros(len(x), 5) + torch.tensor([0.1, -0.2, 0.3, 0.0, 0.05]))
    path = tiny.fc_file(tiny.fc(), tail=constant)
    report = validate_model(path, module.eval(), sizes=(SIZE,), runtimes=("ort-cpu",))
    assert {cell.verdict for cell in report.cells} == {Verdict.VACUOUS}
    assert report.exit_code == 1


def onnx_reference(path):
    return OnnxReference(GraphPair.of_file(path))


def test_a_graph_answers_like_its_module_in_both_precisions(tiny):
    module, reference = tiny.fc(), onnx_reference(tiny.fc_file(tiny.fc()))
    eager = ModuleReference(module)
    for precision, atol in (("float32", 1e-6), ("float64", 1e-14)):
        (got,), (want,) = reference.run(IMAGES, precision), eager.run(IMAGES, precision)
        assert got.dtype == want.dtype == precision
        np.testing.assert_allclose(got, want, atol=atol)


def test_a_graph_for_one_item_answers_for_each_item_of_a_batch(tiny):
    fixed = onnx_reference(tiny.fc_file(tiny.fc(), batch=1, side=8, name="one.onnx"))
    free = onnx_reference(tiny.fc_file(tiny.fc()))
    np.testing.assert_allclose(
        fixed.run(IMAGES, "float32")[0], free.run(IMAGES, "float32")[0], atol=1e-6
    )


def test_a_graph_for_one_image_cannot_be_asked_for_more_where_something_has_no_batch(tiny):
    def edited(change):
        path = tiny.fc_file(tiny.fc(), batch=1)
        model = onnx.load(path)
        change(model.graph)
        onnx.save(model, path)
        return onnx_reference(path)

    def scalar(graph):
        graph.node.append(helper.make_node("ReduceSum", ["logits"], ["sum"], keepdims=0))
        graph.output.append(helper.make_tensor_value_info("sum", TensorProto.FLOAT, []))

    def regions(graph):
        graph.input.append(helper.make_tensor_value_info("rois", TensorProto.FLOAT, ["n", 5]))

    with pytest.raises(SourceError, match="output whose axis 0 is no batch; give --batches 1"):
        edited(scalar).run(IMAGES, "float32")
    with pytest.raises(SourceError, match="reads beside it has no batch axis; give --batches 1"):
        edited(regions).run({**IMAGES, "rois": np.zeros((2, 5), np.float32)}, "float32")


def test_a_graph_that_declares_its_size_is_not_asked_about_others(tiny):
    fixed = onnx_reference(tiny.fc_file(tiny.fc(), side=8))
    images = {"input": make_images(Size(9, 9), 1, channels=3, seed=0)}
    answer = fixed.run(images, "float32")
    assert answer == Rejected("fc.onnx declares images of 8x8 and cannot be asked about others")


def test_a_graph_rejects_what_onnx_runtime_refuses(tiny):
    reference = onnx_reference(tiny.fc_file(tiny.fc()))
    images = {"input": make_images(Size(16, 16), 1, channels=3, seed=0)}
    assert isinstance(reference.run(images, "float32"), Rejected)


def test_a_graph_that_onnx_runtime_cannot_load_is_refused(tiny):
    def strange(graph, logits):
        graph.nodes.append(helper.make_node("Strange", [logits], ["odd"], domain="nowhere"))
        return "odd"

    reference = onnx_reference(tiny.fc_file(tiny.fc(), tail=strange))
    with pytest.raises(ModelFileError, match="ONNX Runtime cannot load it"):
        reference.run(IMAGES, "float32")


def test_the_float64_copy_has_no_narrow_type_left(tiny):
    def through_float16(graph, logits):
        narrow = graph.add("Cast", logits, to=TensorProto.FLOAT16)
        return graph.add("Cast", narrow, to=TensorProto.FLOAT)

    model = onnx.load(tiny.fc_file(tiny.fc(), tail=through_float16))
    before = model.SerializeToString()
    graph = to_float64(model)
    assert {a.dtype for a in graph.weights.values()} == {np.dtype(np.float64)}
    casts = [n.attribute[0].i for n in graph.model.graph.node if n.op_type == "Cast"]
    assert casts == [TensorProto.DOUBLE] * 2
    assert model.SerializeToString() == before
    onnx.checker.check_model(graph.model, full_check=True)


def test_external_weights_are_found_in_both_precisions(tiny):
    inline = tiny.fc_file(tiny.fc())
    path = inline.with_name("external.onnx")
    onnx.save(
        onnx.load(inline), path, save_as_external_data=True, location="w.bin", size_threshold=0
    )
    report = validate_model(path, path, sizes=(SIZE,), runtimes=("ort-cpu", "onnx-reference"))
    assert report.ok


def test_an_original_without_fc_head_is_compared_output_by_output(tiny):
    path = tiny.cam_file(tiny.cam())
    reference = choose_reference(load_model(path), path)
    assert not isinstance(reference, WindowsReference)
    assert validate_model(path, path, sizes=(SIZE,)).ok
