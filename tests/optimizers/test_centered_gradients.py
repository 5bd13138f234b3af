"""The gradients of centered steps: exact, with what a user adds to them, and where steps were traced before."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tensorflow.python.framework import ops
from tf_keras import layers, optimizers

import rewriter
from centered_by_hand import ByHand
from centered_models import (
    RATE,
    assert_close,
    beside,
    by_hand,
    centered,
    data_for,
    dense_layers,
    model_of,
    shared_layer,
    stack,
)
from rewriter import Centered
from rewriter.adapters.tf_keras import graphs


@pytest.mark.usefixtures("float64")
def test_clipping_acts_on_the_changed_gradients(generator):
    """Of a merged layer the whole, kernel and bias."""
    bound = 0.5

    def clip(gradients):
        norm = np.sqrt(sum((each**2).sum() for each in gradients))
        return [each * min(1.0, bound / norm) for each in gradients]

    plain, model = stack(), centered(stack(), global_clipnorm=bound)
    data = data_for(generator, plain)
    hand = by_hand(plain)
    for x, y in data:
        hand.step(hand.gradients(x, y), clip)
    model.compile(model.optimizer, "mse")
    for x, y in data:
        model.train_on_batch(x, y)
    assert_close(model, plain.get_weights())


def regularized():
    return model_of(layers.Dense(6, activation="relu", kernel_regularizer="l2", bias_regularizer="l1"), layers.Dense(3))


class Penalized(tf_keras.Model):
    """A model whose train_step adds a penalty of all its variables, and minimizes as Keras does."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x, training=True) - y) ** 2)
            # Kernels alone, merged or not: of W* the rows that are kernel.
            loss += tf.add_n([tf.nn.l2_loss(layer.augmented_kernel[:-1]) for layer in dense_layers(self)])
        self.optimizer.minimize(loss, self.trainable_variables, tape)
        return {"loss": loss}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("way", [{}, {"jit_compile": True}, {"run_eagerly": True}], ids=["graph", "XLA", "eagerly"])
@pytest.mark.parametrize("kind", ["regularizers", "by hand"])
def test_a_penalty_of_weights_is_part_of_the_gradient(generator, kind, way):
    """It does not come through the call of a layer, from which the exact centered gradient comes."""
    made = regularized if kind == "regularizers" else stack
    plain, model = made(), made()
    if kind == "by hand":
        model = Penalized(model.input, model.output)
        model.set_weights(plain.get_weights())
    model = centered(model)
    data = data_for(generator, plain)
    hand = by_hand(plain)

    def penalty(of):
        return 0.0 if kind == "regularizers" else sum(tf.nn.l2_loss(layer.kernel) for layer in dense_layers(of))

    for x, y in data:
        hand.step(hand.gradients(x, y, penalty))
    model.compile(model.optimizer, "mse", **way)
    for x, y in data:
        model.train_on_batch(x, y)
    assert_close(model, plain.get_weights())


@pytest.mark.usefixtures("float64")
def test_fit_takes_the_exact_gradient(monkeypatch, generator):
    """From the product of the layer itself, for layers that are called once and more than once."""
    taken = []
    original = graphs.is_sum_of
    monkeypatch.setattr(graphs, "is_sum_of", lambda *given: taken.append(original(*given)) or taken[-1])
    for make in (stack, shared_layer):
        model = centered(make())
        model.compile(model.optimizer, "mse")
        model.train_on_batch(*data_for(generator, model, steps=1)[0])
    assert len(taken) >= 4
    assert all(taken)


class Doubling(optimizers.SGD):
    """A user's optimizer that has something of its own to do with gradients."""

    def compute_gradients(self, loss, var_list, tape=None):
        pairs = super().compute_gradients(loss, var_list, tape)
        return [(2 * gradient, variable) for gradient, variable in pairs]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("way", [{}, {"run_eagerly": True}, {"jit_compile": True}], ids=["graph", "eagerly", "XLA"])
@pytest.mark.parametrize("where", ["in a loop", "in the optimizer", "nowhere"])
def test_gradients_that_a_user_changes_are_centered_once(generator, where, way):
    """Between compute_gradients and apply_gradients of a step of one's own, or in an optimizer of one's own."""

    class OwnStep(tf_keras.Model):
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self(x, training=True) - y) ** 2)
            pairs = self.optimizer.compute_gradients(loss, self.trainable_variables, tape)
            if where == "in a loop":
                pairs = [(2 * gradient, variable) for gradient, variable in pairs]
            self.optimizer.apply_gradients(pairs)
            return {"loss": loss}

    plain = stack()
    data = data_for(generator, plain)
    hand = ByHand(plain, dict.fromkeys(dense_layers(plain), ((0,), beside, "kernel")), RATE)
    inner = stack()
    inner.set_weights(plain.get_weights())
    model = OwnStep(inner.inputs, inner.outputs)
    rewriter.rewrite(model, Centered((Doubling if where == "in the optimizer" else optimizers.SGD)(RATE)))
    model.compile(model.optimizer, "mse", **way)
    for x, y in data:
        hand.step([(1 if where == "nowhere" else 2) * each for each in hand.gradients(x, y)])
        model.train_on_batch(x, y)
    assert_close(model, plain.get_weights())


def test_a_gradient_without_a_step_leaves_no_graph_behind(generator):
    """For a look at the norm of gradients, say; the step that is traced after it makes use of the twins as ever."""
    model = stack()
    rewriter.rewrite(model, Centered(optimizers.SGD(RATE)))
    model.compile(model.optimizer, "mse")
    x, y = data_for(generator, model, steps=1)[0]
    x, y = tf.constant(x, tf.float32), tf.constant(y, tf.float32)

    def gradients():
        @tf.function
        def look(x, y):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
            return model.optimizer.compute_gradients(loss, model.trainable_variables, tape)[0][0]

        look(x, y)
        return weakref.ref(look.get_concrete_function(x, y).graph)

    graph = gradients()
    # TensorFlow keeps each function with a gradient of its own for ever, and the graph with it.
    registry = ops.gradient_registry._registry
    for name in [each for each in registry if each.startswith("CustomGradient-")]:
        del registry[name]
    gc.collect()
    assert graph() is None
    whole = []
    is_whole = type(model.optimizer)._rewriter_is_whole
    type(model.optimizer)._rewriter_is_whole = lambda *each: whole.append(is_whole(*each)) or whole[-1]
    try:
        model.train_on_batch(x, y)
    finally:
        del type(model.optimizer)._rewriter_is_whole
    assert whole
    assert all(whole)


@pytest.mark.usefixtures("float64")
def test_a_step_that_was_compiled_before_is_compiled_again(generator):
    """On a GPU, Keras compiles the step of each variable by itself, once, and would go on with the plain one."""
    trained, data = [], data_for(generator, stack())
    for compiled in (False, True):
        model = stack()
        rewriter.rewrite(model, optimizers.SGD(RATE, 0.9))
        model.compile(model.optimizer, "mse", run_eagerly=True)
        model.optimizer.jit_compile = compiled
        for x, y in data[:2]:
            model.train_on_batch(x, y)
        Centered(model.optimizer)
        for x, y in data[2:5]:
            model.train_on_batch(x, y)
        with rewriter.standard_form(model):
            model.train_on_batch(*data[5])
        model.train_on_batch(*data[6])
        trained.append(model.get_weights())
    assert all(np.allclose(*both, rtol=0, atol=1e-12) for both in zip(*trained, strict=True))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("loop", ["fit", "a function"])
def test_what_trains_already_goes_on_centered(generator, loop):
    """Its step is traced by then, as one that is not centered; the same with a model that has not trained."""
    data, trained = data_for(generator, stack()), []
    for before in (True, False):
        model = stack()
        model.compile(optimizers.SGD(RATE), "mse")
        rewriter.rewrite(model, "keep")
        step = step_of(model, model.optimizer)
        start = model.get_weights()
        if before:
            take = model.train_on_batch if loop == "fit" else step
            take(*data[0])
            model.set_weights(start)
        Centered(model.optimizer)
        for x, y in data[1:]:
            (model.train_on_batch if loop == "fit" else step)(x, y)
        trained.append(model.get_weights())
    assert all(np.allclose(*both, rtol=0, atol=1e-12) for both in zip(*trained, strict=True))
    hand = by_hand(plain := stack())
    for x, y in data[1:]:
        hand.step(hand.gradients(x, y))
    assert_close(model, plain.get_weights())


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("given_to", ["rewrite", "an optimizer that trains", "compile", "a loss scale"])
def test_selectors_choose_layers_whatever_the_optimizer_is_given_to(generator, given_to):
    data, trained = data_for(generator, stack()), []
    for given in ("rewrite", given_to):
        model = stack()
        model.compile(optimizers.SGD(RATE), "mse")
        selected = {"exclude": model.layers[-1].name}
        rewriter.rewrite(model, Centered(optimizers.SGD(RATE), **selected) if given == "rewrite" else "keep")
        if given == "an optimizer that trains":
            start = model.get_weights()
            model.train_on_batch(*data[0])
            model.set_weights(start)
            Centered(model.optimizer, **selected)
        elif given == "compile":
            model.compile(Centered(optimizers.SGD(RATE), **selected), "mse")
        elif given == "a loss scale":
            scaled = tf_keras.mixed_precision.LossScaleOptimizer(Centered(optimizers.SGD(RATE), **selected), False, 8)
            model.compile(scaled, "mse")
        for x, y in data[1:]:
            model.train_on_batch(x, y)
        trained.append(model.get_weights())
    assert all(np.allclose(*both, rtol=0, atol=1e-12) for both in zip(*trained, strict=True))


def test_a_selector_that_chooses_nothing_is_said_whatever_the_optimizer_is_given_to():
    model = stack()
    model.compile(optimizers.SGD(RATE), "mse")
    rewriter.rewrite(model, "keep")
    model.train_on_batch(np.ones((2, 5)), np.ones((2, 3)))
    with pytest.raises(rewriter.SelectorError, match="'encoder' matches no layer"):
        Centered(model.optimizer, exclude="encoder")
    model.train_on_batch(np.ones((2, 5)), np.ones((2, 3)))  # the optimizer is the plain one still
    assert type(model.optimizer) is optimizers.SGD
    model.compile(Centered(optimizers.SGD(RATE), exclude="encoder"), "mse")
    with pytest.raises(rewriter.SelectorError, match="'encoder' matches no layer"):
        model.train_on_batch(np.ones((2, 5)), np.ones((2, 3)))


def test_a_model_that_is_not_built_is_left_alone():
    optimizer, models = optimizers.SGD(RATE), [stack(), tf_keras.Sequential([layers.Dense(2)])]
    for model in models:
        model.compile(optimizer, "mse")
    rewriter.rewrite(models[0], "keep")
    models[0].train_on_batch(np.ones((2, 5)), np.ones((2, 3)))
    Centered(optimizer)
    models[0].train_on_batch(np.ones((2, 5)), np.ones((2, 3)))
    assert not models[1].built


def step_of(model, optimizer):
    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
        optimizer.minimize(loss, model.trainable_variables, tape)

    return step
