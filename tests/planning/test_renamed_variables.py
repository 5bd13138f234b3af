"""Names of variables that go away: the plan and the log say so, and code that goes by them is warned of."""

import re

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers, optimizers

import rewriter
from factors import Factors
from models import batch


def build(cls=tf_keras.Sequential, optimizer="sgd"):
    inputs = tf_keras.Input((5,))
    hidden = layers.Dense(4, name="a")(inputs)
    outputs = layers.Dense(3, name="b")(hidden)
    model = tf_keras.Sequential([layers.Dense(4, input_shape=(5,), name="a"), layers.Dense(3, name="b")])
    if cls is not tf_keras.Sequential:
        model = cls(inputs, outputs)
    model.compile(optimizer, "mse")
    return model


def warned(caplog):
    return [each.getMessage() for each in caplog.records if (each.name, each.levelname) == ("rewriter", "WARNING")]


def test_the_plan_and_the_log_say_which_names_go_away(caplog):
    """And the JSON data lists each."""
    caplog.set_level("INFO", logger="rewriter")
    model = build()
    plan = rewriter.plan(model)
    line = "variable names: a/kernel and a/bias → a/augmented_kernel, and so on in 1 more"
    assert line in str(plan).splitlines()
    names = [{"old": [f"{each}/kernel", f"{each}/bias"], "new": f"{each}/augmented_kernel"} for each in "ab"]
    assert plan.to_dict()["names"] == names
    rewriter.rewrite(model)
    assert line in [record.getMessage() for record in caplog.records]
    assert [variable.name for variable in model.trainable_variables] == [f"{name['new']}:0" for name in names]
    assert rewriter.plan(model).to_dict()["names"] == []
    assert "variable names" not in str(rewriter.plan(model))


class WithoutDecayOfBiases(tf_keras.Model):
    def train_step(self, data):
        """Decay the biases not."""
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
            loss += 0.01 * sum(tf.nn.l2_loss(v) for v in self.trainable_variables if "bias" not in v.name)
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return {"loss": loss}


class Rates(optimizers.SGD):
    """A rate for each variable, by its name."""

    def __init__(self, rates=None, **kwargs):
        super().__init__(**kwargs)
        self.rates = rates or {}

    def update_step(self, gradient, variable):
        super().update_step(gradient * self.rates.get(variable.name, 1.0), variable)

    def get_config(self):
        return {**super().get_config(), "rates": self.rates}


class Several(optimizers.SGD):
    """Stores names of weights, as a MultiOptimizer does."""

    def __init__(self, model, **kwargs):
        super().__init__(**kwargs)
        self.specs = [{"weights": [variable.name for variable in layer.weights]} for layer in model.layers]


class Patterns(optimizers.SGD):
    def __init__(self, patterns, **kwargs):
        super().__init__(**kwargs)
        self.patterns = patterns


class InItsClass(optimizers.SGD):
    """Says in its class which variables it leaves alone."""

    LEFT_ALONE = ("bias", "gamma")

    def update_step(self, gradient, variable):
        alone = any(map(variable.name.count, self.LEFT_ALONE))
        super().update_step(0 * gradient if alone else gradient, variable)


class InCode(optimizers.SGD):
    def update_step(self, gradient, variable):
        super().update_step(0.5 * gradient if variable.name.endswith("bias:0") else gradient, variable)


OPTIMIZERS = {
    "keys of a dict": lambda model: Rates({"a/bias:0": 2.0}),
    "lists": Several,
    "a pattern": lambda model: Patterns(["LayerNorm", "bias"]),
    "a compiled pattern": lambda model: Patterns(re.compile("a/(kernel|gamma)")),
    "parts of names, as keys": lambda model: Rates({"bias": 10.0}),
    "its class": lambda model: InItsClass(),
    "its code": lambda model: InCode(),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_optimizer_that_goes_by_names_is_warned_of(kind, when, caplog):
    """Given to a plain model, or to one that is rewritten already."""
    model = build()
    optimizer = OPTIMIZERS[kind](model)
    if when == "after":
        rewriter.rewrite(model)
    rewriter.rewrite(model, optimizer=optimizer)
    (said,) = warned(caplog)
    assert said.startswith(f"{type(optimizer).__name__} goes by names of variables, ")
    assert "a/kernel and a/bias → a/augmented_kernel" in said


def test_a_train_step_that_goes_by_names_is_warned_of(caplog):
    """It would let biases decay from then on."""
    model = build(WithoutDecayOfBiases)
    rewriter.rewrite(model, optimizer="keep")
    (said,) = warned(caplog)
    assert said.startswith(
        f"code that is called with {model.name} goes by names of variables, 'bias', and some of these"
    )


def test_names_that_a_model_holds_are_warned_of(caplog):
    """A table of them, say; not words that are no whole names."""
    model = build(Factors)
    model.factors, model.words = {"a/kernel:0": 0.1}, ["bias", "a/b"]
    model.factor_of = lambda variable: model.factors.get(variable.name, 1.0)
    rewriter.rewrite(model, optimizer="keep")
    (said,) = warned(caplog)
    assert said.startswith(f"what {model.name} holds goes by names of variables, 'a/kernel:0', and some of these")


def test_no_false_alarm(caplog):
    """Not of Keras's own optimizers, of what matches kernel and bias alike, or of names of other layers."""
    for optimizer in (
        optimizers.Adam(name="bias"),
        optimizers.SGD(momentum=0.87),
        Rates({"c/bias:0": 2.0}),
        Patterns(["a/", "LayerNorm", "ke"]),
        rewriter.JointMomentum(),
    ):
        model = build()
        model.compile(optimizer, "mse")
        rewriter.rewrite(model, optimizer=optimizer)
        x, y = batch()
        assert np.isfinite(model.train_on_batch(x, y))
    excluding = optimizers.AdamW()
    excluding.exclude_from_weight_decay(var_names=["bias"])  # means the rows
    rewriter.rewrite(build(optimizer=excluding), optimizer="keep")
    assert warned(caplog) == []


def penalty_of_all_but_biases(model):
    return lambda: 0.1 * sum(tf.nn.l2_loss(v) for v in model.trainable_variables if "bias" not in v.name)


class Penalized(tf_keras.losses.Loss):
    def __init__(self, model):
        super().__init__()
        self.penalty = penalty_of_all_but_biases(model)

    def call(self, target, output):
        return tf.reduce_mean((target - output) ** 2, axis=-1) + self.penalty()


def in_a_layer(model):
    model.layers[0].add_loss(penalty_of_all_but_biases(model))


PLACES = {
    "add_loss": lambda model: model.add_loss(penalty_of_all_but_biases(model)),
    "add_loss of a layer": in_a_layer,
    "a loss function": lambda model: model.compile(
        "sgd", lambda target, output: tf.reduce_mean((target - output) ** 2) + penalty_of_all_but_biases(model)()
    ),
    "a loss object": lambda model: model.compile("sgd", Penalized(model)),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_penalty_that_goes_by_names_is_warned_of(place, caplog):
    """Wherever Keras calls it from."""
    model = build()
    PLACES[place](model)
    rewriter.rewrite(model, optimizer="keep", check=False)
    (said,) = warned(caplog)
    assert "goes by names of variables, 'bias'" in said


def test_what_a_subclass_overrides_is_not_warned_of(caplog):
    """It is not called."""

    class Overridden(WithoutDecayOfBiases):
        def train_step(self, data):
            return tf_keras.Model.train_step(self, data)

    rewriter.rewrite(build(Overridden), optimizer="keep")
    excluding = optimizers.AdamW()
    model = build()
    excluding.exclude_from_weight_decay(var_list=[model.layers[0].bias])
    model.compile(excluding, "mse")
    rewriter.rewrite(model, optimizer="keep")
    assert warned(caplog) == []
