"""What was compiled goes across both ways: in memory, and through a rewritten and an exported file."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers, optimizers

import rewriter
from processes import run_script_without_rewriter
from rewriter.files.formats import read_manifest

SCHEDULE = {"initial_learning_rate": 0.25, "decay_steps": 2, "decay_rate": 0.5}


def absolute_error(target, output):
    """A loss that is a function."""
    return tf.reduce_mean(tf.abs(target - output), axis=-1)


COMPILED = {
    "string": {"loss": "mse", "metrics": ["mae"]},
    "object": {"loss": tf_keras.losses.Huber(0.5), "metrics": [tf_keras.metrics.MeanAbsoluteError("far")]},
    "function": {"loss": absolute_error},
    "dict": {"loss": {"a": "mse", "b": "mae"}, "loss_weights": {"a": 0.25, "b": 2.0}, "metrics": {"a": ["mae"]}},
    "list": {"loss": ["mse", "mae"], "loss_weights": [0.25, 2.0], "weighted_metrics": [["mae"], ["mse"]]},
    "eager": {"loss": "mse", "run_eagerly": True},
    "steps": {"loss": "mse", "steps_per_execution": 2},
    "XLA": {"loss": "mse", "jit_compile": True},
}


def build():
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(5)
    inputs = tf_keras.Input((5,))
    hidden = layers.Dense(16, activation="tanh", name="hidden")(inputs)
    return tf_keras.Model(inputs, [layers.Dense(2, name="a")(hidden), layers.Dense(3, name="b")(hidden)])


def compiled(name, optimizer="keep"):
    """A model, and a rewritten one, compiled alike."""
    pair = []
    for _ in range(2):
        model = build()
        rate = optimizers.schedules.ExponentialDecay(**SCHEDULE)
        # Fresh objects: metrics and losses belong to one model.
        arguments = {
            key: type(value).from_config(value.get_config()) if key == "loss" and name == "object" else value
            for key, value in COMPILED[name].items()
        }
        if name == "object":
            arguments["metrics"] = [tf_keras.metrics.MeanAbsoluteError("far")]
        model.compile(optimizer=optimizers.SGD(rate, momentum=0.5), **arguments)
        pair.append(model)
    rewriter.rewrite(pair[1], optimizer=optimizer)
    return pair


def data():
    generator = np.random.default_rng(3)
    x, a, b = (generator.standard_normal((16, size)).astype("float32") for size in (5, 2, 3))
    return {"x": x, "y": {"a": a, "b": b}, "sample_weight": {"a": np.linspace(0, 1, 16), "b": np.linspace(1, 2, 16)}}


def settings(model):
    """Everything compile was called with, but for the optimizer."""
    config = dict(model.get_compile_config())
    del config["optimizer"]
    return config


@pytest.mark.parametrize("name", COMPILED)
def test_in_memory(name):
    """Training, evaluation and every setting are those of the original, while rewritten and once split."""
    original, model = compiled(name)
    assert settings(model) == settings(original)
    for change in (lambda model: model, rewriter.split):
        change(model)
        pair = [each.fit(**data(), batch_size=4, shuffle=False, verbose=0).history for each in (original, model)]
        assert pair[0] == pair[1]
        assert model.evaluate(**data(), verbose=0, return_dict=True) == original.evaluate(
            **data(), verbose=0, return_dict=True
        )
        assert settings(model) == settings(original)
        assert (model.run_eagerly, model.jit_compile) == (original.run_eagerly, original.jit_compile)


@pytest.mark.slow
def test_through_files(tmp_path):
    """Rewritten and exported files carry all that a file of the original does, schedule and iterations too."""
    paths = []
    for name in COMPILED:
        for optimizer, suffix in ((None, ".keras"), ("keep", ".h5")):
            original, model = compiled(name, optimizer)
            for each in (original, model):
                eagerly, each.run_eagerly = each.run_eagerly, True  # tracing would take the time of this test
                each.fit(**data(), batch_size=4, verbose=0)
                each.run_eagerly = eagerly
            original_path, rewritten, exported = (tmp_path / f"{name}-{which}{suffix}" for which in "ore")
            original.save(original_path)
            rewriter.save_model(model, rewritten)
            rewriter.export(rewriter.load_model(rewritten, {"absolute_error": absolute_error}), exported)
            paths += [original_path, exported]
    results = run_script_without_rewriter("read_compile_settings", *paths)
    for original, exported in zip(results[::2], results[1::2], strict=True):
        assert exported == original
        assert exported[1:] == [original[1], 0.5, "SGD", 4]
        assert {key: exported[1][key] for key in SCHEDULE} == SCHEDULE


def test_an_uncompiled_model_stays_uncompiled(tmp_path):
    """Rewritten, split, and through files; the optimizer is ready for compile while the model is rewritten."""
    model = rewriter.rewrite(build())
    assert isinstance(model.optimizer, rewriter.JointMomentum)
    for suffix in (".keras", ".h5"):
        rewriter.save_model(model, tmp_path / f"rewritten{suffix}")
        rewriter.export(model, tmp_path / f"exported{suffix}")
        for name in ("rewritten", "exported"):
            assert rewriter.load_model(tmp_path / f"{name}{suffix}").optimizer is None
    rewriter.split(model)
    assert model.optimizer is None
    with pytest.raises(RuntimeError, match="must compile"):
        model.fit(**data())


class Own(tf_keras.optimizers.SGD):
    """A user's, whose state cannot follow the weights by itself."""


@pytest.mark.filterwarnings("ignore:.*lost, slots")
def test_a_model_over_the_same_layers_is_told_of(caplog):
    """Its optimizer is stale, which the log says at once and not the first step; other models are not spoken of."""
    inputs = tf_keras.Input((3,))
    hidden = layers.Dense(4, name="hidden")(inputs)
    whole = tf_keras.Model(inputs, layers.Dense(2, name="head")(hidden), name="whole")
    part = tf_keras.Model(inputs, hidden, name="part")
    apart = tf_keras.Sequential([layers.Dense(2, input_shape=(3,))], name="apart")
    for model in (whole, part, apart):
        model.compile(Own(), "mse")
        model.optimizer.build(model.trainable_variables)
    caplog.set_level("WARNING", logger="rewriter")
    rewriter.rewrite(whole)
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    (warned,) = said
    assert warned.startswith(
        "part shares layers with whole, and its optimizer was built for weights that are replaced now"
    )


def test_the_manifest_says_which_optimizer_a_second_rewrite_gave(tmp_path):
    """And which selectors the first one had."""
    model = tf_keras.Sequential([layers.Dense(4, input_shape=(3,), name="hidden"), layers.Dense(2, name="head")])
    model.compile("adam", "mse")
    rewriter.rewrite(model, "keep", exclude="head")
    rewriter.rewrite(model, rewriter.JointMomentum(), exclude="head")
    rewriter.save_model(model, tmp_path / "joint.keras")
    settings = read_manifest(tmp_path / "joint.keras")["settings"]
    assert settings == {"optimizer": "JointMomentum, as given", "selectors": ["exclude='head'"]}
