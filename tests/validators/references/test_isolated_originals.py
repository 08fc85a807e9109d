"""An original that harms what runs it harms a worker, and is told in one line."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, parser

from anysize.errors import ModelFileError, NotRunError
from anysize.sizes import Size
from anysize.surgery import load_model
from anysize.validators import validate_model
from anysize.validators.inputs.images import make_images
from anysize.validators.references import Rejected
from anysize.validators.references.graph import evaluator, literal_ort
from anysize.validators.references.graph.model import GraphPair
from anysize.validators.references.graph.plan import GraphPlan
from anysize.validators.runtimes import LiteralOrt, PlannedGraph
from anysize.validators.worker import Limits, SharedWorker

# A loop that counts to 2^62 before it hands out the image's mean.
ENDLESS = """<ir_version: 8, opset_import: ["" : 17]>
endless (float[N, 3, H, W] input) => (float[N, 3] logits) {
    often = Constant <value = int64 {4611686018427387904}> ()
    goes = Constant <value = bool {1}> ()
    zero = Constant <value = float {0.0}> ()
    count = Loop (often, goes, zero) <body = step (int64 i, bool c, float v) => (bool d, float w) {
        d = Identity (c)
        one = Constant <value = float {1.0}> ()
        w = Add (v, one)
    }>
    pooled = GlobalAveragePool (input)
    flat = Flatten (pooled)
    logits = Add (flat, count)
}"""


def image(*shape):
    return (np.ones(shape, np.float32),)


def pooled():
    nodes = [
        helper.make_node("Conv", ["input", "k"], ["map"], kernel_shape=[5, 5]),
        helper.make_node("MaxPool", ["map"], ["logits"], kernel_shape=[3, 3], strides=[2, 2]),
    ]
    kernel = onnx.numpy_helper.from_array(np.ones((1, 3, 5, 5), np.float32), "k")
    x = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, "H", "W"])
    y = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 1, "h", "w"])
    graph = helper.make_graph(nodes, "g", [x], [y], [kernel])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def workers(monkeypatch):
    """Put another worker in the place of that of all references."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "fakes")
    started = []

    def start(target, *, run_s, place=literal_ort, name="WORKER"):
        worker = SharedWorker(target, limits=Limits(load_s=60, run_s=run_s))
        started.append(worker)
        monkeypatch.setattr(place, name, worker)
        return worker

    yield start
    for worker in started:
        worker.close()


@pytest.fixture
def impatient(workers):
    return workers(f"{LiteralOrt.__module__}:LiteralOrt", run_s=2)


def test_a_graph_that_ends_the_process_is_named_and_others_go_on(workers):
    workers("misbehaving:DividesByZeroInAnOriginal", run_s=60)
    harmful, other = (GraphPair(pooled(), name=name) for name in ("harmful", "other"))
    (before,) = other.run(image(1, 3, 8, 8), "float32")
    words = r"reference harmful at \[1, 3, 8, 9\]: run: the process died of SIGFPE"
    with pytest.raises(NotRunError, match=words):
        harmful.run(image(1, 3, 8, 9), "float32")
    (after,) = other.run(image(1, 3, 8, 8), "float32")  # in a new worker
    assert np.array_equal(before, after)
    assert before.shape == (1, 1, 1, 1)
    for pair in (harmful, other):
        pair.close()


def test_a_graph_that_never_ends_is_stopped(impatient):
    pair = GraphPair(parser.parse_model(ENDLESS), name="endless")
    with pytest.raises(NotRunError, match=r"endless at \[1, 3, 4, 4\]: run: no answer within 2 s"):
        pair.run(image(1, 3, 4, 4), "float32")
    pair.close()


def test_a_graph_that_takes_the_evaluator_too_long_is_stopped(workers):
    """It is written in Python: a loop that ONNX Runtime runs in no time takes it hours."""
    workers(
        f"{evaluator.__name__}:DoubleEvaluator",
        run_s=2,
        place=evaluator,
        name="DOUBLE",
    )
    pair = GraphPair(
        parser.parse_model(ENDLESS.replace("4611686018427387904", "300000")), name="slow"
    )
    assert isinstance(pair.run(image(1, 3, 4, 4), "float32"), tuple)
    words = r"slow at \[1, 3, 4, 4\]: run: no answer within 2 s; give --arbiter none"
    with pytest.raises(NotRunError, match=words):
        pair.run(image(1, 3, 4, 4), "float64")
    pair.close()


def test_validation_against_an_endless_original_ends(impatient, tmp_path):
    path = tmp_path / "endless.onnx"
    onnx.save(parser.parse_model(ENDLESS), path)
    with pytest.raises(NotRunError, match=r"reference endless.onnx at .* no answer within 2 s"):
        validate_model(path, path, sizes=[Size(8, 8)], batches=(1,))


def test_what_onnx_runtime_refuses_is_told_in_its_words(impatient):
    pair = GraphPair(pooled(), name="one")
    answer = pair.run(image(1, 2, 9, 9), "float32")
    assert isinstance(answer, Rejected)
    assert "Got: 2 Expected: 3" in answer.reason
    model = pooled()
    model.graph.node[1].op_type = "NoSuchOperator"
    with pytest.raises(ModelFileError, match="reference two: ONNX Runtime cannot load it"):
        GraphPair(model, name="two").run(image(1, 3, 9, 9), "float32")


def test_the_process_itself_runs_no_graph(impatient):
    pair = GraphPair(pooled(), name="one")
    pair.run((make_images(Size(9, 9), 1, channels=3, seed=0),), "float32")
    worker = impatient.worker()
    assert worker.is_alive
    assert worker._process.pid != os.getpid()
    pair.close()


def test_sessions_share_a_worker_and_leave_it_alive(impatient, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # other tests use the usual one
    pairs = [GraphPair(pooled(), name=str(i)) for i in range(3)]
    for pair in pairs:
        pair.run(image(1, 3, 9, 9), "float32")
    pids = {impatient.worker()._process.pid for _ in pairs}
    for pair in pairs:
        pair.close()
    assert pids == {impatient.worker()._process.pid}
    assert impatient.worker().folder.parent == tmp_path
    assert not list(tmp_path.glob("anysize-reference-*/graph.onnx"))


@pytest.mark.parametrize(("units", "is_laid_out"), [(4, True), (1 << 18, False)])
def test_a_fully_connected_layer_as_a_convolution_is_not_laid_out_for_a_few_runs(
    tmp_path, units, is_laid_out
):
    kernel = onnx.numpy_helper.from_array(np.ones((units, 4, 4, 4), np.float32), "kernel")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["input", "kernel"], ["map"])],
        "one",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 4, "h", "w"])],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, ["n", units, "i", "j"])],
        [kernel],
    )
    path = tmp_path / "conv.onnx"
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    plan = GraphPlan(load_model(path, weights="in_file"), folder=tmp_path)
    assert PlannedGraph.read(plan.path).is_laid_out is is_laid_out
    session = literal_ort.WORKER.load(plan.path, threads=1)
    answer = session.run({"input": np.ones((1, 4, 5, 4), np.float32)})["map"]
    assert answer.shape == (1, units, 2, 1)
    assert (answer == 64).all()
    session.close()


def test_weights_are_mapped_from_the_file_and_not_written_once_more(tmp_path):
    kernel = np.ones((64, 1 << 14), np.float32)
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        one (float[N, 16384] input) => (float[N, 64] output) {
            output = Gemm <transB=1> (input, w)
        }"""
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(kernel, "w"))
    path = tmp_path / "gemm.onnx"
    onnx.save(model, path)
    plan = GraphPlan(load_model(path, weights="in_file"), folder=tmp_path)
    assert PlannedGraph.read(plan.path).graph.stat().st_size < 1000 < kernel.nbytes
