"""Which calls count as training: what the user says of the whole model decides, and not what it says of a part."""

import logging

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers, optimizers

import rewriter

ROWS, STEPS = 8, 3


def base():
    return tf_keras.Sequential(
        [layers.Dense(4, "tanh", input_shape=(5,)), layers.BatchNormalization(), layers.Dense(3)], name="base"
    )


def functional():
    """As Keras's guide on transfer learning has it: the base's BatchNormalization does as in inference."""
    inputs = tf_keras.Input((5,))
    return tf_keras.Model(inputs, layers.Dense(2)(base()(inputs, training=False)))


class Fixed(tf_keras.Model):
    """The same, subclassed."""

    def __init__(self):
        super().__init__()
        self.base, self.head = base(), layers.Dense(2)

    def call(self, inputs, training=None):
        del training
        return self.head(self.base(inputs, training=False))


class Inferring(Fixed):
    """It takes what nobody said for inference, as many do."""

    def call(self, inputs, training=False):
        return self.head(self.base(inputs, training=training))


def own_loop(model, data, traced, **given):
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    optimizer.build(model.trainable_variables)

    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, **given) - y) ** 2)
        optimizer.apply_gradients(
            zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
        )

    take = tf.function(step) if traced else step
    for x, y in data:
        take(tf.constant(x), tf.constant(y))


def fitted(model, data):
    model.compile(model.optimizer, "mse")
    for x, y in data:
        model.train_on_batch(x, y)


LOOPS = {
    "fit": fitted,
    "a loop": lambda model, data: own_loop(model, data, traced=False),
    "a function": lambda model, data: own_loop(model, data, traced=True),
}
INFERRING = {
    "a loop": lambda model, data: own_loop(model, data, traced=False, training=False),
    "a function": lambda model, data: own_loop(model, data, traced=True, training=False),
}


def made(model, optimizer):
    model = model()
    model(np.ones((1, 5), "float32"))
    return rewriter.rewrite(model, optimizer)


def drawn(generator):
    shapes = ((ROWS, 5), (ROWS, 2))
    return [tuple(generator.standard_normal(shape).astype("float32") for shape in shapes) for _ in range(STEPS)]


def rows_seen(model):
    """How many rows each merged layer has seen, by the last number of what a centered optimizer keeps of it."""
    return {float(each.numpy()[-1]) for each in model.optimizer.variables if each.name.startswith("inputs")}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("model", [functional, Fixed, Inferring])
def test_a_part_in_inference_is_trained_all_the_same(generator, caplog, model, loop):
    trained = made(model, rewriter.Centered(optimizers.SGD(0.01), decay=1.0))
    LOOPS[loop](trained, drawn(generator))
    assert rows_seen(trained) == {STEPS * ROWS}
    trained.predict(np.ones((ROWS, 5), "float32"), verbose=0)
    trained(np.ones((ROWS, 5), "float32"))
    assert rows_seen(trained) == {STEPS * ROWS}
    assert "has seen no call" not in caplog.text


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("model", [functional, Fixed, Inferring])
def test_what_flows_back_to_it_is_measured(generator, model, loop):
    """Without that, a natural gradient is the gradient divided by the damping, or nothing at all."""
    trained = made(model, rewriter.KFAC(0.01))
    LOOPS[loop](trained, drawn(generator))
    measured = [each.numpy() for each in trained.optimizer.variables if each.name.startswith("output_moment")]
    assert len(measured) == 3
    assert all(np.trace(each) > 0 for each in measured)


@pytest.mark.parametrize("loop", INFERRING)
@pytest.mark.parametrize("rule", ["centered", "K-FAC"])
def test_inference_in_a_loop_of_ones_own_is_said(generator, caplog, rule, loop):
    """A tape records it, as for what is drawn of a network's inputs; but one who trains so is told."""
    optimizer = rewriter.Centered(optimizers.SGD(0.01), decay=1.0) if rule == "centered" else rewriter.KFAC(0.01)
    trained = made(Fixed, optimizer)
    with caplog.at_level(logging.WARNING, "rewriter"):
        INFERRING[loop](trained, drawn(generator))
    said = [record.getMessage() for record in caplog.records if "has seen no call in training" in record.getMessage()]
    assert len(said) == 1
    names = [each.name.split(":")[0] for each in trained.trainable_variables]
    assert all(name in said[0] for name in names if name.endswith("augmented_kernel"))
    assert "training=False" in said[0]


@pytest.mark.parametrize("given", [{"args": (False,)}, {"kwargs": {"training": False}}], ids=["by place", "by name"])
def test_what_is_said_of_the_whole_model_is_found(generator, given):
    trained = made(Fixed, rewriter.Centered(optimizers.SGD(0.01), decay=1.0))
    ((x, y),) = drawn(generator)[:1]
    fitted(trained, [(x, y)])
    with tf.GradientTape():
        trained(x, *given.get("args", ()), **given.get("kwargs", {}))
    assert rows_seen(trained) == {ROWS}
    with tf.GradientTape():
        trained(x)
    assert rows_seen(trained) == {2 * ROWS}


@pytest.mark.parametrize("spoilt", ["inputs", "targets"])
@pytest.mark.parametrize("rule", ["centered", "K-FAC"])
def test_a_batch_that_a_loss_scale_skips_is_not_seen(generator, rule, spoilt):
    """In float32 too: what is added up would stay infinite for ever."""
    optimizer = rewriter.Centered(optimizers.Adam(0.01)) if rule == "centered" else rewriter.KFAC(0.01)
    model = made(Fixed, optimizer)
    model.compile(tf_keras.mixed_precision.LossScaleOptimizer(model.optimizer), "mse")
    x, y = drawn(generator)[0]
    model.train_on_batch(x, y)
    bad = {"inputs": x.copy(), "targets": y.copy()}
    bad[spoilt][0, 0] = np.inf
    model.train_on_batch(bad["inputs"] if spoilt == "inputs" else x, bad["targets"] if spoilt == "targets" else y)
    assert all(np.isfinite(each.numpy()).all() for each in model.optimizer.variables)
    assert all(np.isfinite(each.numpy()).all() for each in model.trainable_variables)
    for _ in range(5):
        loss = model.train_on_batch(x, y)
    assert np.isfinite(loss)
