"""Centered steps in the ways in which people train, against the plain model trained by hand."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tensorflow.python.framework import ops
from tf_keras import layers, mixed_precision, optimizers

import rewriter
from arrays import bits
from centered_by_hand import ByHand
from rewriter import Centered
from rewriter.adapters.tf_keras import graphs
from rewriter.optimizers.centered.optimizer import is_centered
from rewriter.optimizers.state.state_size import state_sizes

RATE = float(np.float32(0.03))


def beside(mean):
    return mean[:, np.newaxis]


def model_of(*inner, shape=(5,)):
    tf_keras.utils.set_random_seed(4)
    inputs = outputs = tf_keras.Input(shape)
    for layer in inner:
        outputs = layer(outputs)
    return tf_keras.Model(inputs, outputs)


def stack():
    return model_of(layers.Dense(6, activation="relu"), layers.Dense(3))


def shared_layer():
    dense = layers.Dense(5, activation="tanh")
    return model_of(dense, dense, layers.Dense(3))


def masked():
    return model_of(layers.Masking(0.0), layers.Dense(4), layers.Dense(3), shape=(6, 5))


def data_for(generator, model, steps=8, rows=8):
    shape, out = model.input_shape[1:], model.output_shape[1:]
    batches = [
        (generator.normal(2.0, 1.0, (rows, *shape)), generator.standard_normal((rows, *out))) for _ in range(steps)
    ]
    if len(shape) > 1:
        for x, _ in batches:
            x[:, -2:] = 0.0  # what Masking leaves out
    return batches


def dense_layers(model):
    found = {id(layer): layer for layer in model.layers if isinstance(layer, layers.Dense)}
    return list(found.values())


def by_hand(model, **options):
    rank = len(model.input_shape)
    positions = tuple(range(rank - 1))
    return ByHand(model, dict.fromkeys(dense_layers(model), (positions, beside, "kernel")), RATE, **options)


def assert_close(model, expected):
    for one, other in zip(rewriter.split(model).get_weights(), expected, strict=True):
        assert np.abs(one - other).max() <= 1e-10


def centered(model, **settings):
    rewriter.rewrite(model, Centered(optimizers.SGD(RATE, **settings)))
    return model


MODELS = {"stack": stack, "a layer called twice": shared_layer, "masked": masked}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("loop", ["fit", "tape", "eager tape"])
@pytest.mark.parametrize("name", MODELS)
def test_fit_and_a_loop_with_a_tape(generator, name, loop):
    """In a loop nobody says that the call is one of training; a tape that records says so."""
    if (name, loop) == ("masked", "fit"):
        pytest.skip("fit also leaves masked positions out of the loss")
    plain, model = MODELS[name](), centered(MODELS[name]())
    data = data_for(generator, plain)
    hand = by_hand(plain)
    for x, y in data:
        hand.step(hand.gradients(x, y))
    if loop == "fit":
        model.compile(model.optimizer, "mse")
        for x, y in data:
            model.train_on_batch(x, y)
    else:

        def step(x, y):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(x) - y) ** 2)
            gradients = tape.gradient(loss, model.trainable_variables)
            model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

        step = tf.function(step) if loop == "tape" else step
        for x, y in data:
            step(tf.constant(x), tf.constant(y))
    assert_close(model, plain.get_weights())


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("way", [{}, {"run_eagerly": True}], ids=["graph", "eagerly"])
def test_a_mask_counts_where_the_input_is_cast_for_the_layer(way):
    """Keras leaves it with what was cast, as of a layer in float32 before one in mixed precision."""
    trained = []
    for dtype in ("float32", "float64"):
        model = centered(model_of(layers.Masking(0.0, dtype=dtype), layers.Dense(4), layers.Dense(3), shape=(6, 5)))
        model.compile(model.optimizer, "mse", **way)
        for x, y in data_for(np.random.default_rng(2), model):
            model.train_on_batch(x.astype("float32"), y)
        trained.append([bits(each) for each in model.get_weights()])
    assert trained[0] == trained[1]


@pytest.mark.usefixtures("float64")
def test_micro_batches_of_one_step_share_one_mean(generator):
    plain, model = stack(), centered(stack())
    data = data_for(generator, plain)
    hand = by_hand(plain)
    for first, second in zip(data[::2], data[1::2], strict=True):
        gradients = [hand.gradients(*first), hand.gradients(*second)]
        hand.step([(one + other) / 2 for one, other in zip(*gradients, strict=True)])
    for pair in zip(data[::2], data[1::2], strict=True):
        sums = [0.0] * len(model.trainable_variables)
        for x, y in pair:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(x, training=True) - y) ** 2) / 2
            sums = [a + b for a, b in zip(sums, tape.gradient(loss, model.trainable_variables), strict=True)]
        model.optimizer.apply_gradients(zip(sums, model.trainable_variables, strict=True))
    assert_close(model, plain.get_weights())


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


@pytest.mark.usefixtures("float64")
def test_inference_adds_nothing(generator):
    model = centered(stack())
    model.compile(model.optimizer, "mse")
    ((x, y),) = data_for(generator, model, steps=1)
    model.train_on_batch(x, y)
    seen = [each.numpy() for each in model.optimizer.variables[-2:]]
    model.predict(x, verbose=0)
    model.evaluate(x, y, verbose=0)
    model(x)
    model(x, training=False)
    rewriter.verify(model, model)
    assert [each.numpy().tobytes() for each in model.optimizer.variables[-2:]] == [each.tobytes() for each in seen]


@pytest.mark.usefixtures("float64")
def test_what_is_frozen_stays_and_what_is_not_merged_trains_as_ever(generator):
    """A layer without a bias is not merged, and trains by its own gradient."""

    def partly():
        model = model_of(layers.Dense(6, name="frozen"), layers.Dense(4, use_bias=False, name="bare"), layers.Dense(3))
        model.get_layer("frozen").trainable = False
        return model

    plain, model = partly(), centered(partly())
    data = data_for(generator, plain)
    hand = ByHand(plain, {plain.layers[-1]: ((0,), beside, "kernel")}, RATE)
    for x, y in data:
        hand.step(hand.gradients(x, y))
    model.compile(model.optimizer, "mse")
    for x, y in data:
        model.train_on_batch(x, y)
    assert_close(model, plain.get_weights())


def test_a_step_that_a_loss_scale_skips_leaves_nothing_infinite_behind(generator):
    """One batch overflows in float16: the step is skipped, and training goes on with finite means."""
    model = model_of(layers.Dense(6, dtype="mixed_float16"), layers.Dense(3, dtype="mixed_float16"))
    rewriter.rewrite(model, mixed_precision.LossScaleOptimizer(Centered(optimizers.SGD(RATE))))
    model.compile(model.optimizer, "mse")
    assert is_centered(model.optimizer)
    (x, y), other = data_for(generator, model, steps=2)
    model.train_on_batch(x, y)
    before = [bits(each.numpy()) for each in model.trainable_variables]
    model.train_on_batch(x * 1e9, y)
    assert [bits(each.numpy()) for each in model.trainable_variables] == before
    model.train_on_batch(*other)
    assert all(np.isfinite(each.numpy()).all() for each in [*model.variables, *model.optimizer.variables])
    seen = [each for each in model.optimizer.inner_optimizer.variables if "inputs" in each.name]
    assert [each.dtype for each in seen] == [tf.float32, tf.float32]
    assert [bits(each.numpy()) for each in model.trainable_variables] != before


def trained_in_a_loop(data, call):
    """Train two layers, of which the first is called in some way."""
    model = model_of(layers.Dense(4), layers.Dense(3))
    rewriter.rewrite(model, Centered(optimizers.SGD(RATE), decay=0.0))
    first, last = model.layers[1:]
    for x, y in data:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((last(call(first, tf.constant(x, tf.float32)), training=True) - y) ** 2)
        gradients = tape.gradient(loss, model.trainable_variables)
        model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return model.get_weights()


def test_a_layer_that_recomputes_its_forward_pass_has_the_same_mean(generator):
    """tf.recompute_grad calls a layer twice: sum and number both count twice, and the mean is what it is."""
    data = [(x, y.astype("float32")) for x, y in data_for(generator, model_of(layers.Dense(3)), steps=3)]
    ways = (
        lambda layer, x: layer(x, training=True),
        lambda layer, x: tf.recompute_grad(lambda value: layer(value, training=True))(x),
    )
    one, other = (trained_in_a_loop(data, call) for call in ways)
    assert all(np.allclose(*both, rtol=1e-5, atol=1e-6) for both in zip(one, other, strict=True))


def test_two_models_that_share_a_layer_train_each_under_its_own_means():
    """What the layer sees counts for both optimizers. The one that steps moves the weights, as if it were alone."""
    trained = []
    for shares in (False, True):
        dense = layers.Dense(6, activation="relu")
        model = model_of(dense, layers.Dense(3))
        other = tf_keras.Model(model.input, layers.Dense(2)(dense.output))
        rewriter.rewrite(model, Centered(optimizers.SGD(RATE)))
        if shares:
            rewriter.rewrite(other, Centered(optimizers.SGD(RATE)))
        model.compile(model.optimizer, "mse")
        for x, y in data_for(np.random.default_rng(1), model):
            model.train_on_batch(x, y)
        trained.append(model.get_weights())
    assert all(np.allclose(*both, rtol=1e-5, atol=1e-6) for both in zip(*trained, strict=True))


def test_the_state_that_inspect_and_plan_count_has_the_means_in_it():
    """Adam keeps two numbers a weight; centered one for each feature too, and three for the layer.

    These are the count of what it saw, the scale of its bias's step, and how far that may go.
    """
    model = stack()
    rewriter.rewrite(model, Centered(optimizers.Adam(RATE)))
    _, after = state_sizes(rewriter.plan(model), model)
    assert after.layers == {"dense": 4 * (2 * 6 * 6 + 5 + 3), "dense_1": 4 * (2 * 7 * 3 + 6 + 3)}


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


def test_of_ragged_inputs_the_rows_that_there_are_count(generator):
    model = tf_keras.Sequential([tf_keras.Input((None, 5), ragged=True), layers.Dense(3)])
    model.compile(optimizers.SGD(RATE), "mse")
    rewriter.rewrite(model, "centered")
    values = generator.normal(2.0, 1.0, (7, 5)).astype("float32")
    inputs = tf.RaggedTensor.from_row_lengths(values, [3, 4])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(inputs, training=True).flat_values ** 2)
    before = model.trainable_variables[0].numpy()
    gradient = tape.gradient(loss, model.trainable_variables)[0].numpy()
    model.optimizer.apply_gradients([(tf.constant(gradient), model.trainable_variables[0])])
    mean = values.mean(axis=0)
    kernel = -RATE * (gradient[:-1] - np.outer(mean, gradient[-1]))
    expected = before + np.vstack([kernel, -RATE * gradient[-1] - mean @ kernel])
    assert np.allclose(model.trainable_variables[0].numpy(), expected, rtol=1e-5, atol=1e-5)


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


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_what_was_read_before_a_step_stays_as_it_was(generator, momentum):
    """A tensor that is read shares the memory of the variable until that is changed."""
    model = stack()
    rewriter.rewrite(model, Centered(optimizers.SGD(RATE, momentum)))
    model.compile(model.optimizer, "mse")
    x, y = data_for(generator, model, steps=1)[0]
    model.train_on_batch(x, y)
    for _ in range(2):
        read = [each.read_value() for each in [*model.trainable_variables, *model.optimizer.variables]]
        copied = [each.numpy().copy() for each in read]
        model.train_on_batch(x, y)
        assert [bits(each.numpy()) for each in read] == [*map(bits, copied)]
        assert all(np.abs(each - now).max() > 0 for each, now in zip(copied, model.get_weights(), strict=False))
