"""SOAP against NumPy in float64, and against Adam."""

import numpy as np
import pytest
from tf_keras import layers, optimizers

import rewriter
from arrays import bits
from layer_network import batches, gradients, network, rewritten

RATE = float(np.float32(0.01))
WAYS = {"graph": {}, "eagerly": {"run_eagerly": True}, "XLA": {"jit_compile": True}}


class Oracle:
    """SOAP of one matrix as in the paper, the first moment in the weights' own coordinates; bases are given."""

    def __init__(self, weight, rule, exact):
        self.weight, self.rule, self.count, self.exact = weight.astype(np.float64), rule, 0, exact
        self.mean, self.square = np.zeros_like(self.weight), np.zeros_like(self.weight)
        self.factors = [np.zeros((size, size)) for size in weight.shape]
        self.bases = [np.eye(size) for size in weight.shape]

    def step(self, gradient, bases, sides):
        """Take a step; ``bases`` are those that the subject has found in it, and ``sides`` the axes that have any."""
        rule, decay = self.rule, self.rule.beta_2
        for axis, product in enumerate((gradient @ gradient.T, gradient.T @ gradient)):
            self.factors[axis] = decay * self.factors[axis] + (1 - decay) * product
        if self.count % rule.every == 0:
            for axis in sides:
                self._check(self.factors[axis], self.bases[axis], bases[axis])
                self.bases[axis] = bases[axis]
        self.count += 1
        self.mean = rule.beta_1 * self.mean + (1 - rule.beta_1) * gradient
        turned = [self.bases[0].T @ each @ self.bases[1] for each in (gradient, self.mean)]
        self.square = decay * self.square + (1 - decay) * turned[0] ** 2
        mean, square = turned[1] / (1 - rule.beta_1**self.count), self.square / (1 - decay**self.count)
        epsilon = rule.epsilon / np.sqrt(1 - decay**self.count)  # Keras adds it before the bias is corrected
        self.weight -= RATE * self.bases[0] @ (mean / (np.sqrt(square) + epsilon)) @ self.bases[1].T

    def _check(self, factor, before, now):
        assert np.abs(now.T @ now - np.eye(len(now))).max() <= self.exact
        in_basis = now.T @ factor @ now if self.count == 0 else now.T @ factor @ before
        left = in_basis - (np.diag(np.diag(in_basis)) if self.count == 0 else np.triu(in_basis))
        assert np.abs(left).max() <= self.exact * np.abs(factor).max()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("largest", "sides"), [(100, [(0, 1), (0, 1)]), (4, [(1,), (1,)]), (3, [(), (1,)])])
@pytest.mark.parametrize("way", WAYS)
def test_a_hundred_steps_are_those_of_the_paper(way, largest, sides):
    # A small epsilon makes steps of the rounding errors in the null space of the gradients, which all have.
    model = rewritten(network(), rewriter.SOAP(RATE, every=7, largest=largest, epsilon=1e-3), **WAYS[way])
    kernels = model.trainable_variables
    exact = 1e-6 if way == "XLA" else 1e-11  # on a CPU it finds eigenvectors to 1e-6, of float64 too
    oracles = [Oracle(kernel.numpy(), model.optimizer, exact) for kernel in kernels]
    for x, y in batches(100):
        of_layers = gradients([oracle.weight for oracle in oracles], x, y)
        model.train_on_batch(x, y)
        for kernel, oracle, gradient, axes in zip(kernels, oracles, of_layers, sides, strict=True):
            bases = [model.optimizer.slot(name, kernel).numpy() for name in ("row_basis", "unit_basis")]
            oracle.step(gradient, bases, axes)
    for kernel, oracle in zip(kernels, oracles, strict=True):
        assert np.abs(kernel.numpy() - oracle.weight).max() <= 1e-9


def test_without_bases_it_is_adam_bit_for_bit():
    settings = {"beta_1": 0.95, "beta_2": 0.99, "epsilon": 1e-7}
    trained = []
    for rule in (optimizers.Adam(RATE, **settings), rewriter.SOAP(RATE, **settings, largest=1)):
        model = network()
        model.add(layers.LayerNormalization())
        rewriter.rewrite(model, rule)
        model.compile(model.optimizer, "mse", run_eagerly=True)
        for x, y in batches(20):
            model.train_on_batch(x, y)
        trained.append(model)
    for one, two in zip(*(model.get_weights() for model in trained), strict=True):
        assert bits(one) == bits(two)
