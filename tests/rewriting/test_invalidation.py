"""Optimizers that were built for weights which are replaced refuse to train, and say what to do."""

import pytest
import tensorflow as tf
import tf_keras
from tf_keras import optimizers

import rewriter
from arrays import bits
from model_state import loop
from models import MODELS, batch, fit, trained_pair

STALE = {
    "adam": lambda: optimizers.Adam(0.01),
    "legacy-adam": lambda: optimizers.legacy.Adam(0.01),
    "loss-scale": lambda: tf_keras.mixed_precision.LossScaleOptimizer(optimizers.Adam(0.01)),
}


@pytest.mark.parametrize("name", STALE)
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
