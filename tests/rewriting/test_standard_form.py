"""Inside standard_form a model is plain Keras, and outside it has the variables it had."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import rewriter
from arrays import bits
from model_state import merged_layers, state
from models import MODELS, batch, fit, trained_pair


def test_standard_form_is_plain_keras_inside_and_the_same_variables_outside():
    """Inside, classes, names and weights are the original's; outside, the same W* objects hold what was assigned."""
    model = MODELS["sequential"]()
    model.compile("sgd", "mse")
    original = state(model)
    rewriter.rewrite(model)
    kernels = [layer.augmented_kernel for layer in merged_layers(model)]
    with rewriter.standard_form(model) as standard:
        assert standard is model
        assert state(model) == original
        assert type(model.optimizer) is tf_keras.optimizers.SGD
        model.layers[0].bias.assign(tf.range(7, dtype="float32"))
    assert all(layer.augmented_kernel is kernel for layer, kernel in zip(merged_layers(model), kernels, strict=True))
    assert bits(model.layers[0].bias) == bits(np.arange(7, dtype="float32"))
    assert isinstance(model.optimizer, rewriter.JointMomentum)


def test_a_model_in_standard_form_is_not_changed_otherwise(tmp_path):
    """What is rewritten or split inside would not be found at the end; another model over its layers neither."""
    model = MODELS["sequential"]()
    model.compile("sgd", "mse")
    rewriter.rewrite(model)
    before = [type(layer).__name__ for layer in model.layers]
    outer = tf_keras.Sequential([model])
    outer.build((None, *model.input_shape[1:]))
    with rewriter.standard_form(model):
        for change in (rewriter.rewrite, rewriter.split):
            for each in (model, outer):
                with pytest.raises(
                    rewriter.ModelError, match=r"is in standard_form, and .* is merged again at its end"
                ):
                    change(each)
        with rewriter.standard_form(model), rewriter.standard_form(outer):  # nothing is merged, so nothing to do
            rewriter.export(model, tmp_path / "inside.keras")
    assert [type(layer).__name__ for layer in model.layers] == before
    fit(model)
    rewriter.rewrite(rewriter.split(model))


def test_standard_form_restores_the_model_when_the_inside_fails():
    """An error inside goes through, and the model is rewritten again."""
    model = rewriter.rewrite(MODELS["sequential"]())
    with pytest.raises(RuntimeError, match="inside"), rewriter.standard_form(model):
        raise RuntimeError("inside")
    assert len(merged_layers(model)) == 2


def test_fit_goes_on_after_standard_form_without_a_new_trace():
    """Training that is interrupted by a standard form ends where training without it ends, with the same functions."""
    plain, interrupted = trained_pair(MODELS["sequential"], optimizer="sgd")
    for model in (plain, interrupted):
        rewriter.rewrite(model)
        fit(model)
    traced = interrupted.train_function
    with rewriter.standard_form(interrupted):
        interrupted.predict(batch()[0], verbose=0)
    assert interrupted.train_function is traced
    fit(plain)
    fit(interrupted)
    assert [bits(weight.numpy()) for weight in plain.weights] == [
        bits(weight.numpy()) for weight in interrupted.weights
    ]


@pytest.mark.parametrize(("optimizer", "said"), [(None, 1), ("keep", 0)])
def test_training_inside_standard_form(optimizer, said, caplog):
    """The weights keep it. A kept optimizer goes on; joint momentum was not there, and the log says so."""
    caplog.set_level("WARNING", logger="rewriter")
    _, model = trained_pair(MODELS["sequential"])
    rewriter.rewrite(model, optimizer=optimizer)
    with rewriter.standard_form(model):
        fit(model)
        inside = [bits(weight) for weight in model.get_weights()]
    assert sum(": 3 steps were made in standard form, under another opt" in line for line in caplog.messages) == said
    with rewriter.standard_form(model):
        assert [bits(weight) for weight in model.get_weights()] == inside
    fit(model)


@pytest.mark.parametrize("optimizer", ["keep", None])
def test_compile_inside_standard_form_is_what_holds_after(optimizer):
    """Another loss is trained on from then on, and an optimizer given inside stays, with its state."""
    _, model = trained_pair(MODELS["sequential"])
    rewriter.rewrite(model, optimizer=optimizer)
    fit(model)
    kept = model.optimizer
    with rewriter.standard_form(model):
        model.compile(model.optimizer, "mae", metrics=["mse"])
    assert model.optimizer is kept
    x, y = batch()
    expected = float(np.abs(model.predict(x, verbose=0) - y).mean())
    assert set(fit(model).history) == {"loss", "mse"}
    model.optimizer.learning_rate.assign(0.0)
    assert model.evaluate(x, y, verbose=0)[0] != expected
    adam = tf_keras.optimizers.Adam(0.01)
    with rewriter.standard_form(model):
        model.compile(adam, "mse")
        fit(model)
    assert model.optimizer is adam
    fit(model)
    assert int(adam.iterations) == 6


def test_a_function_that_was_first_traced_inside_follows_the_merged_weights_afterwards():
    model = tf_keras.Sequential([layers.Dense(3, input_shape=(5,))])
    rewriter.rewrite(model)
    x = tf.ones((2, 5))
    call = tf.function(model)
    with rewriter.standard_form(model):
        call(x)
    model.layers[0].augmented_kernel.assign(tf.zeros((6, 3)))
    assert np.all(call(x).numpy() == 0)


def test_slots_that_cannot_be_taken_apart_are_refused():
    """Those of Adafactor, compiled after the rewrite, are of rows and columns of W*; the model is as it was."""
    _, model = trained_pair(MODELS["sequential"])
    rewriter.rewrite(model, optimizer="keep")
    model.compile(tf_keras.optimizers.Adafactor(), "mse")
    fit(model)
    before = state(model)
    refused = pytest.raises(
        rewriter.OptimizerError, match=r"cannot be split with the weights: its slots for dense.*/aug"
    )
    with refused, rewriter.standard_form(model):
        pass
    with pytest.raises(rewriter.OptimizerError, match=r"Compile the model with another optimizer first"):
        rewriter.split(model)
    assert state(model) == before
    fit(model)
    model.compile("adam", "mse")

    def give_another_inside():
        with rewriter.standard_form(model):
            model.compile(tf_keras.optimizers.Adafactor(), "mse")
            fit(model)

    with pytest.raises(rewriter.OptimizerError, match=r"given inside standard_form, and sequential.* stays in s"):
        give_another_inside()
    assert not merged_layers(model)
    fit(model)
    rewriter.rewrite(model, optimizer=tf_keras.optimizers.Adam())
    with rewriter.standard_form(model):
        fit(model)
