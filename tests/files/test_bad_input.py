"""Files that are no models, or that do harm: one clear line, exit code 2, no output, no traceback."""

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import fuzzing
import rewriter
from models import fit, save_in_each_format
from rewriter.files.formats import digest
from warm_python import WARM_PYTHON


@tf_keras.saving.register_keras_serializable("gone")
class Gone(layers.Dense):
    """A user's layer whose module is not imported when the file is read."""


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A trained model in each format, and the odd ones that the bad files are made of."""
    folder = tmp_path_factory.mktemp("good")
    model = save_in_each_format(folder)
    model.save_weights(folder / "of.weights.h5")
    model.save_weights(folder / "legacy_weights.h5")
    tf.saved_model.save(tf.Module(), str(folder / "module"))
    scaled = tf_keras.Sequential([layers.Lambda(lambda x: 2 * x, input_shape=(5,)), layers.Dense(3)])
    gone = tf_keras.Sequential([Gone(4, input_shape=(5,), name="gone")])
    for name, each in (("lambda", scaled), ("custom", gone)):
        each.save(folder / f"{name}.keras")
        each.save(folder / f"{name}.h5")
    scaled.save(folder / "lambda", save_format="tf")
    return folder


def copy(good, name, path):
    (shutil.copytree if (good / name).is_dir() else shutil.copy)(good / name, path)


def with_members(good, path, change):
    """Write model.keras again with its members changed; a change may name one twice, or leave one out."""
    with zipfile.ZipFile(good / "model.keras") as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in change(members):
            archive.writestr(name, content)


def with_config(good, path, old, new):
    """Write model.keras again with some text of its config replaced."""

    def change(members):
        return [(n, c.replace(old.encode(), new.encode()) if n == "config.json" else c) for n, c in members]

    with_members(good, path, change)
    with zipfile.ZipFile(path) as changed, zipfile.ZipFile(good / "model.keras") as archive:
        assert changed.read("config.json") != archive.read("config.json")


def cut(good, name, path, part):
    content = (good / name).read_bytes()
    path.write_bytes(content[: int(len(content) * part)])


def h5_with(good, path, change):
    shutil.copy(good / "model.h5", path)
    with h5py.File(path, "a") as file:
        change(file)


def make_h5(path, change):
    with h5py.File(path, "w") as file:
        change(file)


def with_bomb(good, path):
    shutil.copy(good / "model.keras", path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("assets/zeros", bytes(200 << 20))


def with_encoding(good, path):
    """An array of strings in an encoding that there is not: the fourth bit of the type's flags says which."""
    h5_with(good, path, lambda file: file.create_dataset("x", data=[b"abc"], dtype=h5py.string_dtype("utf-8", 3)))
    content, string = path.read_bytes(), b"\x13%c\x00\x00\x03\x00\x00\x00"
    assert content.count(string % 0x11) == 1
    path.write_bytes(content.replace(string % 0x11, string % 0x21))


FUNCTION = '{"module": "os", "class_name": "function", "config": "system", "registered_name": "function"}'
LAYER = '{"module": "keras.layers", "class_name": "Dense"'

# Each makes the bad file at a path from the good ones, and says what the line must say.
BAD = {
    "empty.keras": (lambda good, path: path.touch(), "this file is empty"),
    "random.keras": (
        lambda good, path: path.write_bytes(np.random.default_rng(1).bytes(5000)),
        "not a model. Expected",
    ),
    "text.h5": (lambda good, path: path.write_text("not a model"), "not a model. Expected"),
    "truncated.keras": (lambda good, path: cut(good, "model.keras", path, 0.8), "this archive is truncated"),
    "truncated.h5": (lambda good, path: cut(good, "model.h5", path, 0.8), "damaged or truncated HDF5 file"),
    "no_config.keras": (
        lambda good, path: with_members(good, path, lambda members: [m for m in members if m[0] != "config.json"]),
        "an archive without config.json is no Keras model",
    ),
    "no_weights.keras": (
        lambda good, path: with_members(good, path, lambda members: members[:2]),
        "an archive without model.weights.h5 is no Keras model",
    ),
    "not_json.keras": (
        lambda good, path: with_config(good, path, '{"module"', '{"module'),
        "its config.json is not JSON",
    ),
    "misfit.keras": (
        lambda good, path: with_config(good, path, '"units": 3', '"units": 7'),
        "Keras cannot read this model: Cannot assign value to variable ' m/last/kernel:0': Shape mismatch",
    ),
    "impossible.keras": (
        lambda good, path: with_config(good, path, '"units": 6', '"units": 7'),
        'calling layer "innermost" (type Sequential). Input 0 of layer "deep" is incompatible with the layer: expected',
    ),
    "misfit.h5": (
        lambda good, path: h5_with(
            good, path, lambda file: file.attrs.modify("model_config", file.attrs["model_config"].replace("6", "7"))
        ),
        "Keras cannot read this model: Cannot assign value to variable ' first/kernel:0': Shape mismatch",
    ),
    "greedy.keras": (
        lambda good, path: with_config(good, path, '"units": 6', '"units": 600000000'),
        "its config asks for 12000000",
    ),
    "weights.weights.h5": (lambda good, path: copy(good, "of.weights.h5", path), "a file of weights only"),
    "weights.h5": (lambda good, path: copy(good, "legacy_weights.h5", path), "a file of weights only"),
    "data.h5": (
        lambda good, path: make_h5(path, lambda file: file.create_dataset("x", data=[1, 2])),
        "an HDF5 file without a model_config",
    ),
    "module": (lambda good, path: copy(good, "module", path), "a SavedModel without Keras metadata"),
    "folder": (lambda good, path: path.mkdir(), "this folder is no SavedModel"),
    "half": (
        lambda good, path: (copy(good, "model", path), shutil.rmtree(path / "variables")),
        "variables/variables.index of this SavedModel is missing",
    ),
    "missing.keras": (lambda good, path: None, "no such file or folder"),
    "checkpoint": (lambda good, path: path.with_name("checkpoint.index").touch(), "which has weights and no model"),
    "lambda.keras": (
        lambda good, path: copy(good, "lambda.keras", path),
        "it has a Lambda layer, 'lambda'. That would",
    ),
    "lambda.h5": (lambda good, path: copy(good, "lambda.h5", path), "it has a Lambda layer, 'lambda'. That would run"),
    "lambda": (lambda good, path: copy(good, "lambda", path), "it has a Lambda layer, 'lambda'. That would run code"),
    "outside.keras": (
        lambda good, path: with_members(good, path, lambda members: [*members, ("../escaped.txt", b"x")]),
        "its member '../escaped.txt' points outside the archive",
    ),
    "absolute.keras": (
        lambda good, path: with_members(good, path, lambda members: [*members, ("/tmp/escaped.txt", b"x")]),  # noqa: S108
        "points outside the archive",
    ),
    "bomb.keras": (
        with_bomb,
        "bytes would unpack to",
    ),
    "linked.h5": (
        lambda good, path: h5_with(
            good, path, lambda file: file["model_weights"].__setitem__("x", h5py.ExternalLink("/etc/passwd", "/"))
        ),
        "points elsewhere",
    ),
    "encoding.h5": (with_encoding, "damaged or truncated HDF5 file, Unknown string encoding (value 2)"),
    "circle.h5": (
        lambda good, path: h5_with(good, path, lambda file: file["model_weights"].__setitem__("x", file["/"])),
        "is there twice",
    ),
    "function.keras": (
        lambda good, path: with_config(good, path, '"activation": "linear"', f'"activation": {FUNCTION}'),
        "it has a function of your own, system, that is not known here",
    ),
    "builtin.keras": (
        lambda good, path: with_config(
            good,
            path,
            '"activation": "linear"',
            f'"activation": {FUNCTION.replace("os", "builtins").replace("system", "exit")}',
        ),
        "it names Python's own exit, which is no part of a model",
    ),
    "class.keras": (
        lambda good, path: with_config(good, path, LAYER, '{"module": "subprocess", "class_name": "Popen"'),
        "it has a class of your own, Popen, that is not known here",
    ),
    "download.keras": (
        lambda good, path: with_config(good, path, LAYER, '{"module": "keras.utils", "class_name": "get_file"'),
        "it names keras.utils.get_file, which is no part of a model",
    ),
    "backend.keras": (
        lambda good, path: with_config(good, path, LAYER, '{"module": "keras.backend", "class_name": "set_floatx"'),
        "it names keras.backend.set_floatx, which is no part of a model",
    ),
    "operation.h5": (
        lambda good, path: h5_with(
            good,
            path,
            lambda file: file.attrs.modify(
                "model_config",
                file.attrs["model_config"].replace(
                    '"class_name": "Dense", "config": {',
                    '"class_name": "TFOpLambda", "config": {"function": "io.write_file", ',
                    1,
                ),
            ),
        ),
        "it calls tf.io.write_file",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_line_and_2(run, good, tmp_path, name):
    """On standard error, with what is wrong; nothing is written and nothing of the file is run."""
    make, line = BAD[name]
    path, output = tmp_path / name, tmp_path / "output.keras"
    make(good, path)
    before = sorted(tmp_path.iterdir())
    for arguments in (("rewrite", path, output), ("inspect", path)):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert err.startswith(f"rewriter: {path}: ")
        assert line in err
        assert err.count("\n") == 1
        assert sorted(tmp_path.iterdir()) == before


def test_a_lambda_is_loaded_where_that_is_switched_on(run, good, tmp_path):
    """--allow-lambda, and safe_mode=False, in every format."""
    for name in ("lambda.keras", "lambda.h5", "lambda"):
        code, out, _ = run("rewrite", good / name, tmp_path / f"{name}.out.keras", "--allow-lambda")
        assert code == 0
        assert "with a kernel merged" in out
        assert rewriter.load_model(good / name, safe_mode=False).count_params() == 18


@pytest.mark.parametrize("name", ["custom.keras", "custom.h5"])
def test_an_unknown_custom_layer_is_named_with_what_to_do(good, tmp_path, name):
    """In a process that has not imported its module."""
    arguments = [*WARM_PYTHON, "-m", "rewriter", "rewrite", good / name, tmp_path / "output.keras"]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert "Gone, that is not known here" in result.stderr
    assert "--import" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become somebody else")
def test_no_permission_is_said(run, good, tmp_path):
    """To read the input, or to write where the output belongs."""
    private, shared = tmp_path / "private.keras", tmp_path / "shared.keras"
    for path in (private, shared):
        copy(good, "model.keras", path)
    private.chmod(0o600)
    closed = tmp_path / "closed"
    closed.mkdir(0o755)
    opened = tmp_path / "opened"
    opened.mkdir()
    opened.chmod(0o777)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o055 != 0o055 and folder != Path("/"):
            folder.chmod(0o755)
    os.seteuid(65534)
    try:
        results = [run("rewrite", private, opened / "o.keras"), run("rewrite", shared, closed / "o.keras")]
    finally:
        os.seteuid(0)
    assert results[0] == (2, "", f"rewriter: {private}: cannot be read: Permission denied.\n")
    assert results[1] == (2, "", f"rewriter: {closed / 'o.keras'}: no permission to write in {closed}.\n")


def test_links_to_the_input_are_the_input(run, good, tmp_path):
    """Output equal to input is refused through links too, and so is an output inside the input."""
    copy(good, "model.keras", tmp_path / "model.keras")
    copy(good, "model", tmp_path / "model")
    (tmp_path / "soft.keras").symlink_to(tmp_path / "model.keras")
    (tmp_path / "hard.keras").hardlink_to(tmp_path / "model.keras")
    (tmp_path / "soft").symlink_to(tmp_path / "model")
    before = digest(tmp_path / "model.keras"), digest(tmp_path / "model")
    for name, output in (
        ("model.keras", "soft.keras"),
        ("soft.keras", "model.keras"),
        ("model.keras", "hard.keras"),
        ("model", "soft"),
        ("soft", "model"),
    ):
        code, _, err = run("rewrite", tmp_path / name, tmp_path / output, "--overwrite")
        assert code == 2
        assert "is the input itself" in err
    code, _, err = run("rewrite", tmp_path / "model", tmp_path / "soft" / "new.keras")
    assert code == 2
    assert "is inside the input" in err
    assert before == (digest(tmp_path / "model.keras"), digest(tmp_path / "model"))


def operations():
    """A model with TensorFlow's operations, constants in their place, and shapes of nested calls."""
    inner_input = tf_keras.Input((4,))
    inner = tf_keras.Model(inner_input, [layers.Dense(3)(inner_input), layers.Dense(3)(inner_input)], name="inner")
    x = tf_keras.Input((4,))
    a, b = inner(x)
    c, _ = inner(tf.concat([a, b[:, :1]], axis=-1))
    d = tf.where(c > 0, c, 0.5) + tf.fill([tf.shape(c)[0], 3], 2.0)
    e = tf.debugging.check_numerics(1.0 - tf.maximum(0.0, d), "no numbers")
    outputs = {"a": e, "b": [layers.Dense(2, kernel_initializer=tf.zeros_initializer())(e), tf.nn.relu(a)]}
    return tf_keras.Model(x, outputs)


@pytest.mark.filterwarnings("ignore:The `keras.initializers.serialize")
@pytest.mark.parametrize("suffix", [".keras", ".h5", ""])
def test_what_keras_reads_is_not_refused(tmp_path, suffix):
    """Operations, constants, TensorFlow's initializers, nested models called twice, nests of outputs."""
    model = operations()
    model.save(tmp_path / f"m{suffix}")
    assert rewriter.verify(model, rewriter.load_model(tmp_path / f"m{suffix}")).same


def test_an_unexpected_error_is_one_line_too(run, good, tmp_path, monkeypatch):
    """Whatever goes wrong, there is no bare traceback, unless it is asked for."""
    monkeypatch.setattr("rewriter.commands.rewrite.plan", lambda *_, **__: 1 / 0)
    code, out, err = run("rewrite", good / "model.keras", tmp_path / "o.keras")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("rewriter: unexpected ZeroDivisionError: division by zero (REWRITER_TRACEBACK=1 shows where")


DROPPED = (
    "the state of its Adam does not fit the model and is not loaded, training starts without it: 13 variables in the"
)


@pytest.fixture
def frozen(good, tmp_path):
    """A model whose optimizer state is for more weights than are trained now, as after freezing a layer."""

    def freeze(members):
        config = json.loads(dict(members)["config.json"])
        for layer in config["config"]["layers"]:
            if layer["config"]["name"] == "last":
                layer["config"]["trainable"] = False
        return [(name, json.dumps(config) if name == "config.json" else content) for name, content in members]

    with_members(good, tmp_path / "frozen.keras", freeze)
    return tmp_path / "frozen.keras"


def test_a_state_that_does_not_fit_is_said(frozen):
    """Keras would drop it and only log that; load_model warns, and the optimizer starts anew."""
    with pytest.warns(UserWarning, match=DROPPED):
        model = rewriter.load_model(frozen)
    assert int(model.optimizer.iterations) == 0
    fit(model)


def test_a_state_that_does_not_fit_is_said_on_the_command_line(run, frozen, tmp_path):
    """A note where the state is not needed, a refusal where it was to be kept."""
    code, out, _ = run("rewrite", frozen, tmp_path / "joint.keras")
    assert code == 0
    assert f"note: {DROPPED}" in out
    code, out, err = run("rewrite", frozen, tmp_path / "kept.keras", "--keep-optimizer")
    assert (code, out) == (2, "")
    assert DROPPED in err
    assert not (tmp_path / "kept.keras").exists()


@pytest.mark.slow
def test_damaged_files_are_refused_or_read_right(tmp_path):
    """A bounded number of those that `make fuzz` makes: no traceback, hang, crash, piece of a file or wrong answer."""
    wrong, rewritten = fuzzing.run(tmp_path, 60)
    assert wrong == {}
    assert 5 <= rewritten <= 30, "some damage, to a name, say, does no harm"


def test_a_loss_that_is_a_lambda_is_refused_too(tmp_path):
    """In the words of this library: Keras's advice names an argument of another function."""
    model = tf_keras.Sequential([layers.Dense(3, input_shape=(5,))])
    model.compile("sgd", loss=lambda target, output: tf.reduce_mean(target - output))
    with pytest.warns(UserWarning, match="includes a `lambda`"):
        model.save(tmp_path / "model.keras")
    with pytest.raises(rewriter.FileError, match=r"it has a lambda function\. That would run code from the file"):
        rewriter.load_model(tmp_path / "model.keras")
    assert rewriter.load_model(tmp_path / "model.keras", safe_mode=False).loss is not None
