"""The state of a centered optimizer: in a split, an export, a file, and when a compiled optimizer becomes centered."""

import numpy as np
import pytest
import tf_keras
from tf_keras import layers, optimizers

import rewriter
from arrays import bits
from centered_models import KEPT, RATE, batches, fit, small
from rewriter import Centered
from rewriter.optimizers.centered.optimizer import is_centered, observer_of


@pytest.mark.slow
@pytest.mark.parametrize("rule", KEPT)
def test_a_look_in_standard_form_changes_nothing_of_the_training(generator, rule):
    """Weights and state go on bit for bit; inside the optimizer is plain, and its first moment that of the weights."""
    data = batches(generator, 12)
    models = []
    for looks in (False, True):
        model = small()
        rewriter.rewrite(model, Centered(KEPT[rule]()))
        model.compile(model.optimizer, "mse")
        fit(model, data[:6])
        if looks:
            with rewriter.standard_form(model):
                assert type(model.optimizer).__mro__[0].__module__.startswith("tf_keras")
                assert not is_centered(model.optimizer)
        fit(model, data[6:])
        models.append(model)
    one, other = models
    assert [*map(bits, one.get_weights())] == [*map(bits, other.get_weights())]
    assert [bits(each.numpy()) for each in one.optimizer.variables] == [
        bits(each.numpy()) for each in other.optimizer.variables
    ]
    assert is_centered(other.optimizer)


def of_gradients(kernel, bias, mean):
    return kernel + np.outer(mean, bias), bias


def of_squares(kernel, bias, mean):
    return kernel + np.outer(mean**2, bias), bias


def of_sizes(kernel, bias, mean):
    return kernel + np.outer(np.abs(mean), bias), bias


def of_steps(kernel, bias, mean):
    return kernel, bias - mean @ kernel


def as_it_was(kernel, bias, _):
    return kernel, bias


# How each slot is to be changed.
IN_THE_WEIGHTS_COORDINATES = {
    "SGD": (lambda: optimizers.SGD(RATE, 0.87), {"momentums": of_gradients}),
    "Adam": (
        lambda: optimizers.Adam(RATE, amsgrad=True),
        {"_momentums": of_gradients, "_velocities": of_squares, "_velocity_hats": of_squares},
    ),
    "RMSprop": (
        lambda: optimizers.RMSprop(RATE, momentum=0.5, centered=True),
        {"_momentums": of_steps, "_velocities": of_squares, "_average_gradients": as_it_was},
    ),
    "Adagrad": (
        lambda: optimizers.Adagrad(RATE, initial_accumulator_value=0.5),
        {"_accumulators": lambda kernel, bias, mean: (kernel + np.outer(mean**2, bias - 0.5), bias)},
    ),
    "Adadelta": (
        lambda: optimizers.Adadelta(RATE),
        {"_accumulated_grads": of_squares, "_accumulated_delta_vars": as_it_was},
    ),
    "Adamax": (lambda: optimizers.Adamax(RATE), {"_m": of_gradients, "_u": of_sizes}),
    "Nadam": (lambda: optimizers.Nadam(RATE), {"_momentums": of_gradients, "_velocities": of_squares}),
    "Lion": (lambda: optimizers.Lion(RATE), {"momentums": of_gradients}),
}


@pytest.mark.parametrize("rule", IN_THE_WEIGHTS_COORDINATES)
def test_split_gives_the_optimizer_back_with_its_slots_in_the_weights_coordinates(generator, rule):
    make, changes = IN_THE_WEIGHTS_COORDINATES[rule]
    model = small()
    rewriter.rewrite(model, Centered(make()))
    model.compile(model.optimizer, "mse", run_eagerly=True)
    fit(model, batches(generator, 6))
    optimizer = model.optimizer
    observers = [observer_of(optimizer, layer.augmented_kernel) for layer in model.layers]
    means = [np.float64(each.seen[:-1]) / np.float64(each.seen[-1]) for each in observers]
    before = {name: [np.float64(each) for each in getattr(optimizer, name)] for name in changes}
    rewriter.split(model)
    assert model.optimizer is optimizer
    assert type(optimizer) is type(make())
    for name, change in changes.items():
        now = [each.numpy() for each in getattr(optimizer, name)]
        for index, (slot, mean) in enumerate(zip(before[name], means, strict=True)):
            expected = change(slot[:-1], slot[-1], mean)
            for one, other in zip(now[2 * index : 2 * index + 2], expected, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6 * np.abs(other).max())
            if change is not of_steps:
                assert np.array_equal(now[2 * index + 1], slot[-1])
    fit(model, batches(generator, 2))


def test_training_goes_on_after_a_split_with_steps_as_long_as_they_should_be(generator):
    """Gradients of a feature with a mean of 30 spreads are as much larger in the coordinates of the weights."""
    x = generator.normal(30.0, 1.0, (256, 5)).astype("float32")
    y = np.tanh(x[:, :3] - 30)
    model = small()
    rewriter.rewrite(model, Centered(optimizers.Adam(0.003)))
    model.compile(model.optimizer, "mse")
    model.fit(x, y, 32, epochs=20, verbose=0)
    rewriter.split(model)
    before = model.get_weights()
    model.train_on_batch(x[:32], y[:32])
    moved = max(np.abs(one - other).max() for one, other in zip(model.get_weights(), before, strict=True))
    assert moved <= 2 * 0.003


FORMATS = {"keras": "model.keras", "h5": "model.h5", "SavedModel": "model"}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("rule", ["SGD", "Adam", "joint momentum", "a loss scale around Adam"])
def test_training_resumes_bit_for_bit_from_a_file(generator, tmp_path, form, rule):
    data = batches(generator, 10)
    model = small()
    optimizer = Centered(KEPT[rule.split()[-1] if "around" in rule else rule](), decay=0.9)
    if "around" in rule:
        optimizer = tf_keras.mixed_precision.LossScaleOptimizer(optimizer, dynamic_growth_steps=3)
    rewriter.rewrite(model, optimizer)
    model.compile(model.optimizer, "mse")
    fit(model, data[:5])
    model.save(tmp_path / FORMATS[form])
    loaded = rewriter.load_model(tmp_path / FORMATS[form])
    assert is_centered(loaded.optimizer)
    assert is_centered(tf_keras.models.load_model(tmp_path / FORMATS[form]).optimizer)
    for each in (model, loaded):
        fit(each, data[5:])
    assert [*map(bits, loaded.get_weights())] == [*map(bits, model.get_weights())]


@tf_keras.saving.register_keras_serializable("tests_of_centered")
class Subclassed(tf_keras.Model):
    """Keras has no config of it, so that a SavedModel has it in standard form."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.last = layers.Dense(4, activation="tanh"), layers.Dense(3)

    def call(self, inputs):
        return self.last(self.first(inputs))


@pytest.mark.parametrize("form", ["keras", "SavedModel"])
@pytest.mark.parametrize("around", [False, True])
def test_so_it_does_of_a_subclassed_model(generator, tmp_path, form, around):
    """A layer that is left out stays left out, and an export has what one of the model would have."""
    data = batches(generator, 6)
    model = Subclassed()
    model(data[0][0])
    optimizer = Centered(optimizers.Adam(0.01), decay=0.9, exclude="last")
    if around:
        optimizer = tf_keras.mixed_precision.LossScaleOptimizer(optimizer)
    rewriter.rewrite(model, optimizer)
    model.compile(model.optimizer, "mse")
    fit(model, data[:3])
    model.save(tmp_path / FORMATS[form])
    loaded = rewriter.load_model(tmp_path / FORMATS[form])
    assert is_centered(loaded.optimizer)
    for each in (model, loaded):
        fit(each, data[3:])
    for each in (model, loaded):
        rewriter.split(each)
    assert [*map(bits, loaded.get_weights())] == [*map(bits, model.get_weights())]
    inner = [getattr(each.optimizer, "inner_optimizer", each.optimizer) for each in (loaded, model)]
    assert [bits(each.numpy()) for each in inner[0].variables] == [bits(each.numpy()) for each in inner[1].variables]


@pytest.mark.parametrize("form", FORMATS)
def test_an_exported_file_has_the_plain_optimizer_and_its_state(generator, tmp_path, form):
    model = small()
    model.compile(KEPT["Adam"](), "mse")
    rewriter.rewrite(model, "centered")
    fit(model, batches(generator, 5))
    rewriter.export(model, tmp_path / FORMATS[form])
    rewriter.split(model)
    loaded = rewriter.load_model(tmp_path / FORMATS[form])
    assert type(loaded.optimizer) is optimizers.Adam
    assert [*map(bits, loaded.get_weights())] == [*map(bits, model.get_weights())]
    assert [bits(each.numpy()) for each in loaded.optimizer.variables] == [
        bits(each.numpy()) for each in model.optimizer.variables
    ]


def test_the_compiled_optimizer_is_centered_with_its_state(generator):
    """Without inputs nothing moves: the mean is zero, and so the coordinates are the same."""
    data = batches(generator, 6)
    model = small()
    model.compile(KEPT["Adam"](), "mse")
    fit(model, data)
    optimizer, before = model.optimizer, [each.numpy() for each in model.optimizer.variables]
    rewriter.rewrite(model, "centered")
    assert model.optimizer is optimizer
    assert is_centered(optimizer)
    rewriter.split(model)
    assert type(optimizer) is optimizers.Adam
    assert [bits(each.numpy()) for each in optimizer.variables] == [*map(bits, before)]


def test_the_means_begin_with_those_of_inputs(generator):
    """Of the first layer it is that of the inputs, of the second that of what the first makes of them."""
    ((x, y),) = batches(generator, 1, size=40)
    model = small()
    model.compile(KEPT["SGD"](), "mse")
    fit(model, [(x, y)] * 3)
    velocity = model.optimizer.momentums[0].numpy(), model.optimizer.momentums[1].numpy()
    hidden = np.asarray(model.layers[0](x))
    rewriter.rewrite(model, "centered", inputs=x.astype("float32"))
    seen = [each.numpy() for each in model.optimizer.variables[-2:]]
    for of_layer, inputs in zip(seen, (x, hidden), strict=True):
        assert of_layer[-1] == len(x)
        assert np.allclose(of_layer[:-1] / of_layer[-1], inputs.mean(axis=0), rtol=1e-5, atol=1e-6)
    expected = velocity[0] - np.outer(x.mean(axis=0), velocity[1])
    assert np.allclose(model.optimizer.momentums[0].numpy()[:-1], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rule", ["Adam", "RMSprop", "RMSprop, centered", "Adagrad"])
def test_mean_squares_begin_with_what_the_mean_leaves_of_them(generator, rule):
    """A tenth at least; of RMSprop all, if it subtracts a square that stays."""
    x = generator.normal([0.2, 3.0, 3.0, -1.0, 8.0], 1.0, (40, 5)).astype("float32")
    y = generator.standard_normal((40, 3))
    model = small()
    optimizer = optimizers.RMSprop(RATE, centered=True) if rule == "RMSprop, centered" else KEPT[rule]()
    model.compile(optimizer, "mse")
    fit(model, [(x, y)] * 3)
    name, start = ("_accumulators", 0.1) if rule == "Adagrad" else ("_velocities", 0.0)
    kernel, bias = (np.float64(each) - start for each in getattr(optimizer, name)[:2])
    rewriter.rewrite(model, "centered", inputs=x)
    left = kernel - np.outer(np.float64(x).mean(axis=0) ** 2, bias)
    assert (left > 0.1 * kernel).any()
    assert (left < 0.1 * kernel).any()
    expected = kernel if rule == "RMSprop, centered" else np.maximum(left, 0.1 * kernel)
    now = getattr(model.optimizer, name)[0].numpy() - start
    np.testing.assert_allclose(now, np.vstack([expected, bias]), rtol=1e-4, atol=1e-6 * (kernel.max() + start))


def test_a_split_in_float16_has_numbers():
    """The square of a mean of 300 is none of float16."""
    tf_keras.utils.set_random_seed(1)
    model = tf_keras.Sequential([layers.Dense(2, input_shape=(3,), dtype="float16")])
    x = np.random.default_rng(0).normal(300.0, 1.0, (8, 3)).astype("float16")
    rewriter.rewrite(model, Centered(optimizers.Adam(1e-3)))
    model.compile(model.optimizer, "mse", run_eagerly=True)
    optimizer = model.optimizer
    model.train_on_batch(x, np.asarray(model(x)) + np.float16(0.01))
    rewriter.split(model)
    assert all(np.isfinite(each.numpy()).all() for each in optimizer._velocities)
