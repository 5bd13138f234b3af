"""Whatever is raised at whatever place, Ctrl-C too, the model is as it was, and trains on as if nothing had been."""

import logging

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

import rewriter
from arrays import bits
from rewriter.adapters.tf_keras import layers as surgery
from rewriter.optimizers.state.other_optimizers import OtherOptimizers
from rewriter.rewriting.probe_biases import ProbeBiases

X = np.random.default_rng(0).standard_normal((8, 4)).astype("float32")


def train(model):
    model.fit(X, X[:, :3], shuffle=False, verbose=0)


def trained(optimizer="adam"):
    tf_keras.utils.set_random_seed(0)
    first = layers.Dense(5, input_shape=(4,), kernel_regularizer="l2", name="first")
    model = tf_keras.Sequential([first, layers.Dense(3, name="second")])
    model.compile(optimizer, "mse")
    train(model)
    return model


def state_of(model):
    return [weight.name for weight in model.weights], list(map(bits, model.get_weights()))


def interrupt(monkeypatch, owner, name, at):
    """Have a function raise ``KeyboardInterrupt`` in one of its calls, and in that alone."""
    calls, function = iter(range(1, 1000)), getattr(owner, name)

    def interrupted(*given, **named):
        if next(calls) == at:
            raise KeyboardInterrupt
        return function(*given, **named)

    monkeypatch.setattr(owner, name, interrupted)


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("step", ["_replace_weight_losses", "drop_weight", "set_class", "_add_weight"])
@pytest.mark.parametrize("change", [lambda model: rewriter.rewrite(model, "keep"), rewriter.split])
def test_the_surgery_of_a_layer(change, step, at, monkeypatch):
    """It had lost the layer's weights for good, and hid the interrupt behind an AttributeError."""
    model, plain = trained(), trained()
    if change is rewriter.split:
        rewriter.rewrite(model, "keep")
    before = state_of(model)
    with monkeypatch.context() as patch:
        interrupt(patch, surgery, step, at)
        with pytest.raises(KeyboardInterrupt):
            change(model)
    assert state_of(model) == before
    train(model)
    train(plain)
    assert state_of(rewriter.split(model)) == state_of(plain)


def test_biases_that_are_tried_in_the_check(monkeypatch):
    """Numbers of the check's own were left in the biases."""
    model = trained()
    before = state_of(model)
    assign = ProbeBiases._assign
    calls = []

    def interrupted(self, values):
        assign(self, values)
        calls.append(values)
        if len(calls) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(ProbeBiases, "_assign", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rewriter.rewrite(model, "keep")
    assert state_of(model) == before


def test_a_split_that_has_given_the_model_its_other_optimizer(monkeypatch):
    """The rule and its state were gone, and the model could not be trained."""
    model = trained()
    rule = rewriter.SOAP(0.003)
    rewriter.rewrite(model, rule)
    train(model)
    before = state_of(model)
    with monkeypatch.context() as patch:
        interrupt(patch, OtherOptimizers, "move", 1)
        with pytest.raises(KeyboardInterrupt):
            rewriter.split(model)
    assert state_of(model) == before
    assert model.optimizer is rule
    train(model)


class Strict(logging.Handler):
    """What test suites have that take each line of a log for a failure."""

    def emit(self, record):
        raise RuntimeError(record.getMessage())


def test_a_handler_of_the_log_that_raises(caplog):
    """All is done by then: it had left a rewritten model with the optimizer of the weights that are gone."""
    model, log, strict = trained(), logging.getLogger("rewriter"), Strict()
    caplog.set_level(logging.INFO, "rewriter")
    log.addHandler(strict)
    try:
        with pytest.raises(RuntimeError, match="2 of 2 layers"), pytest.warns(UserWarning, match="lost"):
            rewriter.rewrite(model, "SOAP")
    finally:
        log.removeHandler(strict)
    assert isinstance(model.optimizer, rewriter.SOAP)
    assert {"save", "load_weights"} <= vars(model).keys()
    train(model)
