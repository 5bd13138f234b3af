"""Models in files: there and back in fresh processes, and never a piece, an overwritten file or a silent loss."""

import hashlib
import json
import logging
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import tf_keras
from tf_keras import layers

import rewriter
from arrays import bits
from models import MODELS, batch, fit
from processes import run_script, run_script_without_rewriter
from rewriter.files import formats
from short_cases import cases

FORMATS = ["model.keras", "model.h5", "model"]


@pytest.fixture
def inputs(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, batch()[0])
    return path


@pytest.mark.parametrize("name", cases(["nested", "shared", "time_distributed", "regularized"], {"nested", "shared"}))
def test_there_and_back_through_files(tmp_path, inputs, name):
    """Standard file in, rewritten file, exported file: array by array the same, in a process without rewriter."""
    model = MODELS[name]()
    model.compile("sgd", "mse")
    for file in FORMATS:
        (tmp_path / "standard").mkdir(exist_ok=True)
        model.save(tmp_path / "standard" / file, save_format=formats.format_to_write(tmp_path / file).value)
        loaded = rewriter.rewrite(rewriter.load_model(tmp_path / "standard" / file))
        rewriter.save_model(loaded, tmp_path / file)
        again = rewriter.load_model(tmp_path / file)
        assert rewriter.plan(again).to_dict()["already_merged"] == len(rewriter.plan(model).merges)
        assert [weight.name for weight in again.weights] == [weight.name for weight in loaded.weights]
        (tmp_path / "exported").mkdir(exist_ok=True)
        rewriter.export(again, tmp_path / "exported" / file)
    paths = [tmp_path / folder / file for file in FORMATS for folder in ("standard", "exported")]
    states = run_script_without_rewriter("digest_models", inputs, *paths)
    for standard, exported in zip(states[::2], states[1::2], strict=True):
        assert standard == exported


@pytest.mark.slow
def test_a_rewritten_file_needs_no_more_than_import_rewriter(tmp_path, inputs):
    """tf_keras.models.load_model reads every format after `import rewriter`, whichever of the two comes first."""
    model = MODELS["time_distributed"]()
    model.compile("sgd", "mse")
    rewriter.rewrite(model)
    fit(model)
    for file in FORMATS:
        rewriter.save_model(model, tmp_path / file)
    expected = model.predict(batch()[0], verbose=0)
    for order in ("import rewriter, tf_keras", "import tf_keras, rewriter"):
        states = run_script(
            "digest_models", inputs, *(tmp_path / file for file in FORMATS), before=order, python=[sys.executable]
        )
        assert {state["outputs"] for state in states} == {hashlib.sha256(expected.tobytes()).hexdigest()}
        assert [state["optimizer"] for state in states[:2]] == ["JointMomentum"] * 2


def test_without_rewriter_a_rewritten_file_is_an_error_never_wrong_numbers(tmp_path):
    """Where the library is missing, loading fails and the message names it."""
    model = rewriter.rewrite(MODELS["sequential"]())
    for file in FORMATS[:2]:
        rewriter.save_model(model, tmp_path / file)
    messages = run_script_without_rewriter("load_errors", *(tmp_path / file for file in FORMATS[:2]))
    assert ["rewriter" in message.lower() for message in messages] == [True, True]


@pytest.mark.parametrize("file", FORMATS[:2])
def test_training_resumes_bit_for_bit(tmp_path, file):
    """The compact state of joint momentum, iterations included, is in the file."""
    model = MODELS["sequential"]()
    model.compile(tf_keras.optimizers.SGD(0.05, momentum=0.9), "mse")
    rewriter.rewrite(model)
    fit(model)
    rewriter.save_model(model, tmp_path / file)
    loaded = rewriter.load_model(tmp_path / file)
    fit(model)
    fit(loaded)
    assert [bits(weight.numpy()) for weight in loaded.weights] == [bits(weight.numpy()) for weight in model.weights]


@pytest.mark.parametrize("file", FORMATS[:2])
def test_export_compiles_a_plain_sgd_that_counts_on(tmp_path, file):
    """Under joint momentum, what is exported has an SGD of its settings, no state, and all iterations."""
    model = MODELS["sequential"]()
    model.compile(tf_keras.optimizers.SGD(0.25, momentum=0.5), "mse", metrics=["mae"])
    rewriter.rewrite(model)
    fit(model)
    rewriter.export(model, tmp_path / file)
    exported = tf_keras.models.load_model(tmp_path / file)
    assert type(exported.optimizer) is tf_keras.optimizers.SGD
    assert (float(exported.optimizer.learning_rate), exported.optimizer.momentum) == (0.25, 0.5)
    assert int(exported.optimizer.iterations) == 3
    assert not any(np.any(slot.numpy()) for slot in exported.optimizer.momentums)
    assert exported.evaluate(*batch(), verbose=0) == model.evaluate(*batch(), verbose=0)
    fit(model)


def test_manifest_says_who_wrote_the_file_and_what_is_merged(tmp_path):
    """Every format carries the manifest; Keras's own metadata stays."""
    model = rewriter.rewrite(MODELS["nested"](), exclude="last")
    for file in FORMATS:
        rewriter.save_model(model, tmp_path / file, source_sha256="abc")
        manifest = formats.read_manifest(tmp_path / file)
        assert manifest["format_version"] == 1
        assert manifest["library_version"] == rewriter.__version__
        assert manifest["source_sha256"] == "abc"
        assert [(layer["path"], layer["shape"]) for layer in manifest["layers"]] == [
            ("inner/first", [6, 6]),
            ("inner/innermost/deep", [7, 4]),
        ]
        # What was trained and is saved again still says where it comes from.
        again = rewriter.load_model(tmp_path / file)
        again.save(tmp_path / file, overwrite=True)
        written = formats.read_manifest(tmp_path / file)
        assert {**written, "optimizer_state": {}} == {**manifest, "optimizer_state": {}}
        assert manifest["settings"]["selectors"] == ["exclude='last'"]
        assert manifest["settings"]["optimizer"].startswith("centered JointMomentum, new")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        assert sorted(archive.namelist()) == ["config.json", "metadata.json", "model.weights.h5"]
        assert json.loads(archive.read("metadata.json"))["keras_version"] == tf_keras.__version__
    rewriter.export(model, tmp_path / "plain.keras")
    assert formats.read_manifest(tmp_path / "plain.keras") is None


@pytest.mark.parametrize("damaged", [None, [], {}, {"format_version": 1}, {"format_version": "1"}, {"layers": 3}])
def test_a_damaged_manifest_is_refused(tmp_path, damaged):
    """Whatever is in the place of the manifest, one line says that it is damaged."""
    path = tmp_path / "model.h5"
    rewriter.save_model(rewriter.rewrite(MODELS["sequential"]()), path)
    with h5py.File(path, "a") as file:
        manifest = json.loads(file.attrs["rewriter"])
        broken = {**manifest, **damaged} if isinstance(damaged, dict) and "layers" in damaged else damaged
        file.attrs["rewriter"] = json.dumps(broken).encode()
    if damaged is None:
        rewriter.load_model(path)
    else:
        with pytest.raises(rewriter.FileError, match="its rewriter manifest is damaged"):
            rewriter.load_model(path)


def test_a_file_of_a_newer_format_is_refused(tmp_path):
    """A file this version may misread is not read."""
    path = tmp_path / "model.h5"
    rewriter.save_model(rewriter.rewrite(MODELS["sequential"]()), path)
    with h5py.File(path, "a") as file:
        file.attrs["rewriter"] = json.dumps({"format_version": 99, "library_version": "7.0"}).encode()
    with pytest.raises(rewriter.FileError, match=r"written in format 99 by keras-rewriter 7.0.*Upgrade"):
        rewriter.load_model(path)


@pytest.mark.parametrize("write", [rewriter.export, rewriter.save_model], ids=["export", "save_model"])
def test_nothing_is_overwritten_unless_asked(tmp_path, write):
    """An existing file or folder stays, byte for byte; with overwrite it is replaced; nothing else is left behind."""
    model = rewriter.rewrite(MODELS["sequential"]())
    for file in FORMATS:
        path = tmp_path / file
        write(model, path)
        before = formats.digest(path)
        with pytest.raises(rewriter.FileError, match="exists already; overwrite=True"):
            write(model, path)
        assert formats.digest(path) == before
        model.layers[0].augmented_kernel.assign_add(model.layers[0].augmented_kernel)
        write(model, path, overwrite=True)
        assert formats.digest(path) != before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FORMATS)


def test_a_failed_save_leaves_nothing_and_says_why(tmp_path, monkeypatch):
    """When Keras cannot write, the old file stays and no temporary is left."""
    model = rewriter.rewrite(MODELS["sequential"]())
    path = tmp_path / "model.keras"
    path.write_bytes(b"old")

    def fail(_, temporary, **_options):
        Path(temporary).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(type(model), "save", fail)
    with pytest.raises(rewriter.FileError, match=r"not written, .*disk full"):
        rewriter.save_model(model, path, overwrite=True)
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["model.keras"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing/model.keras", "the folder .* does not exist"),
        ("model.txt", "the ending '.txt' names no model format"),
        ("model.weights.h5", "names a file of weights alone"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused(tmp_path, name, message):
    """A missing folder and an unknown ending are said before any work is done."""
    with pytest.raises(rewriter.FileError, match=message):
        rewriter.export(MODELS["sequential"](), tmp_path / name)


@pytest.mark.parametrize("file", FORMATS)
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_there_and_back(tmp_path, policy, file):
    """Weights in files are those that are stored, not those that a layer computes with."""
    model = tf_keras.Sequential(
        [
            layers.Dense(4, input_shape=(5,), dtype=policy),
            layers.Dense(3, dtype=policy),
            layers.Dense(3, dtype="float32"),
        ]
    )
    model.compile("adam", "mse")
    fit(model)
    weights = [bits(weight) for weight in model.get_weights()]
    rewriter.rewrite(model, optimizer="keep")
    rewriter.save_model(model, tmp_path / file)
    loaded = rewriter.load_model(tmp_path / file)
    assert [weight.dtype for weight in loaded.weights] == [weight.dtype for weight in model.weights]
    fit(model)
    fit(loaded)
    assert rewriter.verify(model, loaded).same
    rewriter.export(rewriter.load_model(tmp_path / file), tmp_path / f"plain_{file}")
    exported = tf_keras.models.load_model(tmp_path / f"plain_{file}")
    assert [bits(weight) for weight in exported.get_weights()] == weights


@pytest.fixture
def mixed_policy():
    """The policy under which Keras wraps the optimizer that compile is given."""
    tf_keras.mixed_precision.set_global_policy("mixed_float16")
    yield
    tf_keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize("optimizer", [None, "keep"])
@pytest.mark.usefixtures("mixed_policy")
def test_a_loss_scale_survives_a_process_of_another_policy(tmp_path, optimizer):
    """Keras writes the optimizer that compile was given and wraps it anew, or not, by the policy of the moment."""
    model = tf_keras.Sequential([layers.Dense(4, input_shape=(5,)), layers.Dense(3, dtype="float32")])
    model.compile("adam", "mse")
    fit(model)
    model.optimizer._loss_scale.current_loss_scale.assign(4096.0)
    model.save(tmp_path / "plain.keras")
    tf_keras.mixed_precision.set_global_policy("float32")
    assert type(tf_keras.models.load_model(tmp_path / "plain.keras").optimizer) is tf_keras.optimizers.Adam
    assert float(rewriter.load_model(tmp_path / "plain.keras").optimizer.loss_scale) == 2.0**15
    model = rewriter.rewrite(model, optimizer)  # new joint momentum has made no step, and is read all the same
    rewriter.save_model(model, tmp_path / "joint.keras")
    for policy in ("float32", "mixed_float16"):
        tf_keras.mixed_precision.set_global_policy(policy)
        loaded = rewriter.load_model(tmp_path / "joint.keras")
        assert float(loaded.optimizer.loss_scale) == 4096.0
        kind = tf_keras.optimizers.Adam if optimizer else rewriter.JointMomentum
        assert isinstance(loaded.optimizer.inner_optimizer, kind)
        fit(loaded)
        assert isinstance(tf_keras.models.load_model(tmp_path / "joint.keras").optimizer.inner_optimizer, kind)


@pytest.mark.parametrize(
    ("file", "said"), [("plain.keras", "loss scale: not in the file"), ("plain", "note: plain Keras")]
)
@pytest.mark.usefixtures("mixed_policy")
@pytest.mark.parametrize("optimizer", [None, "keep"])
def test_an_export_says_what_plain_keras_will_not_read(run, tmp_path, file, said, optimizer):
    """Of the optimizer's state, by format."""
    model = tf_keras.Sequential([layers.Dense(3, input_shape=(5,))])
    model.compile("adam", "mse")
    fit(model)
    rewriter.save_model(rewriter.rewrite(model, optimizer), tmp_path / "joint.keras")
    code, out, err = run("export", tmp_path / "joint.keras", tmp_path / file)
    assert (code, err) == (0, "")
    assert said in out


def test_of_state_that_is_loaded_nothing_is_said_to_be_lost(tmp_path, caplog):
    """Keras logs that it starts anew where it fails at a state; this library loads it after that."""
    model = tf_keras.Sequential([tf_keras.Input((3,)), layers.Dense(2)])
    model.compile(tf_keras.mixed_precision.LossScaleOptimizer(tf_keras.optimizers.Adam()), "mse")
    model.train_on_batch(np.ones((4, 3)), np.ones((4, 2)))
    rewriter.rewrite(model, "keep")
    rewriter.save_model(model, tmp_path / "model.h5")
    caplog.clear()
    logs = [logging.getLogger(name) for name in ("tensorflow", "absl")]
    for log in logs:
        log.addHandler(caplog.handler)
        caplog.set_level(logging.WARNING, log.name)  # the command line has silenced it in this process
    try:
        loaded = rewriter.load_model(tmp_path / "model.h5")
        assert "Error in loading" not in caplog.text
        tf_keras.models.load_model(tmp_path / "model.h5")
        assert "Error in loading" in caplog.text
    finally:
        for log in logs:
            log.removeHandler(caplog.handler)
    assert [bits(each.numpy()) for each in loaded.optimizer.variables] == [
        bits(each.numpy()) for each in model.optimizer.variables
    ]
