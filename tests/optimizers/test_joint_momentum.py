"""Joint momentum against oracles that share no code with it: NumPy in float64, with the full V, and plain Keras."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from hypothesis import given, settings
from hypothesis import strategies as st
from tf_keras import layers, optimizers

import rewriter
from arrays import bits
from models import MODELS, batch, fit, trained_pair
from momentum_oracle import MOMENTUM, RATE, augmented, oracle, relative_error, train
from rewriter import JointMomentum
from short_cases import cases

STEPS = 200
TOLERANCE = {"float64": 1e-12, "float32": 1e-4}
AXIS = {"incoming": 0, "outgoing": 1}


# Each as Keras has it and as NumPy computes it, in numbers that float32 holds exactly.
SCHEDULES = {
    "constant": (RATE, lambda steps: np.full(len(steps), RATE)),
    "halved": (
        optimizers.schedules.ExponentialDecay(0.125, 300, 0.5, staircase=True),
        lambda steps: 0.125 * 0.5 ** (steps // 300),
    ),
    "pieces": (
        optimizers.schedules.PiecewiseConstantDecay([99, 499], [0.25, 0.0625, 0.015625]),
        lambda steps: np.select([steps <= 99, steps <= 499], [0.25, 0.0625], 0.015625),
    ),
}


@settings(max_examples=25, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(2, 40), st.integers(1, 20)), min_size=1, max_size=3),
    dtype=st.sampled_from(["float64", "float64", "float32"]),
    schedule=st.sampled_from(sorted(SCHEDULES)),
    average=st.sampled_from(sorted(AXIS)),
    nesterov=st.booleans(),
    momentum=st.sampled_from([0, 0.5, 0.87, 0.9, 0.97, 1]),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_the_full_rule(shapes, dtype, schedule, average, nesterov, momentum, seed):
    """With and without merged variables, 1,000 steps end where the rule that stores V ends."""
    generator = np.random.default_rng(seed)
    values = [generator.standard_normal(shape).astype(dtype) for shape in [*shapes, (5, 3)]]
    gradients = [generator.standard_normal((1000, *value.shape)).astype(dtype) for value in values]
    variables = [*(augmented(value, f"d{index}") for index, value in enumerate(values[:-1])), tf.Variable(values[-1])]
    given_to_keras, in_numpy = SCHEDULES[schedule]
    optimizer = JointMomentum(given_to_keras, momentum, average, nesterov)
    train(optimizer, variables, gradients)
    rates = in_numpy(np.arange(1000))
    for variable, value, steps in zip(variables, values, gradients, strict=True):
        axis = None if variable is variables[-1] else AXIS[average]
        expected = oracle(value, steps, axis, rates, momentum, nesterov)
        assert relative_error(variable.numpy(), expected) <= TOLERANCE[dtype]
    assert int(optimizer.iterations) == 1000


@pytest.mark.parametrize(("dtype", "tolerance"), cases([("float64", 1e-12), ("float32", 1e-3)], [("float64", 1e-12)]))
def test_equals_the_rule_as_it_is_usually_written(generator, dtype, tolerance):
    """Merged by hand, with a slot of full size and a mean over its axis, 500 steps of a 784-256-256-10 network."""
    x = generator.standard_normal((500, 16, 784)).astype("float32").astype(dtype)  # fit rounds what it is given
    y = generator.integers(0, 10, (500, 16))
    model = tf_keras.Sequential(
        [
            layers.Dense(256, activation="relu", input_shape=(784,), dtype=dtype),
            layers.Dense(256, activation="relu", dtype=dtype),
            layers.Dense(10, dtype=dtype),
        ]
    )
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    values = model.get_weights()
    weights = [tf.Variable(np.vstack([kernel, bias])) for kernel, bias in zip(values[::2], values[1::2], strict=True)]
    velocities = [tf.Variable(tf.zeros_like(weight)) for weight in weights]

    @tf.function
    def by_hand(x, y):
        with tf.GradientTape() as tape:
            for index, weight in enumerate(weights):
                x = tf.concat([x, tf.ones((len(x), 1), x.dtype)], axis=1) @ weight
                x = tf.nn.relu(x) if index < 2 else x
            value = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, x))
        for weight, velocity, gradient in zip(weights, velocities, tape.gradient(value, weights), strict=True):
            velocity.assign(gradient + MOMENTUM * tf.reduce_mean(velocity, axis=0))
            weight.assign_sub(RATE * velocity)

    model.compile("sgd", loss)
    rewriter.rewrite(model, optimizer=JointMomentum(RATE, MOMENTUM))
    model.fit(x.reshape(-1, 784), y.reshape(-1), batch_size=16, shuffle=False, verbose=0)
    for step in range(500):
        by_hand(tf.constant(x[step]), tf.constant(y[step]))
    for layer, weight, before in zip(model.layers, weights, values[::2], strict=True):
        assert relative_error(layer.augmented_kernel.numpy(), weight.numpy()) <= tolerance
        assert relative_error(weight.numpy()[:-1], before) > 0.1


@pytest.mark.parametrize("nesterov", [False, True], ids=["plain", "nesterov"])
def test_a_float64_model_is_trained_in_float64(generator, nesterov):
    """With floatx float64 every number that is given, the learning rate too, reaches the weights unrounded."""
    values, gradients = generator.standard_normal((7, 4)), generator.standard_normal((300, 7, 4))
    tf_keras.backend.set_floatx("float64")
    try:
        variable = augmented(values)
        train(JointMomentum(0.03, 0.87, nesterov=nesterov, weight_decay=0.1), [variable], [gradients])
    finally:
        tf_keras.backend.set_floatx("float32")
    rows = np.full((7, 1), 0.1)
    rows[-1] = 0
    expected = oracle(values, gradients, 0, 0.03, 0.87, nesterov, rows)
    assert relative_error(variable.numpy(), expected) <= 1e-12


def test_the_velocity_of_a_float64_sgd_is_divided_by_the_rate_it_was_made_with(generator):
    """Not by that rate in float32; the rate is what SGD's own variable holds."""
    tf_keras.backend.set_floatx("float64")
    try:
        model = tf_keras.Sequential([layers.Dense(4, input_shape=(6,))])
        model.compile(optimizers.SGD(0.03, momentum=0.87), "mse")
        model.fit(generator.standard_normal((8, 6)), generator.standard_normal((8, 4)), verbose=0)
        kernel, bias = (slot.numpy() for slot in model.optimizer.momentums)
        rewriter.rewrite(model)
    finally:
        tf_keras.backend.set_floatx("float32")
    expected = -np.vstack([kernel, bias]).mean(axis=0) / 0.03
    assert model.optimizer.momentum == 0.87
    assert relative_error(model.optimizer.momentums[0].numpy(), expected) <= 1e-14


@pytest.mark.parametrize(("average", "numbers"), [("incoming", 4), ("outgoing", 7)])
def test_state_is_compact(average, numbers):
    """An augmented kernel costs one number a unit (or a row); any other variable its own size."""
    optimizer = JointMomentum(average=average)
    optimizer.build([augmented(np.zeros((7, 4))), tf.Variable(tf.zeros((3, 2)))])
    assert [tuple(slot.shape) for slot in optimizer.momentums] == [(numbers,), (3, 2)]
    assert optimizer.momentums[0].dtype == tf.float64


def clip_by_norm(gradients, bound):
    return [gradient * min(1, bound / np.linalg.norm(gradient)) for gradient in gradients]


def clip_by_global_norm(gradients, bound):
    return [gradient * min(1, bound / np.sqrt(sum(np.sum(each**2) for each in gradients))) for gradient in gradients]


# What Keras's settings do to the gradients of one step, in NumPy.
CLIPPING = {
    "clipnorm": (2.0, lambda gradients: clip_by_norm(gradients, 2.0)),
    "clipvalue": (0.5, lambda gradients: [np.clip(gradient, -0.5, 0.5) for gradient in gradients]),
    "global_clipnorm": (2.0, lambda gradients: clip_by_global_norm(gradients, 2.0)),
}


@pytest.mark.parametrize("setting", CLIPPING)
@pytest.mark.parametrize("nesterov", [False, True], ids=["plain", "nesterov"])
def test_gradients_are_clipped(generator, setting, nesterov):
    """As by NumPy: an augmented kernel whole, every other variable for itself, or all together."""
    bound, clip = CLIPPING[setting]
    values = [generator.standard_normal(shape) for shape in ((7, 4), (5, 3))]
    gradients = [generator.standard_normal((STEPS, *value.shape)) for value in values]
    variables = [augmented(values[0]), tf.Variable(values[1])]
    train(JointMomentum(RATE, MOMENTUM, nesterov=nesterov, **{setting: bound}), variables, gradients)
    clipped = list(zip(*(clip(step) for step in zip(*gradients, strict=True)), strict=True))
    for variable, value, steps, axis in zip(variables, values, clipped, (0, None), strict=True):
        expected = oracle(value, np.array(steps), axis, nesterov=nesterov)
        assert relative_error(variable.numpy(), expected) <= 1e-12


@pytest.mark.parametrize("decay_bias", [False, True])
def test_weight_decay_leaves_the_bias_row_alone_unless_asked(generator, decay_bias):
    """Decoupled decay, times the learning rate, of the kernel rows; of the bias row with decay_bias; of the others."""
    values = [generator.standard_normal(shape) for shape in ((5, 3), (4, 2))]
    gradients = [generator.standard_normal((STEPS, *value.shape)) for value in values]
    variables = [augmented(values[0]), tf.Variable(values[1])]
    train(JointMomentum(RATE, MOMENTUM, weight_decay=0.03, decay_bias=decay_bias), variables, gradients)
    rows = np.full((5, 1), 0.03)
    rows[-1] = 0.03 if decay_bias else 0
    for variable, value, steps, axis, decay in zip(variables, values, gradients, (0, None), (rows, 0.03), strict=True):
        assert relative_error(variable.numpy(), oracle(value, steps, axis, decay=decay)) <= 1e-12


@pytest.mark.parametrize("every", [None, 3], ids=["at the end", "every three steps"])
def test_moving_average(generator, every):
    """The average of the weights, bias row included, replaces them when Keras says so, as by NumPy."""
    value, gradients = generator.standard_normal((5, 3)), generator.standard_normal((7, 5, 3))
    variable = augmented(value)
    optimizer = JointMomentum(RATE, MOMENTUM, use_ema=True, ema_momentum=0.87, ema_overwrite_frequency=every)
    train(optimizer, [variable], [gradients])
    optimizer.finalize_variable_values([variable])
    average, velocity = value, np.zeros(value.shape)
    for step, gradient in enumerate(gradients):
        velocity = gradient + MOMENTUM * velocity.mean(axis=0, keepdims=True)
        value = value - RATE * velocity
        average = 0.87 * average + (1 - 0.87) * value
        value = average if every and (step + 1) % every == 0 else value
    assert relative_error(variable.numpy(), average) <= 1e-12


@pytest.mark.parametrize("nesterov", [False, True], ids=["plain", "nesterov"])
def test_sparse_gradients(generator, nesterov):
    """The gradient of an embedding, rows named twice among them, moves it as the same gradient written out would."""
    value = generator.standard_normal((6, 3))
    variable, merged = tf.Variable(value), augmented(value)
    optimizer = JointMomentum(RATE, MOMENTUM, nesterov=nesterov)
    dense = np.zeros((4, 6, 3))
    for step in dense:
        indices, values = generator.integers(0, 6, 4), generator.standard_normal((4, 3))
        np.add.at(step, indices, values)
        sparse = tf.IndexedSlices(tf.constant(values), tf.constant(indices), tf.constant([6, 3]))
        optimizer.apply_gradients([(sparse, variable), (sparse, merged)])
    assert relative_error(variable.numpy(), oracle(value, dense, nesterov=nesterov)) <= 1e-12
    assert relative_error(merged.numpy(), oracle(value, dense, 0, nesterov=nesterov)) <= 1e-12


def test_an_embedding_beside_dense_layers_trains():
    """A model with sparse gradients and merged layers is trained by fit, and the embedding moves."""
    model = tf_keras.Sequential([layers.Embedding(9, 4, input_length=3), layers.Flatten(), layers.Dense(2)])
    model.compile("sgd", "mse")
    before = model.layers[0].get_weights()[0]
    rewriter.rewrite(model)
    model.fit(np.array([[1, 2, 2], [3, 1, 0]]), np.ones((2, 2)), verbose=0)
    moved = np.any(model.layers[0].get_weights()[0] != before, axis=1)
    assert list(moved) == [True] * 4 + [False] * 5


def test_a_loss_scale_changes_nothing(generator):
    """Scaled by a power of two and back, the gradients are the same bits, and so is what becomes of the weights."""
    value, gradients = generator.standard_normal((5, 3)).astype("float32"), generator.standard_normal((9, 5, 3))
    plain, scaled = augmented(value), augmented(value)
    inner = JointMomentum(RATE, MOMENTUM, clipnorm=3.0, weight_decay=0.5)
    wrapper = tf_keras.mixed_precision.LossScaleOptimizer(JointMomentum.from_config(inner.get_config()))
    for gradient in gradients.astype("float32"):
        inner.apply_gradients([(tf.constant(gradient), plain)])
        wrapper.apply_gradients(
            [(wrapper.get_unscaled_gradients([tf.constant(gradient) * wrapper.loss_scale])[0], scaled)]
        )
    assert bits(scaled.numpy()) == bits(plain.numpy())


def test_compiled_by_xla():
    """jit_compile of the model, and of the update alone, ends where the plain graph ends, to rounding."""
    results = []
    for model_jit, update_jit in ((False, False), (True, False), (False, True)):
        tf_keras.utils.set_random_seed(5)
        model = MODELS["sequential"]()
        model.compile("sgd", "mse", jit_compile=model_jit)
        joint = JointMomentum(RATE, MOMENTUM)
        joint.jit_compile = update_jit  # Keras drops it where there is no GPU
        rewriter.rewrite(model, optimizer=joint)
        fit(model, 2)
        results.append(np.concatenate([weight.reshape(-1) for weight in model.get_weights()]))
    assert relative_error(results[1], results[0]) <= 1e-5
    assert relative_error(results[2], results[0]) <= 1e-5


@pytest.mark.parametrize("nesterov", [False, True], ids=["plain", "nesterov"])
def test_on_a_model_that_was_never_rewritten_it_is_ordinary_momentum_and_says_so(nesterov):
    """One warning that names the remedy, and the weights that Keras's SGD with momentum gives."""
    pair = trained_pair(MODELS["sequential"], epochs=0)
    pair[0].compile(optimizers.SGD(RATE, MOMENTUM, nesterov=nesterov), "mse")
    pair[1].compile(JointMomentum(RATE, MOMENTUM, nesterov=nesterov), "mse")
    fit(pair[0], 2)
    with pytest.warns(UserWarning, match=r"none of them is an augmented kernel.*rewriter\.rewrite\(model") as warned:
        fit(pair[1], 2)
    assert len(warned) == 1
    fit(pair[0])
    fit(pair[1])
    for weight, expected in zip(pair[1].get_weights(), pair[0].get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"learning_rate": -0.1}, r"learning_rate must be a finite number >= 0 or a LearningRateSchedule, got -0\.1"),
        ({"learning_rate": "fast"}, "learning_rate must be .* got 'fast'"),
        ({"learning_rate": float("nan")}, "learning_rate must be .* got nan"),
        ({"momentum": 1.5}, r"momentum must be a number in \[0, 1\], got 1\.5"),
        ({"momentum": None}, r"momentum must be a number in \[0, 1\], got None"),
        ({"momentum": True}, r"momentum must be a number in \[0, 1\], got True"),
        ({"average": "both"}, "average must be one of 'incoming', 'outgoing', got 'both'"),
        ({"average": []}, r"average must be one of 'incoming', 'outgoing', got \[\]"),
        ({"weight_decay": -1}, "weight_decay must be a finite number >= 0 or None, got -1"),
        ({"clipnorm": -1}, "clipnorm must be a finite number >= 0 or None, got -1"),
        ({"clipvalue": float("inf")}, "clipvalue must be a finite number >= 0 or None, got inf"),
        ({"global_clipnorm": "1"}, "global_clipnorm must be a finite number >= 0 or None, got '1'"),
        ({"ema_momentum": 2}, r"ema_momentum must be a number in \[0, 1\], got 2"),
        ({"ema_overwrite_frequency": 0}, "ema_overwrite_frequency must be a whole number >= 1 or None, got 0"),
        ({"clipnorm": 1.0, "global_clipnorm": 1.0}, "At most one of `clipnorm` and `global_clipnorm`"),
    ],
)
def test_settings_are_checked(setting, message):
    """An illegal setting is refused with the legal range and what was given."""
    with pytest.raises(ValueError, match=message):
        JointMomentum(**setting)
    with pytest.raises(TypeError, match=r"takes no momentun=\. Did you mean 'momentum'"):
        JointMomentum(momentun=0.9)


ALL_SETTINGS = {
    "momentum": 0.25,
    "average": "outgoing",
    "nesterov": True,
    "weight_decay": 0.5,
    "decay_bias": True,
    "clipvalue": 2.0,
    "use_ema": True,
    "ema_momentum": 0.5,
    "ema_overwrite_frequency": 4,
    "name": "mine",
}


def test_config_goes_there_and_back():
    """from_config(get_config()) has the same settings, a schedule included, and so has what Keras deserializes."""
    schedule = optimizers.schedules.CosineDecay(0.5, 100)
    optimizer = JointMomentum(schedule, **ALL_SETTINGS)
    config = optimizer.get_config()
    assert ALL_SETTINGS.items() <= config.items()
    assert JointMomentum.from_config(dict(config)).get_config() == config
    serialized = optimizers.serialize(optimizer)
    assert optimizers.deserialize(serialized).get_config() == config


@pytest.mark.parametrize("suffix", [".keras", ".h5", ""])
def test_settings_and_state_are_saved(tmp_path, suffix):
    """In every format; the loaded model trains on to the same bits, moving averages and all."""
    model = MODELS["nested"]()
    model.compile("sgd", "mse")
    rewriter.rewrite(model, optimizer=JointMomentum(0.05, **ALL_SETTINGS))
    fit(model)
    rewriter.save_model(model, tmp_path / f"m{suffix}")
    loaded = rewriter.load_model(tmp_path / f"m{suffix}")
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    for each in (model, loaded):
        fit(each)
    assert [bits(weight) for weight in loaded.get_weights()] == [bits(weight) for weight in model.get_weights()]
    assert [bits(v.numpy()) for v in loaded.optimizer.variables] == [bits(v.numpy()) for v in model.optimizer.variables]


def test_exported_settings_are_those_of_the_sgd(tmp_path):
    """What SGD has too goes along: rate, momentum, nesterov, decay, clipping; plain Keras reads it."""
    model = MODELS["sequential"]()
    model.compile(optimizers.SGD(0.05, 0.75, nesterov=True, weight_decay=0.5, clipnorm=2.0), "mse")
    before = model.optimizer.get_config()
    rewriter.rewrite(model)
    assert model.optimizer.nesterov
    fit(model)
    rewriter.export(model, tmp_path / "m.keras")
    exported = tf_keras.models.load_model(tmp_path / "m.keras").optimizer
    assert type(exported) is optimizers.SGD
    assert exported.get_config() == before


def test_a_state_saved_before_the_first_step_loads_silently(caplog):
    """There is a count of iterations and nothing to lose; tf-keras would warn of a state it drops."""
    optimizer = JointMomentum()
    optimizer.build([augmented(np.zeros((3, 2)))])
    optimizer.load_own_variables({"0": np.array(5)})
    assert int(optimizer.iterations) == 5
    assert not caplog.records
    optimizer.load_own_variables({"0": np.array(1), "1": np.zeros(2), "2": np.zeros(2)})
    assert "Skipping variable loading for optimizer 'JointMomentum'" in caplog.text
    assert int(optimizer.iterations) == 5


def test_a_merge_in_training_keeps_the_moving_average():
    """Rewritten in part, trained and completed: the average of the new W* is that of its kernel and its bias."""
    model = MODELS["whole_vectors"]()
    model.compile("sgd", "mse")
    joint = JointMomentum(RATE, MOMENTUM, use_ema=True, ema_overwrite_frequency=100)
    rewriter.rewrite(model, optimizer=joint, exclude=lambda layer: layer is model.layers[1])
    model.fit(*batch(), verbose=0)
    kernel, bias = (average.numpy() for average in joint._model_variables_moving_average[1:3])
    rewriter.rewrite(model)
    average = joint._model_variables_moving_average[1].numpy()
    assert bits(average) == bits(np.vstack([kernel, bias]))
