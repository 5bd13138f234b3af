"""A network of two layers in NumPy and float64, forward and backward, for the oracles of rules on whole layers."""

import numpy as np

FEATURES, OUTPUTS = 4, 3


def with_ones(rows):
    return np.concatenate([rows, np.ones_like(rows[:, :1])], axis=1)


def passed(weights, x, y):
    """Return, for ``tanh([x, 1] W) V`` on mean squared error, what each layer saw and what flowed back to it.

    Args:
        weights: ``[W*, V*]``, the biases in their last rows.
        x: Inputs, of shape ``(positions, features)``.
        y: Targets.

    Returns:
        For each layer the inputs with ones, and the gradient of the mean loss by the layer's outputs.
    """
    first = with_ones(x)
    second = with_ones(np.tanh(first @ weights[0]))
    of_outputs = 2 * (second @ weights[1] - y) / y.size
    of_hidden = (of_outputs @ weights[1][:-1].T) * (1 - second[:, :-1] ** 2)
    return [(first, of_hidden), (second, of_outputs)]


def gradients(weights, x, y):
    return [inputs.T @ back for inputs, back in passed(weights, x, y)]


def batches(count, size=8, seed=3):
    generator = np.random.default_rng(seed)

    def drawn():
        return generator.normal(1.5, 1.0, (size, FEATURES)), generator.standard_normal((size, OUTPUTS))

    return [drawn() for _ in range(count)]
