"""The same thing has the same name in every command, in Python and in a matrix."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys

import onnx
import pytest

import anysize
from anysize.cli.app import app
from anysize.cli.grouped import grouped
from anysize.cli.preparation import Preparation
from anysize.errors import UsageError
from anysize.sizes import Size
from anysize.surgery import load_model, read_metadata
from anysize.verbs.matrix_runs.plan import read_matrix

COMMANDS = [command.callback.__name__ for command in app.registered_commands]


def outputs(path):
    return [output.name for output in onnx.load(path).graph.output]


@pytest.mark.parametrize("option", ["--head", "--to"])
def test_export_and_rewrite_take_each_others_word_for_the_head(tmp_path, run, digits_files, option):
    path = tmp_path / "x.onnx"
    assert run("export", "lenet", option, "gap", "-o", path, "--no-verify").code == 0
    assert read_metadata(load_model(path)).head == "gap"
    assert run("rewrite", digits_files["fc"], option, "adaptive", "-o", path).code == 0
    assert read_metadata(load_model(path)).head == "adaptive"


@pytest.mark.parametrize(("kind", "names"), [("logits", ["logits"]), ("both", ["logits", "map"])])
def test_export_hands_out_what_it_is_asked_for_and_proves_it(tmp_path, run, kind, names):
    path = tmp_path / "x.onnx"
    done = run("export", "lenet", "--head", "fcn", "--output", kind, "-o", path)
    assert done.code == 0, done.err
    assert "cells pass" in done.out
    assert outputs(path) == names
    # The file's word is enough to compare it again.
    assert run("validate", path, "--sizes", "32,40x49", "--batches", "1").code == 0


@pytest.mark.parametrize(
    ("head", "kind", "words"),
    [
        ("cam", "logits", "head cam hands out both"),
        ("gap", "map", "head gap has no map; --head fcn has all of map, logits and both"),
    ],
)
def test_an_output_that_a_head_lacks_is_refused(tmp_path, head, kind, words):
    with pytest.raises(UsageError, match=words):
        anysize.export("lenet", tmp_path / "x.onnx", head=head, output=kind)


@pytest.mark.parametrize("verb", ["export lenet", "rewrite good.onnx"])
def test_a_file_given_as_output_is_told_about_o(tmp_path, run, verb):
    done = run(*verb.split(), "--output", "any.onnx", "-o", tmp_path / "x.onnx")
    assert done.code == 2
    assert "the file to write is given with -o FILE" in done.err


def test_a_matrix_has_the_words_of_the_python_function():
    known = set(inspect.signature(anysize.validate).parameters)
    known |= set(inspect.signature(anysize.export).parameters)
    known |= {"heads", "file", "name"}  # several of one, and what only a matrix has
    from anysize.verbs.matrix_runs.settings import Model

    assert set(Model.__struct_fields__) <= known


@pytest.mark.parametrize("old", ["batch = [1]", 'size = "32x32"\nhead = "gap"'])
def test_an_old_word_is_answered_by_the_new_one(tmp_path, old):
    path = tmp_path / "m.toml"
    path.write_text(f'[[model]]\nsource = "lenet"\n{old}\n')
    with pytest.raises(UsageError, match=r"did you mean (batches|heads)\?"):
        read_matrix(path)


@pytest.mark.parametrize("size", ["32", '"32"', '"32x32"', "[32, 32]", '"(32, 32)"'])
def test_a_matrix_takes_sizes_as_they_are_written_elsewhere(tmp_path, size):
    path = tmp_path / "m.toml"
    path.write_text(f'[[model]]\nsource = "lenet"\nsize = {size}\nsizes = [{size}, "40x49"]\n')
    (job,) = read_matrix(path)
    assert Size.of(job.model.size) == Size(32, 32)
    assert [str(one) for one in job.spec.sizes] == ["32x32", "40x49"]


def test_a_matrix_has_switches_and_arguments(tmp_path):
    path = tmp_path / "m.toml"
    path.write_text(
        '[[model]]\nsource = "lenet"\nmodel_args = {num_classes = 12}\nhalf = true\n'
        'bright = false\n[[model]]\nfile = "x.onnx"\nhalf = true\ntf32 = true\n'
    )
    first, second = read_matrix(path)
    assert (first.model.model_args, first.model.half) == ({"num_classes": 12}, True)
    assert (first.spec.half, first.spec.amplified) == (False, False)
    assert (second.spec.half, second.spec.tf32) == (True, True)


def test_the_old_spelling_of_batches_works(run, digits_files):
    options = ("--reference", digits_files["gap"], "--sizes", "32", "--json", "-")
    old, new = (
        json.loads(run("validate", digits_files["gap"], *options, word, "2").out)
        for word in ("--batch", "--batches")
    )
    assert [cell["batch"] for cell in old["cells"]] == [cell["batch"] for cell in new["cells"]]


def test_sizes_are_told_alike_everywhere(tmp_path):
    path = tmp_path / "x.onnx"
    for size in (36, "36", (36, 36), [36, 36], anysize.Size(36, 36)):
        anysize.export("lenet", path, head="fc", size=size, verify=False)
        assert str(read_metadata(load_model(path)).size) == "36x36"
    assert [str(one.size) for one in anysize.inspect(path, [36, (36, 38)]).sizes] == [
        "36x36",
        "36x38",
    ]


def test_arguments_of_a_network_are_recorded_and_asked_for_again(tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_net.py").write_text(
        "from torch import nn\n\ndef make(num_classes):\n    return nn.Sequential(\n"
        "        nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), "
        "nn.Linear(4, num_classes))\n"
    )
    arguments = ("--model-args", '{"num_classes": 12}')
    done = run("export", "own_net.py:make", *arguments, "--size", "32", "-o", "x.onnx")
    assert done.code == 0, done.err
    refused = run("validate", "x.onnx", "--sizes", "32")
    assert refused.code == 2
    again = ("validate", "x.onnx", "--reference", "own_net.py:make", *arguments, "--sizes", "32")
    assert run(*again).code == 0
    assert run("rewrite", "x.onnx", "-o", "y.onnx", "--to", "cam", *again[2:-2]).code == 0
    bad = run("export", "own_net.make", "--model-args", "12", "-o", "z.onnx")
    assert """expected a JSON object such as '{"num_classes": 12}'""" in bad.err


def test_classes_of_a_zoo_network_are_found_again_in_the_file(tmp_path, run):
    path = tmp_path / "x.onnx"
    arguments = ("--model-args", '{"num_classes": 12}', "--no-verify", "-o", path)
    assert run("export", "lenet", "--head", "gap", *arguments).code == 0
    done = run("validate", path, "--sizes", "32", "--batches", "1", "--json", "-")
    assert done.code == 0, done.err


def test_a_file_calls_inputs_and_outputs_as_its_user_does_and_is_still_proved(tmp_path, run):
    path = tmp_path / "x.onnx"
    names = ("--input-names", "image", "--output-names", "map,scores")
    done = run("export", "lenet", "--head", "cam", *names, "-o", path)
    assert done.code == 0, done.err
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == ["image"]
    # `map` is the name of the other output, too: what it was called moved out of its way.
    assert outputs(path) == ["map", "scores"]
    shapes = {o.name: len(o.type.tensor_type.shape.dim) for o in model.graph.output}
    assert shapes == {"map": 2, "scores": 4}
    assert run("validate", path, "--sizes", "32,40").code == 0


@pytest.mark.parametrize("names", ["a,b", "", "a,a"])
def test_names_that_do_not_fit_are_refused(tmp_path, run, names):
    done = run("export", "lenet", "--head", "cam", "--input-names", names + ",", "-o", "x.onnx")
    assert done.code == 2
    assert "expected 1, each another, for input" in done.err


def test_every_verb_prints_json(tmp_path, run, digits_files):
    path, small = tmp_path / "x.onnx", ("--sizes", "32", "--batches", "1")
    image = tmp_path / "page.png"
    from PIL import Image

    Image.new("L", (48, 40), 128).save(image)
    (tmp_path / "m.toml").write_text(f'[[model]]\nfile = "{digits_files["gap"]}"\nsizes = 32\n')
    lines = {
        "export": ("export", "lenet", "-o", path, "--json"),
        "rewrite": ("rewrite", digits_files["fc"], "-o", path, "--json"),
        "inspect": ("inspect", digits_files["fc"], "--json"),
        "validate": ("validate", digits_files["gap"], *small, "--json", "-"),
        "matrix": ("matrix", tmp_path / "m.toml", "--json", "-"),
        "heatmap": ("heatmap", digits_files["fcn"], image, "-o", tmp_path / "h.png", "--json"),
        "profile": ("profile", digits_files["gap"], "--json"),
        "runtimes": ("runtimes", "--json"),
    }
    (tmp_path / "r.json").write_text(run(*lines["validate"]).out)
    lines["report"] = ("report", tmp_path / "r.json", "--json", "-")
    for verb, words in lines.items():
        done = run(*words)
        assert done.code == 0, (verb, done.err)
        json.loads(done.out)
    assert {*lines, "demo"} >= {*COMMANDS} - {"evaluate", "benchmark"}
    written = json.loads(run(*lines["export"]).out)
    assert written["path"] == str(path)
    assert written["report"]["ok"] is True
    assert written["sizes"]["minimum"] == str(read_metadata(load_model(path)).min_size)


def test_quiet_says_nothing_and_verbose_says_each_step(tmp_path, run):
    words = ("export", "lenet", "--head", "fc", "-o", tmp_path / "x.onnx")
    usual, quiet, verbose = run(*words), run("-q", *words), run(*words, "-v")
    assert "an FC head takes only" in usual.err
    assert quiet.err == ""
    assert quiet.out == usual.out
    assert len(verbose.err.splitlines()) > len(usual.err.splitlines())
    assert re.match(r"\d+\.\d s \[0/2\] building the model", verbose.err)
    failed = run("-q", "export", "lenot", "-o", tmp_path / "x.onnx")
    assert failed.err.startswith("anysize: error: ")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_reads_at_80_columns(command):
    env = os.environ | {"COLUMNS": "80", "TERM": "dumb"}
    words = [sys.executable, "-m", "anysize", *filter(None, [command]), "--help"]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", env=env, check=True)
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    cut = [line for line in lines if re.search(r"-[\w-]*…|^ \S{1,12}$", line)]
    assert cut == []  # no name of an option, no paragraph with a word left over


def test_the_end_by_ctrl_c_is_documented(run):
    assert "130 interrupted by Ctrl-C" in run("--help").out


def test_options_stand_in_groups(run):
    text = run("export", "--help").out
    for group in ("The model", "The file", "The proof", "Heads of the zoo"):
        assert group in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_and_words(shell):
    env = os.environ | {
        "_ANYSIZE_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": "anysize export lenet --verify ",
        "COMP_CWORD": "4",
        "_TYPER_COMPLETE_ARGS": "anysize export lenet --verify ",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_WORD_TO_COMPLETE": "",
    }
    code = "import sys; from anysize.cli import main; sys.argv = ['anysize']; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", env=env, check=False
    )
    for word in ("quick", "full", "off"):
        assert word in done.stdout


def test_options_that_commands_share_are_one_value_to_them_and_options_to_the_user():
    got = []

    def command(name: str, *, images: Preparation) -> None:
        got.append((name, images))

    run = grouped(command)
    assert list(inspect.signature(run).parameters) == [
        "name", "mean", "std", "scale", "bgr", "classes", "crop",
    ]  # fmt: skip
    whole = dict.fromkeys(("mean", "std", "scale", "classes", "crop"))
    run(name="a", **whole | {"scale": "1/255", "bgr": True})
    assert got == [("a", Preparation(scale="1/255", bgr=True))]
    assert got[0][1].preprocessing.order == "bgr"
