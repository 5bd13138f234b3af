"""The rules on whole layers in NumPy and float64, as the papers have them, for one matrix each."""

import numpy as np

from moments_oracle import Moments


class Adam:
    """In the order of Keras: epsilon is added before the bias of the second moment is corrected."""

    def __init__(self, rate, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
        self.rate, self.beta_1, self.beta_2, self.epsilon = rate, beta_1, beta_2, epsilon
        self.count, self.mean, self.square = 0, 0.0, 0.0

    def step(self, gradient):
        self.mean = self.beta_1 * self.mean + (1 - self.beta_1) * gradient
        return self.direction(gradient, self.mean)

    def direction(self, gradient, mean):
        """Return a step, given the gradient and the first moment in some coordinates."""
        self.count += 1
        self.square = self.beta_2 * self.square + (1 - self.beta_2) * gradient**2
        rate = self.rate * np.sqrt(1 - self.beta_2**self.count) / (1 - self.beta_1**self.count)
        return rate * mean / (np.sqrt(self.square) + self.epsilon)


class Soap(Adam):
    """As in the paper, with the first moment in the weights' own coordinates.

    Args:
        sides: The axes that have a basis.
        every: After how many steps it is brought up to date; if steps are bounded, also in each of as many at first, 20
            at most.
        given: Returns the bases that are to be used from a step on, in place of those found here, which are checked.
        exact: To which precision they must be what they are for.
        bounded: Whether no coordinate of a step is longer than one of Adam's can be where coordinates stay.

    Attributes:
        shortened: How many coordinates of steps were.
    """

    def __init__(self, rate, beta_1=0.95, beta_2=0.95, epsilon=1e-8, sides=(0, 1), every=10, exact=1e-11, bounded=True):
        super().__init__(rate, beta_1, beta_2, epsilon)
        self.sides, self.every, self.exact = sides, every, exact
        # |m|² is at most the sum of β₁²ᵏ / β₂ᵏ times that of β₂ᵏ gₖ², each with its (1 - β), by Cauchy and Schwarz.
        series = ((beta_1**2 / beta_2) ** np.arange(100_000)).sum() if beta_1**2 < beta_2 else np.inf
        self.longest = (1 - beta_1) * np.sqrt(series / (1 - beta_2)) if bounded and sides else np.inf
        self.bounded, self.shortened = bounded, 0
        self.factors = [0.0, 0.0]
        self.bases = {}

    def step(self, gradient, given=None):
        factors = [
            self.beta_2 * factor + (1 - self.beta_2) * product
            for factor, product in zip(self.factors, (gradient @ gradient.T, gradient.T @ gradient), strict=True)
        ]
        if self.count == 0:
            self.factors = factors  # no other gradient is known; later ones see a basis of those before
        if self.count % self.every == 0 or (self.bounded and self.count < min(self.every, 20)):
            for axis in self.sides:
                self.bases[axis] = self._found(axis) if given is None else self._checked(axis, given[axis])
        self.factors = factors
        self.mean = self.beta_1 * self.mean + (1 - self.beta_1) * gradient
        rows, units = (self.bases.get(axis, np.eye(size)) for axis, size in enumerate(gradient.shape))
        turned, mean = rows.T @ gradient @ units, rows.T @ self.mean @ units
        if self.count == 0 and len(self.sides) == 2:
            # Of its own singular vectors a matrix is diagonal, and what else a computer finds is rounding.
            places = np.diag_indices(min(turned.shape))
            exact = np.zeros_like(turned)
            exact[places] = turned[places]
            turned, mean = exact, (1 - self.beta_1) * exact
            self.mean = rows @ mean @ units.T
        step = self.direction(turned, mean) / self.rate
        self.shortened += (np.abs(step) > self.longest).sum()
        return rows @ (self.rate * np.clip(step, -self.longest, self.longest)) @ units.T

    def _found(self, axis):
        factor = self.factors[axis]
        return np.linalg.qr(factor @ self.bases[axis])[0] if self.count else np.linalg.eigh(factor)[1][:, ::-1]

    def _checked(self, axis, now):
        factor = self.factors[axis]
        assert np.abs(now.T @ now - np.eye(len(now))).max() <= self.exact
        in_basis = now.T @ factor @ (self.bases[axis] if self.count else now)
        left = in_basis - (np.triu(in_basis) if self.count else np.diag(np.diag(in_basis)))
        assert np.abs(left).max() <= self.exact * np.abs(factor).max()
        return now


class Muon:
    def __init__(self, rate, momentum=0.95, nesterov=True):
        self.rate, self.momentum, self.nesterov, self.sum = rate, momentum, nesterov, 0.0

    def step(self, gradient):
        self.sum = self.momentum * self.sum + gradient
        moving = gradient + self.momentum * self.sum if self.nesterov else self.sum
        return self.rate * 0.2 * np.sqrt(max(moving.shape)) * near_orthogonal(moving)


def near_orthogonal(matrix):
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix / np.linalg.norm(matrix)
    for _ in range(5):
        x = a * x + b * x @ x.T @ x + c * x @ x.T @ x @ x.T @ x
    return x


class Natural:
    """Natural gradients of all layers, in steps that are bounded together.

    It is given of each layer the inputs, with ones, and what flows back, of a loss that is a mean over the positions.
    """

    def __init__(self, layers, rate, momentum=0.9, bound=1e-4, decay=0.95, factor=1.0, measured_every=1):
        self.rate, self.momentum, self.bound, self.factor = rate, momentum, bound, factor
        self.moments = [Moments(decay) for _ in range(layers)]
        self.sums, self.count, self.measured_every = [0.0] * layers, 0, measured_every

    def step(self, calls):
        naturals, length = [], 0.0
        for place, (inputs, back) in enumerate(calls):
            scaled = self.factor * back
            if self.count % self.measured_every == 0:
                self.moments[place].add([(inputs[None, :, :-1], scaled[None])])
            gradient = inputs.T @ scaled
            naturals.append(self.natural(place, self.moments[place].means(), gradient))
            length += (gradient * naturals[-1]).sum()
        self.count += 1
        shorter = 1.0 if self.bound is None else min(1.0, np.sqrt(self.bound / (self.rate**2 * length)))
        self.sums = [self.momentum * old + shorter * new for old, new in zip(self.sums, naturals, strict=True)]
        return [self.rate * each for each in self.sums]


class QuasiDiagonal(Natural):
    """Of each unit by itself."""

    def __init__(self, layers, rate, damping=1e-2, decay=0.9, measured_every=10, **settings):
        super().__init__(layers, rate, decay=decay, measured_every=measured_every, **settings)
        self.damping = damping

    def natural(self, _, means, gradient):
        step, rows = np.zeros_like(gradient), len(gradient) - 1
        for unit in range(gradient.shape[1]):
            with_bias, of_bias, squares = np.split(means["unit_moments"][:, unit], [rows, rows + 1])
            if of_bias[0] == 0:
                continue
            inputs, of_kernel, bias = with_bias / of_bias, gradient[:-1, unit], gradient[-1, unit]
            step[:-1, unit] = (of_kernel - inputs * bias) / (squares - inputs * with_bias + self.damping)
            step[-1, unit] = bias / (of_bias[0] + self.damping) - inputs @ step[:-1, unit]
        return step


class Kfac(Natural):
    """By two factors of each layer."""

    def __init__(self, layers, rate, damping=3e-3, every=10, output_factor=True, **settings):
        super().__init__(layers, rate, **settings)
        self.damping, self.every, self.output_factor = damping, every, output_factor
        self.inverses = [None] * layers

    def natural(self, place, means, gradient):
        if self.count % self.every == 0:
            damping = self.damping(self.count) if callable(self.damping) else self.damping
            self.inverses[place] = self._inverted(means, damping)
        inputs, outputs = self.inverses[place]
        return inputs @ gradient @ outputs

    def _inverted(self, means, damping):
        inputs, outputs = means["input_moment"], means["output_moment"]
        if not self.output_factor:
            return np.linalg.inv(inputs + damping * np.eye(len(inputs))), np.eye(len(outputs))
        spread = np.sqrt((np.trace(inputs) / len(inputs)) / (np.trace(outputs) / len(outputs)))
        root = np.sqrt(damping)
        return (
            np.linalg.inv(inputs + root * spread * np.eye(len(inputs))),
            np.linalg.inv(outputs + root / spread * np.eye(len(outputs))),
        )
