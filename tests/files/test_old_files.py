"""Files that users wrote with 0e88912 load, resume and export: the names in them are stable names, not places."""

import re
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import rewriter
from arrays import bits
from old_file_models import CASES, batch, train
from processes import run_script

FOLDER = Path(__file__).parent / "written_by_0e88912"
FORMATS = (".keras", ".h5", "folder")


def file_of(name, form, folder):
    """The path of a case's file; a SavedModel is kept as an archive and unpacked into the folder."""
    if form != "folder":
        return FOLDER / f"{name}{form}"
    with zipfile.ZipFile(FOLDER / f"{name}.zip") as archive:
        archive.extractall(folder / name)
    return folder / name


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", CASES)
def test_a_file_of_an_older_version_loads_resumes_and_exports(name, form, tmp_path):
    with np.load(FOLDER / f"{name}.npz") as arrays:
        expected = dict(arrays)
    model = rewriter.load_model(file_of(name, form, tmp_path))

    assert np.allclose(model.predict(batch()[0], verbose=0), expected["outputs"], rtol=1e-5, atol=1e-6)
    state = [each.numpy() for each in model.optimizer.variables]
    assert [bits(each) for each in state] == [bits(each) for each in series(expected, "state")]

    rewriter.export(model, tmp_path / "plain.keras")
    exported = tf_keras.models.load_model(tmp_path / "plain.keras").get_weights()
    assert [bits(each) for each in exported] == [bits(each) for each in series(expected, "weight")]

    if not CASES[name].resumes:
        return
    if name == "dense_decay":
        exclude_biases_again(model)
    train(model)
    rewriter.split(model)
    for weight, later in zip(model.get_weights(), series(expected, "later"), strict=True):
        assert np.allclose(weight, later, rtol=1e-4, atol=1e-5)


def exclude_biases_again(model):
    """Do what the README asks for: no file says what was excluded from weight decay."""
    read = model.optimizer
    optimizer = tf_keras.optimizers.AdamW.from_config(read.get_config())
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    rewriter.rewrite(model, optimizer=optimizer)
    optimizer.build(model.trainable_variables)
    optimizer.set_weights(read.variables)


def series(arrays, kind):
    """Return ``kind_0``, ``kind_1`` and so on, in order."""
    count = sum(key.startswith(f"{kind}_") for key in arrays)
    return [arrays[f"{kind}_{index}"] for index in range(count)]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", ["dense_joint", "hidden"])
def test_keras_alone_loads_a_file_of_an_older_version(name, form, tmp_path):
    loaded = run_script("load_with_keras", file_of(name, form, tmp_path))
    with np.load(FOLDER / f"{name}.npz") as arrays:
        expected = series(dict(arrays), "weight")
    assert [(each[0], tuple(each[1]), bytes.fromhex(each[2])) for each in loaded] == [bits(each) for each in expected]


def test_weights_and_checkpoints_of_an_older_version_restore_into_a_model_rewritten_now():
    case = CASES["dense_joint"]
    with np.load(FOLDER / "dense_joint.npz") as arrays:
        expected = dict(arrays)
    for restore in ("weights", "checkpoint"):
        model = case.build()
        model.compile(case.optimizer(), "mse")
        model = rewriter.rewrite(model, "JointMomentum", layers=case.layers)
        if restore == "weights":
            model.load_weights(FOLDER / "dense_joint.weights.h5")
        else:
            model.optimizer.build(model.trainable_variables)
            checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
            checkpoint.read(str(FOLDER / "dense_joint.checkpoint")).assert_existing_objects_matched()
            state = [each.numpy() for each in model.optimizer.variables]
            assert [bits(each) for each in state] == [bits(each) for each in series(expected, "state")]
        rewriter.split(model)
        assert [bits(each) for each in model.get_weights()] == [bits(each) for each in series(expected, "weight")]


@pytest.mark.parametrize("name", ["dense_joint", "hidden", "declared"])
def test_files_written_now_name_what_those_of_older_versions_do(name, tmp_path):
    """No file names a place in the library: what moves would take the file with it."""
    case = CASES[name]
    model = case.build()
    model.compile(case.optimizer(), "mse")
    rewriter.rewrite(model, optimizer=case.choice or "JointMomentum", layers=case.layers)
    train(model)
    for ending in (".keras", ".h5"):
        rewriter.save_model(model, tmp_path / f"{name}{ending}")
        now, then = (named_in(folder / f"{name}{ending}") for folder in (tmp_path, FOLDER))
        assert now == then


def named_in(path):
    """Everything of the library that the config in a file names."""
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            text = archive.read("config.json").decode()
    else:
        with h5py.File(path) as file:
            text = "".join(str(file.attrs[key]) for key in ("model_config", "training_config"))
    return set(re.findall(r'"(rewriter[.>][\w.>]*)"', text))
