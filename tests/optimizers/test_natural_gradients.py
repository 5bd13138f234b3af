"""K-FAC and the quasi-diagonal natural gradient against NumPy in float64, and what they do not see."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import rewriter
from layer_models import network, rewritten
from layer_network import FEATURES, OUTPUTS, batches, passed
from layer_rules_oracle import Kfac, QuasiDiagonal
from short_cases import cases

RATE = float(np.float32(0.01))
WAYS = {"graph": {}, "eagerly": {"run_eagerly": True}, "XLA": {"jit_compile": True}}
pytestmark = pytest.mark.usefixtures("float64")


NEURONS = {"output_factor": False, "damping": 0.125}  # gradient descent on neurons
CASES = {
    "plain": (rewriter.KFAC, {}, Kfac, {}),
    "seldom": (rewriter.KFAC, {"factors_every": 3, "every": 7}, Kfac, {"measured_every": 3, "every": 7}),
    "unbound": (rewriter.KFAC, {"bound": None, "damping": 0.125}, Kfac, {"bound": None, "damping": 0.125}),
    "scaled": (rewriter.KFAC, {"loss_factor": 3.0}, Kfac, {"factor": 3.0}),
    "neurons": (rewriter.KFAC, NEURONS, Kfac, NEURONS),
    "quasi-diagonal": (rewriter.QuasiDiagonal, {}, QuasiDiagonal, {}),
    "quasi-diagonal, always": (rewriter.QuasiDiagonal, {"every": 1}, QuasiDiagonal, {"measured_every": 1}),
    "quasi-diagonal, seldom": (rewriter.QuasiDiagonal, {"every": 3}, QuasiDiagonal, {"measured_every": 3}),
    "quasi-diagonal, unbound": (
        rewriter.QuasiDiagonal,
        {"bound": None, "damping": 0.125, "loss_factor": 0.5, "every": 1},
        QuasiDiagonal,
        {"bound": None, "damping": 0.125, "factor": 0.5, "measured_every": 1},
    ),
}


def furthest(model, oracle, steps):
    """Train, and return how far the weights are from those of NumPy."""
    weights = [kernel.numpy() for kernel in model.trainable_variables]
    for x, y in batches(steps):
        moved = oracle.step(passed(weights, x, y))
        weights = [weight - step for weight, step in zip(weights, moved, strict=True)]
        model.train_on_batch(x, y)
    pairs = zip(model.trainable_variables, weights, strict=True)
    return max(np.abs(kernel.numpy() - weight).max() for kernel, weight in pairs)


ELSEWHERE = ("plain", "seldom", "quasi-diagonal, always", "quasi-diagonal, seldom")
OTHER_WAYS = [(way, name) for way in ("eagerly", "XLA") for name in ELSEWHERE]
HUNDRED = [*(("graph", name) for name in CASES), *OTHER_WAYS]
SHORT = [("graph", name) for name in ("plain", "seldom", "neurons", "quasi-diagonal")]


@pytest.mark.parametrize(("way", "name"), cases(HUNDRED, SHORT))
def test_a_hundred_steps_are_those_of_the_paper(way, name):
    rule, settings, oracle, of_oracle = CASES[name]
    model = rewritten(network(), rule(RATE, **settings), **WAYS[way])
    assert furthest(model, oracle(2, RATE, **of_oracle), 100) <= 1e-9


@pytest.mark.parametrize("name", ["plain", "unbound", "quasi-diagonal, always"])
def test_built_in_its_first_step_it_begins_with_the_next(name, caplog):
    """In an eager loop the first call is over when the optimizer is built: it had inverted nothing, and kept that."""
    cls, settings, oracle, of_oracle = CASES[name]
    model, rule = network(), cls(RATE, **settings)
    rewriter.rewrite(model, "keep")
    weights, oracle = [kernel.numpy() for kernel in model.trainable_variables], oracle(2, RATE, **of_oracle)
    for step, (x, y) in enumerate(batches(25)):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
        pairs = zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
        rule.apply_gradients(pairs)
        if step:
            moved = oracle.step(passed(weights, x, y))
            weights = [weight - each for weight, each in zip(weights, moved, strict=True)]
        for kernel, weight in zip(model.trainable_variables, weights, strict=True):
            assert np.abs(kernel.numpy() - weight).max() <= 1e-9
    assert [each.message.count("optimizer.build(model.trainable_variables)") for each in caplog.records] == [1]


def test_the_damping_may_follow_a_schedule():
    schedule = tf_keras.optimizers.schedules.PiecewiseConstantDecay([3, 6], [0.5, 0.25, 0.125])
    model = rewritten(network(), rewriter.KFAC(RATE, damping=schedule, every=1))
    oracle = Kfac(2, RATE, damping=lambda step: 0.5 if step <= 3 else 0.25 if step <= 6 else 0.125, every=1)
    assert furthest(model, oracle, 10) <= 1e-9


def test_the_first_step_on_a_linear_model_is_the_least_squares_solution():
    generator = np.random.default_rng(1)
    x, y = generator.normal(2.0, 3.0, (40, 6)), generator.standard_normal((40, 1))
    tf_keras.utils.set_random_seed(1)
    model = tf_keras.Sequential([layers.Dense(1, input_shape=(6,))])
    # The gradient of the mean square is twice that of half of it.
    rule = rewriter.KFAC(0.5, momentum=0.0, damping=0.0, bound=None, output_factor=False)
    rewritten(model, rule).train_on_batch(x, y)
    solution = np.linalg.lstsq(np.c_[x, np.ones(40)], y, rcond=None)[0]
    assert np.abs(model.trainable_variables[0].numpy() - solution).max() <= 1e-8


def functions_after(rule, change, steps=20):
    """Train on inputs, and on changed ones from a first layer that gives the same; return what both compute."""
    generator = np.random.default_rng(4)
    factor, shift = change
    data = [
        (generator.normal(1.0, 1.0, (64, FEATURES)), generator.standard_normal((64, OUTPUTS))) for _ in range(steps)
    ]
    probe, outputs = generator.normal(1.0, 1.0, (20, FEATURES)), []
    for changed in (False, True):
        model = network()
        model.build((None, FEATURES))
        if changed:
            kernel, bias = model.layers[0].get_weights()
            kernel = np.linalg.solve(factor, kernel)
            model.layers[0].set_weights([kernel, bias - shift @ kernel])
        rewritten(model, rule())
        for x, y in data:
            model.train_on_batch(x @ factor + shift if changed else x, y)
        outputs.append(model.predict(probe @ factor + shift if changed else probe, verbose=0))
    return np.abs(outputs[0] - outputs[1]).max()


def test_kfac_does_not_see_an_affine_change_of_the_inputs():
    factor = np.random.default_rng(2).normal(0.0, 1.0, (FEATURES, FEATURES)) + 2 * np.eye(FEATURES)
    change = factor, np.array([3.0, -1.0, 0.5, 2.0])
    assert functions_after(lambda: rewriter.KFAC(RATE, damping=0.0, every=1), change) <= 1e-6


def test_the_quasi_diagonal_rule_does_not_see_a_shift_of_the_inputs():
    change = np.eye(FEATURES), np.array([3.0, -1.0, 0.5, 2.0])
    assert functions_after(lambda: rewriter.QuasiDiagonal(RATE, damping=0.125), change) <= 1e-10


def test_a_unit_to_which_nothing_flows_back_does_not_move():
    model = network()
    model.build((None, FEATURES))
    kernel, bias = model.layers[1].get_weights()
    kernel[1] = 0.0  # of the second hidden unit
    model.layers[1].set_weights([kernel, bias])
    for rule in (rewriter.QuasiDiagonal(RATE),):
        rewritten(model, rule)
        before = model.layers[0].augmented_kernel.numpy()
        model.train_on_batch(*batches(1)[0])
        moved = model.layers[0].augmented_kernel.numpy() != before
        assert moved[:, [0, 2, 3]].all()
        assert not moved[:, 1].any()


@pytest.mark.parametrize("rule", [rewriter.KFAC, rewriter.QuasiDiagonal])
def test_they_are_not_centered(rule):
    with pytest.raises(rewriter.OptimizerError, match="is not to be centered: it does not see a shift"):
        rewriter.Centered(rule())


@pytest.mark.parametrize("rule", [rewriter.KFAC, rewriter.QuasiDiagonal])
@pytest.mark.parametrize("factor", [0, -1, float("inf"), "one"])
def test_a_loss_factor_is_above_0(rule, factor):
    """At 0 nothing that it measures would be left."""
    with pytest.raises(ValueError, match="loss_factor must be a finite number > 0"):
        rule(loss_factor=factor)


def test_a_mean_square_has_a_scale_of_its_own(caplog):
    """Nobody would find out why the damping is wrong; said unless a factor is given, and of no other loss."""
    caplog.set_level("INFO", "rewriter")
    summed = tf_keras.losses.MeanSquaredError(reduction="sum")
    mean, function = tf_keras.losses.MeanSquaredError(), tf_keras.losses.mean_squared_error
    losses = {"mse": 1, mean: 1, summed: 1, "mae": 1, function: 1.5}
    said = []
    for loss, factor in losses.items():
        model = network()
        model.compile("adam", loss)
        caplog.clear()
        rewriter.rewrite(model, rewriter.KFAC(loss_factor=factor))
        said += [message.rpartition(": ")[2] for message in caplog.messages if "loss_factor is 1" in message] or [""]
    of_mean = "d / 2 is right over d outputs"
    assert said == [of_mean, of_mean, "d / (2 n) is right over d outputs, in batches of n", "", ""]
