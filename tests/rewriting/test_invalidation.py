"""Optimizers that were built for weights which are replaced refuse to train, and say what to do."""

import pytest
import tensorflow as tf
import tf_keras
from tf_keras import optimizers

import rewriter
from arrays import bits
from model_state import fail_at_the_second, loop
from models import MODELS, batch, fit, trained_pair
from short_cases import cases

STALE = {
    "adam": lambda: optimizers.Adam(0.01),
    "legacy-adam": lambda: optimizers.legacy.Adam(0.01),
    "loss-scale": lambda: tf_keras.mixed_precision.LossScaleOptimizer(optimizers.Adam(0.01)),
}


@pytest.mark.parametrize("name", cases(STALE, {"loss-scale"}))
def test_an_optimizer_of_replaced_weights_says_what_to_do(name):
    """After rewrite and after split, an optimizer that was built for the weights of before trains nothing."""
    _, model = trained_pair(MODELS["sequential"], STALE[name])
    old = model.optimizer
    rewriter.rewrite(model)
    joint = model.optimizer
    fit(model)
    rewriter.split(model)
    for stale in (old, joint):
        with pytest.raises(rewriter.OptimizerError, match=r"Train with model\.optimizer if that is another"):
            loop(model, stale)
        model.compile(stale, "mse")
        with pytest.raises(rewriter.OptimizerError, match=r"built for weights that rewriter has replaced since"):
            fit(model)
    with pytest.raises(
        rewriter.OptimizerError, match="has state for weights that are replaced since this model, or another"
    ):
        rewriter.rewrite(model, optimizer=old)


@pytest.mark.parametrize("choice", ["keep", None])
def test_a_concrete_function_goes_on_with_the_old_weights(choice):
    """They are as they were: what biases are while the model is checked does not stay in them."""
    _, model = trained_pair(MODELS["sequential"])
    x = tf.constant(batch()[0])
    function = tf.function(model).get_concrete_function(tf.TensorSpec((None, 5)))
    before, variables = function(x), list(model.variables)
    values = [bits(each.numpy()) for each in variables]
    rewriter.rewrite(model, choice)
    assert [bits(each.numpy()) for each in variables] == values
    assert bits(function(x)) == bits(before)
    merged = list(model.trainable_variables)
    values = [bits(each.numpy()) for each in merged]
    rewriter.split(model)
    assert [bits(each.numpy()) for each in merged] == values


def test_an_optimizer_of_another_model_is_left_alone():
    """Only those that were built for the replaced weights refuse."""
    (other, _), (_, model) = trained_pair(MODELS["sequential"]), trained_pair(MODELS["sequential"])
    rewriter.rewrite(model)
    assert type(other.optimizer) is optimizers.Adam
    fit(other)
    rewriter.rewrite(other, optimizer="keep")
    rewriter.split(other)
    assert type(other.optimizer) is optimizers.Adam
    fit(other)


def test_a_function_of_ones_own_trains_the_model_after_a_split_that_failed(monkeypatch):
    """The layers that were separated and merged again have new augmented kernels, of the same values."""
    _, model = trained_pair(MODELS["sequential"])
    rewriter.rewrite(model, "keep")

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(x, training=True) ** 2)
        weights = model.trainable_variables
        model.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))

    x = tf.constant(batch()[0])
    step(x)
    before, state = model.get_weights(), [bits(each.numpy()) for each in model.optimizer.variables]
    fail_at_the_second(monkeypatch, "separate")
    with pytest.raises(MemoryError):
        rewriter.split(model)
    assert [*map(bits, model.get_weights())] == [*map(bits, before)]
    assert [bits(each.numpy()) for each in model.optimizer.variables] == state
    step(x)
    assert all((one != other).any() for one, other in zip(before, model.get_weights(), strict=True))
