"""The check runs a user's code in training mode too: what writes to a kernel there alone would fail in training."""

import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import rewriter
from arrays import bits
from model_state import assert_untouched, state
from models import batch, fit, trained_pair


def clip(layer):
    """Outside of any class, so that reading the code of the layers does not find it."""
    layer.kernel.assign(tf.clip_by_value(layer.kernel, -1.0, 1.0))


class ClipsInTraining(layers.Layer):
    def __init__(self, inner, **options):
        super().__init__(**options)
        self.inner = inner

    def call(self, inputs, training=None):
        if training:
            clip(self.inner)
        return self.inner(inputs)


class FailsInTraining(layers.Layer):
    """It never could be trained; that is nothing to do with a merge."""

    def call(self, inputs, training=None):
        if training:
            raise NotImplementedError("for inference alone")
        return inputs


def with_clipping():
    return tf_keras.Sequential(
        [layers.Dense(4, input_shape=(5,)), ClipsInTraining(layers.Dense(3, name="inner"), name="clips")]
    )


def test_a_kernel_that_is_written_to_in_training_alone_is_found_by_the_check():
    preserved, model = trained_pair(with_clipping)
    before = state(model)
    with pytest.raises(rewriter.DifferenceError, match=r"clips: it failed .* in training mode: .*leave out"):
        rewriter.rewrite(model, optimizer="keep")
    assert_untouched(model, before, preserved)


def test_what_the_error_says_to_leave_out_mends_it():
    _, model = trained_pair(with_clipping)
    with pytest.raises(rewriter.DifferenceError, match=r"exclude=\['clips/inner'\]"):
        rewriter.rewrite(model, optimizer="keep")
    rewriter.rewrite(model, optimizer="keep", exclude="clips/inner")
    fit(model)


def test_a_model_that_fails_in_training_anyway_is_merged():
    model = tf_keras.Sequential([layers.Dense(4, input_shape=(5,)), FailsInTraining()])
    rewriter.rewrite(model)
    assert [decision.action for decision in rewriter.plan(model).decisions] == ["skip"]  # merged already


def test_the_run_in_training_mode_leaves_nothing_behind():
    """Statistics, random states and whatever the user's code counts are as they were."""
    model = tf_keras.Sequential([layers.Dense(4, input_shape=(5,)), layers.BatchNormalization(), Counts()])
    model.compile("adam", "mse")
    x, _ = batch()
    outputs = model(x).numpy()
    counted = model.layers[-1].calls
    rewriter.rewrite(model, optimizer="keep")
    assert model.layers[-1].calls == counted
    assert bits(model(x).numpy()) == bits(outputs)


class Counts(layers.Layer):
    def build(self, input_shape):
        self.calls = 0
        super().build(input_shape)

    def call(self, inputs, training=None):
        if training:
            self.calls += 1
        return inputs


class MakesInTraining(layers.Layer):
    """Keeps a traced function, and an average, from its first call in training on."""

    def __init__(self, make, **options):
        super().__init__(**options)
        self.make = make
        self.kept = None

    def call(self, inputs, training=None):
        if training and self.kept is None:
            self.kept = self.make(self, inputs)
        return inputs


MADE = {
    "function": lambda layer, _: tf.function(lambda: layer.losses),
    "average": lambda _, inputs: tf.Variable(tf.reduce_mean(inputs, axis=0)),
    "layer": lambda _, inputs: layers.Dense(2)(inputs),
}


@pytest.mark.parametrize("made", MADE)
def test_what_a_call_in_training_makes_is_not_made_by_the_check(made):
    model = tf_keras.Sequential([layers.Dense(4, input_shape=(5,)), MakesInTraining(MADE[made])])
    rewriter.rewrite(model)
    assert model.layers[-1].kept is None


def test_a_model_with_layers_that_only_training_builds_is_not_run_in_training():
    """They would get weights by the check's random numbers."""

    class Auxiliary(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.body, self.head = layers.Dense(4), layers.Dense(2)

        def call(self, inputs, training=None):
            outputs = self.body(inputs)
            return self.head(outputs) if training else outputs

    model = Auxiliary()
    model(batch()[0])
    with pytest.warns(UserWarning, match="rewritten in part|not built"):
        rewriter.rewrite(model)
    assert not model.head.built


class ClipsItself(layers.Dense):
    def call(self, inputs, training=None):
        if training:
            clip(self)
        return super().call(inputs)


def test_a_layer_that_writes_to_its_own_kernel_is_the_one_to_leave_out():
    """Also where the rest of the model was rewritten before."""
    model = tf_keras.Sequential([layers.Dense(4, input_shape=(5,), name="plain"), ClipsItself(3, name="clips")])
    rewriter.rewrite(model, include="plain")
    with pytest.raises(rewriter.DifferenceError, match=r"exclude=\['clips'\]"):
        rewriter.rewrite(model)
    fit_untouched = rewriter.rewrite(model, exclude="clips")
    assert fit_untouched is model
