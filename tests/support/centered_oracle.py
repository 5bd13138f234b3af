"""Centered SGD and Adam on a network of two layers, forward and backward, in NumPy and float64.

tf-keras rounds momentum, and the powers of Adam's decays, to float32 first. So do the rules here.
"""

import numpy as np


def rounded(number):
    return float(np.float32(number))


class Sgd:
    def __init__(self, rate, momentum=0.0, nesterov=False):
        self.rate, self.momentum, self.nesterov, self.velocity = rate, rounded(momentum), nesterov, {}

    def step(self, name, gradient):
        velocity = self.momentum * self.velocity.get(name, 0.0) - self.rate * gradient
        self.velocity[name] = velocity
        return self.momentum * velocity - self.rate * gradient if self.nesterov else velocity


class Joint:
    """Joint momentum: each unit's momentum is its mean over the incoming rows, the bias among them."""

    def __init__(self, rate, momentum):
        self.rate, self.momentum, self.means = rate, momentum, {}

    def step(self, name, gradient):
        mean = self.means.get(name, 0.0)
        self.means[name] = gradient.mean(axis=0) + self.momentum * mean
        return -self.rate * (gradient + self.momentum * mean)


class Adam:
    def __init__(self, rate, first=0.9, second=0.999, epsilon=1e-7):
        self.rate, self.first, self.second, self.epsilon = rate, first, second, epsilon
        self.moments = {}

    def step(self, name, gradient):
        count, mean, square = self.moments.get(name, (0, 0.0, 0.0))
        count, mean = count + 1, self.first * mean + (1 - self.first) * gradient
        square = self.second * square + (1 - self.second) * gradient**2
        self.moments[name] = count, mean, square
        rate = (
            rounded(self.rate(count - 1) if callable(self.rate) else self.rate)
            * np.sqrt(1 - rounded(self.second) ** count)
            / (1 - rounded(self.first) ** count)
        )
        return -rate * mean / (np.sqrt(square) + self.epsilon)


class _BiasScale:
    """What the step of a bias is multiplied by, where steps do not grow with gradients: found after every 32nd step.

    Of 64 units at most, which none of the networks here has.
    """

    def __init__(self, rate):
        self.rate, self.scales = rate, {}

    def find(self, layer, count, weight, mean):
        """Find it anew, from the weights after a step."""
        if count % 32 == 0:
            outputs = np.sqrt(np.mean((weight[-1] + mean @ weight[:-1]) ** 2))
            natural = np.sqrt(1 + len(mean) * outputs**2 / np.mean(weight[:-1] ** 2))
            self.scales[layer] = natural, 0.02 * outputs

    def of(self, layer, count):
        """Return the factor; the largest move counts at the learning rate of now."""
        natural, largest_move = self.scales.get(layer, (1.0, 0.0))
        rate = rounded(self.rate(count) if callable(self.rate) else self.rate)
        return min(natural, max(1.0, largest_move / rate if rate else 1.0))


def train(weights, batches, rule, decay=0.99, center=True):
    """Train ``tanh(x W + b) V + c`` on mean squared error; weights are ``[[W; b], [V; c]]``, stacked."""
    weights = [weight.astype(np.float64) for weight in weights]
    totals, counts = [0.0, 0.0], [0.0, 0.0]
    bias_scale = _BiasScale(rule.rate) if center and isinstance(rule, Adam) else None
    for done, (x, y) in enumerate(batches):
        hidden = np.tanh(x @ weights[0][:-1] + weights[0][-1])
        output = hidden @ weights[1][:-1] + weights[1][-1]
        upstream = 2 * (output - y) / output.size
        below = (upstream @ weights[1][:-1].T) * (1 - hidden**2)
        for layer, (inputs, flowing) in enumerate([(x, below), (hidden, upstream)]):
            totals[layer], counts[layer] = totals[layer] + inputs.sum(axis=0), counts[layer] + len(inputs)
            mean = totals[layer] / counts[layer] if center else np.zeros(inputs.shape[1])
            bias = flowing.sum(axis=0)
            step = rule.step(layer, np.vstack([inputs.T @ flowing - np.outer(mean, bias), bias]))
            if bias_scale is not None:
                step[-1] *= bias_scale.of(layer, done)
            weights[layer] = weights[layer] + np.vstack([step[:-1], step[-1] - mean @ step[:-1]])
            if bias_scale is not None:
                bias_scale.find(layer, done, weights[layer], mean)
            totals[layer], counts[layer] = decay * totals[layer], decay * counts[layer]
    return weights
