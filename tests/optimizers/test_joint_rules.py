"""The rules of samples/joint_rules.py against NumPy in float64, and through what every optimizer has to go through."""

import numpy as np
import pytest
import tensorflow as tf

import joint_rules
import rewriter
from arrays import bits
from models import MODELS, fit
from momentum_oracle import MOMENTUM, RATE, augmented, relative_error, train

STEPS = 50


def heavy_ball(value, gradients):
    velocity = np.zeros(value.shape)
    for gradient in gradients:
        velocity = MOMENTUM * velocity + gradient(value)
        value = value - RATE * velocity
    return value


def centralized(value, gradients, with_bias):
    def center(gradient):
        gradient = gradient.copy()
        rows = gradient if with_bias else gradient[:-1]
        rows -= rows.mean(axis=0)
        return gradient

    return heavy_ball(value, [lambda _, gradient=gradient: center(gradient) for gradient in gradients])


def clipped(value, gradients, bound):
    def clip(value, gradient):
        gradient = gradient.copy()
        for unit in range(value.shape[1]):
            largest = bound * max(np.linalg.norm(value[:, unit]), 1e-3)
            norm = np.linalg.norm(gradient[:, unit])
            if norm > largest:
                gradient[:, unit] *= largest / norm
        return gradient

    return heavy_ball(value, [lambda value, gradient=gradient: clip(value, gradient) for gradient in gradients])


def lamb(value, gradients, beta_1=0.9, beta_2=0.87, epsilon=1e-6, decay=0.03):
    m, v = np.zeros(value.shape), np.zeros(value.shape)
    for step, gradient in enumerate(gradients, 1):
        m, v = beta_1 * m + (1 - beta_1) * gradient, beta_2 * v + (1 - beta_2) * gradient**2
        update = m / (1 - beta_1**step) / (np.sqrt(v / (1 - beta_2**step)) + epsilon) + decay * value
        norms = np.linalg.norm(value), np.linalg.norm(update)
        value = value - RATE * (norms[0] / norms[1] if min(norms) > 0 else 1) * update
    return value


RULES = {
    "centralized": (
        lambda: joint_rules.GradientCentralization(RATE, MOMENTUM),
        lambda value, gradients: centralized(value, gradients, with_bias=False),
    ),
    "centralized with bias": (
        lambda: joint_rules.GradientCentralization(RATE, MOMENTUM, with_bias=True),
        lambda value, gradients: centralized(value, gradients, with_bias=True),
    ),
    "clipped": (
        lambda: joint_rules.AdaptiveClipping(RATE, MOMENTUM, bound=0.03),
        lambda value, gradients: clipped(value, gradients, 0.03),
    ),
    "lamb": (lambda: joint_rules.Lamb(RATE, (0.9, 0.87), decay=0.03), lamb),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("start", ["random", "zero"])
def test_a_rule_equals_numpy(generator, name, start):
    """Fifty steps of each rule, gradients of very different sizes a unit among them, end where NumPy ends."""
    make, oracle = RULES[name]
    value = generator.standard_normal((7, 4)) if start == "random" else np.zeros((7, 4))
    gradients = generator.standard_normal((STEPS, 7, 4)) * [0.01, 0.1, 1.0, 10.0]
    gradients[:, :, 0] = 0  # a unit without gradient
    variable = augmented(value)
    train(make(), [variable], [gradients])
    assert relative_error(variable.numpy(), oracle(value, gradients)) <= 1e-12


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_an_optimizer_like_any_other(tmp_path, name):
    """It trains a model that has other variables too, is saved with its settings and state, and goes on bit for bit."""
    model = MODELS["sequential"]()
    model.compile("sgd", "mse")
    rewriter.rewrite(model, optimizer=RULES[name][0]())
    before = [weight.numpy() for weight in model.trainable_variables]
    fit(model)
    assert all(np.any(weight.numpy() != value) for weight, value in zip(model.trainable_variables, before, strict=True))
    rewriter.save_model(model, tmp_path / "m.keras")
    loaded = rewriter.load_model(tmp_path / "m.keras")
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    for each in (model, loaded):
        fit(each)
    assert [bits(weight) for weight in loaded.get_weights()] == [bits(weight) for weight in model.get_weights()]


def test_lamb_with_a_ratio_for_each_variable_holds_a_bias_back():
    """What merging mends: of one gradient a bias that starts at almost nothing hardly moves alone, and moves merged."""
    value, gradient = np.vstack([np.ones((6, 4)), np.full((1, 4), 1e-6)]), np.ones((7, 4))
    merged, kernel, bias = augmented(value), tf.Variable(value[:-1]), tf.Variable(value[-1])
    train(joint_rules.Lamb(RATE), [merged, kernel, bias], [[gradient], [gradient[:-1]], [gradient[-1]]])
    assert np.abs(bias.numpy() - value[-1]).max() < 1e-6
    assert np.abs(merged.numpy()[-1] - value[-1]).min() > 0.02
