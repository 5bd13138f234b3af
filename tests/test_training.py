"""The optimizer across the rewrite: kept bit for bit, or replaced and said so."""

import pytest
import tf_keras
from tf_keras import layers, optimizers

import rewriter
from conftest import bits
from models import MODELS, batch, fit, trained_pair

KEPT = {
    "sgd": lambda: optimizers.SGD(0.05),
    "sgd-nesterov": lambda: optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": lambda: optimizers.Adam(0.01),
    "adam-amsgrad-ema": lambda: optimizers.Adam(0.01, amsgrad=True, use_ema=True, ema_overwrite_frequency=4),
    "adamw": lambda: optimizers.AdamW(0.01, weight_decay=0.1),
    "rmsprop-centered": lambda: optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    "adagrad": lambda: optimizers.Adagrad(0.1),
    "adadelta": lambda: optimizers.Adadelta(1.0),
    "adamax": lambda: optimizers.Adamax(0.01),
    "ftrl": lambda: optimizers.Ftrl(0.1),
    "lion": lambda: optimizers.Lion(0.01),
    "schedule": lambda: optimizers.Adam(optimizers.schedules.ExponentialDecay(0.01, 2, 0.5)),
    "loss-scale": lambda: tf_keras.mixed_precision.LossScaleOptimizer(optimizers.Adam(0.01)),
}
# TensorFlow computes rsqrt with another last bit in vector registers than in the scalar tail of an array (seen on
# arrays that share no code with this library), and merging moves elements between the two. These optimizers use it,
# and are bit-equal where every weight fills whole registers.
WITH_RSQRT = {"rmsprop-centered", "adagrad", "adadelta"}


def weights(model):
    with rewriter.standard_form(model):
        return [bits(weight.numpy()) for weight in model.weights]


KEEPING = [
    (optimizer, name)
    for optimizer in KEPT
    for name in ("shared_across_levels", "partly_frozen", "whole_vectors")
    if name == "whole_vectors" or optimizer not in WITH_RSQRT
    if name != "partly_frozen" or optimizer in {"adam", "loss-scale"}
]


@pytest.mark.parametrize(("optimizer", "name"), KEEPING)
def test_keep_carries_the_state_there_and_back(optimizer, name):
    """Training on through a rewrite and a split, under the kept optimizer, is bit-equal to training on without."""
    original, model = trained_pair(MODELS[name], KEPT[optimizer])
    names = [variable.name.split("/")[-1] for variable in original.optimizer.variables]
    optimizer = model.optimizer
    rewriter.rewrite(model, optimizer="keep")
    assert model.optimizer is optimizer
    fit(original)
    fit(model)
    assert weights(model) == weights(original)
    fit(original)
    fit(model)
    rewriter.split(model)
    fit(original)
    fit(model)
    assert weights(model) == weights(original)
    assert [variable.name.split("/")[-1] for variable in optimizer.variables] == names
    states = [[bits(variable.numpy()) for variable in each.optimizer.variables] for each in (original, model)]
    assert states[0] == states[1]


def test_keep_refuses_slots_that_are_not_elementwise():
    """Adafactor keeps sums over rows and columns; it is refused by name before anything changes."""
    model = MODELS["sequential"]()
    model.compile(optimizers.Adafactor(), "mse")
    fit(model)
    with pytest.raises(rewriter.OptimizerError, match="Adafactor: its slots are not one number for each weight"):
        rewriter.rewrite(model, optimizer="keep")
    assert type(model.layers[0]) is layers.Dense


def test_keep_refuses_an_optimizer_it_does_not_know():
    """A legacy optimizer is refused by name before anything changes."""
    model = MODELS["sequential"]()
    model.compile(optimizers.legacy.Adam(), "mse")
    with pytest.raises(rewriter.OptimizerError, match=r"cannot carry the state of .*legacy.*Adam"):
        rewriter.rewrite(model, optimizer="keep")
    assert type(model.layers[0]) is layers.Dense


def test_keep_refuses_an_optimizer_that_trains_other_variables_too():
    """State of variables that are not in the model has no place to go."""
    other, model = MODELS["sequential"](), MODELS["sequential"]()
    optimizer = optimizers.Adam()
    optimizer.build(other.trainable_variables + model.trainable_variables)
    model.compile(optimizer, "mse")
    with pytest.raises(rewriter.OptimizerError, match="also trains 6 variables that are not in this model"):
        rewriter.rewrite(model, optimizer="keep")


@pytest.mark.parametrize("wrong", ["adam", 3, optimizers.Adam], ids=["name", "number", "class"])
def test_an_optimizer_is_an_instance(wrong):
    """Anything but None, 'keep' or an optimizer instance is refused with what was given."""
    with pytest.raises(rewriter.OptimizerError, match="must be None, 'keep' or a tf_keras optimizer, got"):
        rewriter.rewrite(MODELS["sequential"](), optimizer=wrong)


def test_joint_momentum_takes_the_settings_of_a_compiled_sgd():
    """Learning rate, a schedule included, and momentum come from the SGD the model was compiled with."""
    model = MODELS["sequential"]()
    schedule = optimizers.schedules.ExponentialDecay(0.5, 10, 0.9)
    model.compile(optimizers.SGD(schedule, momentum=0.75), "mse")
    rewriter.rewrite(model)
    config = model.optimizer.get_config()
    assert config["momentum"] == 0.75
    assert config["learning_rate"]["config"]["initial_learning_rate"] == 0.5
    fit(model)


def test_an_uncompiled_model_stays_uncompiled_with_the_optimizer_ready():
    """model.compile(model.optimizer, ...) is all that is left to do."""
    model = rewriter.rewrite(MODELS["sequential"]())
    with pytest.raises(RuntimeError, match="must compile"):
        model.fit(*batch())
    assert isinstance(model.optimizer, rewriter.JointMomentum)
    model.compile(model.optimizer, "mse")
    fit(model)


def test_compiled_loss_and_metrics_stay():
    """What else was compiled is left as it is."""
    model = MODELS["sequential"]()
    model.compile("adam", loss=tf_keras.losses.Huber(), metrics=["mae"], steps_per_execution=2)
    fit(model)
    names = model.metrics_names
    expected = model.evaluate(*batch(), verbose=0)
    rewriter.rewrite(model)
    assert model.metrics_names == names
    assert model.evaluate(*batch(), verbose=0) == expected
    assert set(fit(model).history) == {"loss", "mae"}
