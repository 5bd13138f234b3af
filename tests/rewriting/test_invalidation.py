"""Optimizers that were built for weights which are replaced refuse to train, and say what to do."""

import pytest
import tf_keras
from tf_keras import optimizers

import rewriter
from model_state import loop
from models import MODELS, fit, trained_pair

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
