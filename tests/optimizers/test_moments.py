"""What a rule is told of what its layers read and of what flows back, in the ways in which people train."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import rewriter
from asking_rule import WAYS, Asking, around, flowing_back, furthest, moments_of, numbers
from moments_oracle import Moments

# A layer, its input, what its kernel rows read, and whether the loss counts examples and not positions.


def seen(model, layer=None):
    return moments_of(model, model.layers[1] if layer is None else layer)


def dense(rule, **way):
    """A model of one hidden layer, rewritten, and a plain one."""
    model, plain = around(lambda: layers.Dense(3, "tanh"), np.zeros((6, 5)))
    rewriter.rewrite(model, rule)
    model.compile(model.optimizer, "mse", **way)
    return model, plain


def expected_of(plain, steps, decay=0.5):
    expected = Moments(decay)
    for x, y in steps:
        expected.add([(x[:, None], flowing_back(plain, plain.layers[1], x, y)[:, None])])
    return expected.means()


def drawn(count):
    return [(numbers(6, 5), numbers(6, 2)) for _ in range(count)]


pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("way", WAYS)
def test_measured_every_other_step(way):
    model, plain = dense(Asking(every=2), **WAYS[way])
    steps = drawn(5)
    for x, y in steps:
        model.train_on_batch(x, y)
    assert furthest(seen(model), expected_of(plain, steps[::2])) <= 1e-10


def test_in_a_loop_of_ones_own():
    """In a function and outside; the gradient of a call in inference adds nothing."""
    for traced in (False, True):
        model, plain = dense(Asking())
        optimizer = model.optimizer

        def step(x, y, model=model, optimizer=optimizer):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(x, training=False) - y) ** 2)
            tape.gradient(loss, model.trainable_variables)
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(x) - y) ** 2)
            optimizer.apply_gradients(
                zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
            )

        steps = drawn(3)
        optimizer.build(model.trainable_variables)
        called = tf.function(step) if traced else step
        for x, y in steps:
            called(tf.constant(x), tf.constant(y))
        assert furthest(seen(model), expected_of(plain, steps)) <= 1e-10


@pytest.mark.parametrize("every", [1, 2])
def test_a_model_that_is_called_in_a_function_of_its_own(every):
    """Its way back is a function too, in which nothing is done that its gradients do not need."""
    model, plain = dense(Asking(every=every))
    called, steps = tf.function(model), drawn(3)
    for x, y in steps:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((called(tf.constant(x)) - y) ** 2)
        gradients = tape.gradient(loss, model.trainable_variables)
        model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    assert furthest(seen(model), expected_of(plain, steps[::every])) <= 1e-10


def jacobian(model, x, **mode):
    with tf.GradientTape() as tape:
        outputs = model(x, **mode)
    return tape.jacobian(outputs, model.trainable_variables)


def of_each_example(model, x, **mode):
    def gradients(example):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(example[tf.newaxis], **mode) ** 2)
        return tape.gradient(loss, model.trainable_variables)

    return tf.vectorized_map(gradients, x)


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("found", [jacobian, of_each_example])
def test_what_is_vectorized_is_not_measured(found, traced):
    """TensorFlow has an error of its own for it, which names nothing."""
    model, plain = dense(Asking())
    x = tf.constant(numbers(6, 5))

    def of(model, **mode):
        called = tf.function(lambda: found(model, x, **mode)) if traced else lambda: found(model, x, **mode)
        return called()

    with pytest.raises(rewriter.RewriterError, match=r"Asking measures .*kernel.* training=False"):
        of(model)
    kernel, bias, *_ = of(plain)
    merged, *_ = of(model, training=False)
    np.testing.assert_array_equal(merged[..., :-1, :], kernel)
    np.testing.assert_array_equal(merged[..., -1, :], bias)


def test_several_steps_in_one_execution_and_clipping():
    model, plain = dense(Asking(global_clipnorm=1e-3), steps_per_execution=3)
    steps = drawn(6)
    model.fit(
        np.concatenate([x for x, _ in steps]),
        np.concatenate([y for _, y in steps]),
        batch_size=6,
        shuffle=False,
        verbose=0,
    )
    assert furthest(seen(model), expected_of(plain, steps)) <= 1e-10


@pytest.mark.parametrize("way", WAYS)
def test_a_layer_that_is_called_twice(way):
    """What both calls see is added, as positions of the same examples."""

    def model_of():
        tf_keras.utils.set_random_seed(3)
        x = tf_keras.Input((5,))
        shared = layers.Dense(5, "tanh", name="shared")
        return tf_keras.Model(x, layers.Dense(2)(shared(shared(x))))

    model, plain = model_of(), model_of()
    rewriter.rewrite(model, Asking())
    model.compile(model.optimizer, "mse", **WAYS[way])
    expected, shared = Moments(), plain.get_layer("shared")
    for x, y in drawn(3):
        kernel, bias = shared.weights
        with tf.GradientTape() as tape:
            before = [tf.matmul(tf.constant(x), kernel) + bias]
            tape.watch(before[0])
            between = tf.tanh(before[0])
            before.append(tf.matmul(between, kernel) + bias)
            tape.watch(before[1])
            loss = tf.reduce_mean((plain.layers[-1](tf.tanh(before[1])) - y) ** 2)
        backs = tape.gradient(loss, before)
        calls = zip((x, between.numpy()), backs, strict=True)
        expected.add([(read[:, None], back.numpy()[:, None]) for read, back in calls])
        model.train_on_batch(x, y)
    assert furthest(seen(model, model.get_layer("shared")), expected.means()) <= 1e-10


def test_what_a_mask_leaves_out_does_not_count():
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(3)

    def model_of():
        tf_keras.utils.set_random_seed(3)
        inputs = tf_keras.Input((4, 5))
        return tf_keras.Model(inputs, layers.Dense(2)(layers.Dense(3, "tanh", name="hidden")(layers.Masking()(inputs))))

    model, plain = model_of(), model_of()
    rewriter.rewrite(model, Asking())
    model.compile(model.optimizer, "mse")
    x, y = numbers(6, 4, 5), numbers(6, 4, 2)
    x[1, 2:] = 0
    x[4] = 0
    kept = np.any(x != 0, axis=-1)
    hidden, head = plain.layers[-2:]
    before = tf.matmul(tf.constant(x), hidden.kernel) + hidden.bias
    with tf.GradientTape() as tape:
        tape.watch(before)
        errors = tf.reduce_mean((head(tf.tanh(before)) - y) ** 2, axis=-1)
        loss = tf.reduce_sum(errors * kept) / kept.sum()  # as Keras leaves them out of the loss
    back = tape.gradient(loss, before).numpy()
    expected = Moments()
    expected.add([(x[kept][:, None], back[kept][:, None])])
    model.train_on_batch(x, y)
    assert furthest(seen(model, model.get_layer("hidden")), expected.means()) <= 1e-10


def test_gradients_that_are_accumulated_in_a_train_step():
    """Two halves of a batch, each of which has a loss of half its mean."""

    @tf_keras.saving.register_keras_serializable("tests")
    class Accumulating(tf_keras.Model):
        def train_step(self, data):
            x, y = data
            sums = None
            for rows in (slice(0, 3), slice(3, 6)):
                with tf.GradientTape() as tape:
                    loss = tf.reduce_mean((self(x[rows], training=True) - y[rows]) ** 2) / 2
                of_half = tape.gradient(loss, self.trainable_variables)
                sums = of_half if sums is None else [a + b for a, b in zip(sums, of_half, strict=True)]
            self.optimizer.apply_gradients(zip(sums, self.trainable_variables, strict=True))
            return {}

    plain = dense(Asking())[1]
    inputs = tf_keras.Input((5,))
    model = Accumulating(inputs, layers.Dense(2)(layers.Dense(3, "tanh")(inputs)))
    model.set_weights(plain.get_weights())
    rewriter.rewrite(model, Asking())
    model.compile(model.optimizer)
    expected = Moments()
    for x, y in drawn(2):
        back = flowing_back(plain, plain.layers[1], x, y)
        expected.add([(x[:3, None], back[:3, None]), (x[3:, None], back[3:, None])])
        model.train_on_batch(x, y)
    assert furthest(seen(model), expected.means()) <= 1e-10


def test_recomputed_layers():
    model, plain = dense(Asking())
    hidden, head = model.layers[1], model.layers[-1]
    steps = drawn(3)
    model.optimizer.build(model.trainable_variables)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((head(tf.recompute_grad(lambda given: hidden(given, training=True))(x)) - y) ** 2)
        gradients = tape.gradient(loss, model.trainable_variables)
        model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    for x, y in steps:
        step(tf.constant(x), tf.constant(y))
    assert furthest(seen(model), expected_of(plain, steps)) <= 1e-10


def test_two_models_that_share_a_layer_each_have_their_own():
    model, _ = dense(Asking())
    tf_keras.utils.set_random_seed(8)
    other = tf_keras.Model(model.inputs, layers.Dense(2)(layers.Flatten()(model.layers[1].output)))
    rewriter.rewrite(other, Asking())
    other.compile(other.optimizer, "mse")
    steps = drawn(2)
    for x, y in steps:
        model.train_on_batch(x, y)
        other.train_on_batch(x, numbers(6, 2))
    kernel = model.layers[1].augmented_kernel
    one, two = (each.optimizer.statistic("output_moment", kernel).numpy() for each in (model, other))
    assert np.abs(one - two).max() > 1e-3


def test_layers_that_are_not_measured_say_so(caplog):
    class Own(layers.Dense):
        def call(self, inputs):
            return super().call(inputs) * 2

    class Standardized(layers.Conv1D):
        def convolution_op(self, inputs, kernel):
            return super().convolution_op(inputs, kernel - tf.reduce_mean(kernel))

    tf_keras.utils.set_random_seed(3)
    model = tf_keras.Sequential(
        [
            layers.InputLayer((4, 5)),
            Standardized(3, 1, name="standardized"),
            layers.GRU(3, return_sequences=True),
            Own(3, name="own"),
            layers.Dense(2),
        ]
    )
    with caplog.at_level("INFO", logger="rewriter"):
        rewriter.rewrite(model, rewriter.KFAC(), layers="all")
    said = [each.getMessage() for each in caplog.records if "AdamW" in each.getMessage()]
    assert said == [
        "KFAC: AdamW for standardized, of which it is not known what flows back",
        "KFAC: AdamW for gru/cell, of which it is not known what flows back",
        "KFAC: AdamW for own, of which it is not known what flows back",
    ]
    model.compile(model.optimizer, "mse")
    model.train_on_batch(numbers(6, 4, 5), numbers(6, 4, 2))


def test_ragged_inputs():
    x = tf.RaggedTensor.from_row_lengths(numbers(9, 5), [4, 2, 3])
    tf_keras.utils.set_random_seed(3)
    inputs = tf_keras.Input((None, 5), ragged=True)
    model = tf_keras.Model(inputs, layers.Dense(3, "tanh")(inputs))
    rewriter.rewrite(model, Asking())
    hidden, optimizer = model.layers[-1], model.optimizer
    optimizer.build(model.trainable_variables)
    kernel, bias = hidden.kernel, hidden.bias
    before = tf.matmul(x.flat_values, kernel) + bias
    with tf.GradientTape() as tape:
        tape.watch(before)
        loss = tf.reduce_mean(tf.tanh(before) ** 2)
    back = tape.gradient(loss, before).numpy()
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(x, training=True).flat_values ** 2)
    optimizer.apply_gradients(
        zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
    )
    expected = Moments()
    expected.add([(x.flat_values.numpy()[:, None], back[:, None])])
    assert furthest(seen(model, hidden), expected.means()) <= 1e-10


@pytest.mark.parametrize("floatx", ["float32"])
def test_steps_that_a_loss_scale_skips_are_not_counted(floatx):
    """Those before the first that is taken: each layer starts with one batch, whatever overflowed."""
    tf_keras.backend.set_floatx(floatx)
    found = []
    for scale in (2.0**8, 2.0**20):
        tf_keras.backend.clear_session()
        tf_keras.utils.set_random_seed(3)
        half = tf_keras.mixed_precision.Policy("mixed_float16")
        model = tf_keras.Sequential(
            [layers.InputLayer((5,)), layers.Dense(4, "tanh", dtype=half), layers.Dense(1, dtype="float32")]
        )
        inner = Asking()
        model.compile("sgd", "mse")
        rewriter.rewrite(model, tf_keras.mixed_precision.LossScaleOptimizer(inner, initial_scale=scale))
        x, y = np.ones((6, 5), "float32"), np.full((6, 1), 60.0, "float32")
        steps, skipped = 0, True
        while skipped:
            before = float(model.optimizer.loss_scale)
            model.train_on_batch(x, y)
            skipped = float(model.optimizer.loss_scale) < before
            steps += 1
        found.append([inner.statistic("output_moment", layer.augmented_kernel).numpy() for layer in model.layers])
    assert steps > 2
    for one, other in zip(*found, strict=True):
        assert np.allclose(one, other, rtol=1e-2)


def test_reduced_positions_of_masks_of_different_lengths():
    """The mean over those that are there, each example with the same weight."""
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(3)
    inputs = tf_keras.Input((4, 5))
    model = tf_keras.Model(inputs, layers.Dense(2)(layers.Dense(3, "tanh", name="hidden")(layers.Masking()(inputs))))
    rewriter.rewrite(model, Asking(reduce=True))
    model.compile(model.optimizer, "mse")
    x = numbers(6, 4, 5)
    x[1, 2:], x[4] = 0, 0
    model.train_on_batch(x, numbers(6, 4, 2))
    means = np.stack([np.append(each[np.any(each != 0, axis=-1)].mean(axis=0), 1) for each in x[[0, 1, 2, 3, 5]]])
    found = model.optimizer.statistic("input_moment", model.get_layer("hidden").augmented_kernel).numpy()
    assert np.abs(found - means.T @ means / len(means)).max() <= 1e-12
