"""The monitor writes what joint momentum did to each unit, as NumPy computes it, and nothing else changes."""

import importlib.util

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tensorflow.core.util import event_pb2

import rewriter
from arrays import bits
from models import MODELS, batch, fit
from rewriter.callbacks import JointMomentumMonitor


def written(folder):
    """The histograms in a log folder: rows of (from, to, count), by name and step, read without TensorBoard."""
    found = {}
    for path in sorted((folder / "joint_momentum").iterdir()):
        for record in tf.compat.v1.io.tf_record_iterator(str(path)):
            event = event_pb2.Event.FromString(record)
            for value in event.summary.value:
                found[value.tag, event.step] = tf.make_ndarray(value.tensor)
    return found


def joint(**options):
    model = MODELS["nested"]()
    model.compile("sgd", "mse", **options)
    return rewriter.rewrite(model, rewriter.JointMomentum(0.1, 0.9))


def kept_kernels(layer):
    """A callback that keeps the augmented kernel of a layer before the first step and after each, in a list."""
    kernels = []

    def keep(*_, **__):
        kernels.append(layer.augmented_kernel.numpy().astype("float64"))

    return tf_keras.callbacks.LambdaCallback(on_train_begin=keep, on_batch_end=keep), kernels


@pytest.mark.filterwarnings("ignore:.*tf_record_iterator")
def test_it_writes_what_happens_to_each_unit(tmp_path):
    """The first step and each n-th after it: how many units there are, and from where to where their numbers go."""
    model = joint()
    layer = model.get_layer("last")
    keeps, kernels = kept_kernels(layer)
    x, y = batch()
    model.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=[JointMomentumMonitor(tmp_path, every=2), keeps])
    steps = len(kernels) - 1
    found = written(tmp_path)
    assert {step for _, step in found} == set(range(1, steps + 1, 2))
    assert {name for name, _ in found} == {
        f"{path}/{what}"
        for path in ("inner/first", "inner/innermost/deep", "last")
        for what in ("mean_momentum", "update_norm")
    }
    for step in range(1, steps + 1, 2):
        norms = np.sqrt(((kernels[step] - kernels[step - 1]) ** 2).sum(0))
        rows = found["last/update_norm", step]
        assert rows[:, 2].sum() == layer.units
        np.testing.assert_allclose([rows[0, 0], rows[-1, 1]], [norms.min(), norms.max()], rtol=1e-4)
    last = found["last/mean_momentum", steps if steps % 2 else steps - 1]
    assert last[:, 2].sum() == layer.units
    if steps % 2:
        momentum = model.optimizer.slot("momentums", layer.augmented_kernel).numpy()
        np.testing.assert_allclose([last[0, 0], last[-1, 1]], [momentum.min(), momentum.max()], rtol=1e-6)


def test_training_is_the_same(tmp_path):
    """Watched or not, bit for bit; also several steps at once, under a loss scale, and in a second fit."""
    for options in ({}, {"steps_per_execution": 2}):
        watched, alone = joint(**options), joint(**options)
        alone.set_weights(watched.get_weights())
        for _ in range(2):
            fit(alone, 2)
            fit(watched, 2, callbacks=[JointMomentumMonitor(tmp_path, every=1)])
        assert [bits(weight.numpy()) for weight in watched.weights] == [bits(w.numpy()) for w in alone.weights]


def test_what_is_frozen_is_not_watched(tmp_path):
    """It has no momentum."""
    model = MODELS["nested"]()
    model.get_layer("inner").trainable = False
    model.compile("sgd", "mse")
    rewriter.rewrite(model, tf_keras.mixed_precision.LossScaleOptimizer(rewriter.JointMomentum(0.1)))
    fit(model, callbacks=[JointMomentumMonitor(tmp_path)])
    assert {name.split("/")[0] for name, _ in written(tmp_path)} == {"last"}


def test_other_optimizers_are_refused(tmp_path, monkeypatch):
    """They keep no mean momentum of a unit; the error says what to do, and a wrong setting says what is right."""
    model = MODELS["nested"]()
    for optimizer, name in [("adam", "Adam"), (rewriter.JointMomentum(average="outgoing"), "average='outgoing'")]:
        model.compile(optimizer, "mse")
        with pytest.raises(rewriter.OptimizerError, match=f"{name}.*rewriter.rewrite"):
            fit(model, callbacks=[JointMomentumMonitor(tmp_path)])
    with pytest.raises(ValueError, match="every must be a whole number >= 1, got 0"):
        JointMomentumMonitor(tmp_path, every=0)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r"pip install 'keras-rewriter\[tensorboard\]'"):
        JointMomentumMonitor(tmp_path)


@pytest.mark.filterwarnings("ignore:.*tf_record_iterator")
def test_of_a_centered_optimizer_it_writes_the_norm_of_the_mean(tmp_path):
    """Of the inputs of each layer; those of the first are known here."""
    model = MODELS["sequential"]()
    model.compile(tf_keras.optimizers.Adam(), "mse")
    rewriter.rewrite(model, optimizer="centered")
    x, y = batch()
    model.fit(x, y, batch_size=len(x), verbose=0, callbacks=[JointMomentumMonitor(tmp_path, every=1)])
    found = written(tmp_path)
    first, *_ = (layer.name for layer in model.layers if hasattr(layer, "augmented_kernel"))
    assert {name.rpartition("/")[2] for name, _ in found} == {"input_mean_norm", "update_norm"}
    assert np.allclose(found[f"{first}/input_mean_norm", 1], np.linalg.norm(x.mean(axis=0)), rtol=1e-5)
