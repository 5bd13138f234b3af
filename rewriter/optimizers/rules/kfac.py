"""K-FAC: the natural gradient of a layer, its Fisher matrix taken for a product of two small ones.

With ``X̃`` what a layer reads, with a one behind each row, and ``Δ`` what flows back to its result before the
activation, times the number ``N`` of positions that the loss averages over::

    A = mean of X̃ᵀX̃,   B = mean of ΔᵀΔ          Fisher ≈ A ⊗ B
    U = (A + π √λ)⁻¹ G (B + √λ / π)⁻¹            π² = (tr A / rows) / (tr B / units)

which is then a step's direction, as for every :class:`~rewriter.optimizers.rules.natural_gradient.NaturalGradient`. The
means are running ones with ``decay``, bias-corrected. ``loss_factor`` multiplies ``G`` here, and ``Δ``.

As the bias is a row of ``W*``, the ones beside the inputs are a column of ``X̃``: homogeneous coordinates, in which the
factor of the inputs holds their mean too. Without ``B`` it is gradient descent on neurons.

Sources: Martens, Grosse, *Optimizing neural networks with Kronecker-factored approximate curvature* (arXiv 1503.05671),
the factors and π; Grosse, Martens (arXiv 1602.01407), convolutions; Eschenhagen et al. (arXiv 2311.00636), *expand* and
*reduce*; Benzing (arXiv 2201.12250), gradient descent on neurons. The Fisher matrix is the empirical one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rewriter.core.flags import require_flags

from ...adapters import keras
from ...model.observation.flowing_back import INPUT_MOMENT, OUTPUT_MOMENT
from ..hyperparameters import require_count, require_learning_rate, require_one_of, scalar
from ..layer_moments import RunningMean
from .matrices import finite_or_identity, inverse_cholesky
from .natural_gradient import NaturalGradient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rewriter.core.layout import Layout

    from ..state.extents import Extent

_ROUNDING = 10  # rounding errors of a factor, in units of the last place of its trace
_POSITIONS = ("expand", "reduce")
# Of each side of G: the statistic, and the slot of its inverse.
_SIDES = ((INPUT_MOMENT, "input_inverse"), (OUTPUT_MOMENT, "output_inverse"))


class KFAC(NaturalGradient):
    """The natural gradient of each layer, by the second moments of what it reads and of what flows back.

    Variables that are no augmented kernels get AdamW, and so do layers of which it is not known what flows back:
    recurrent cells, layers whose units read different features, and those with a ``call`` of their own. The log says
    which. The loss must be a mean over the positions, or of a convolution over the examples: with sample weights, or a
    loss that is a sum, the true scale of the factors is not the layer's to know; ``loss_factor`` says it.

    Args:
        learning_rate: η, a number of at least 0 or a ``LearningRateSchedule``.
        momentum: μ, in [0, 1].
        damping: λ, a number of at least 0, or a schedule of the count of steps.
        bound: κ: how far the natural gradient of a step may go, in the metric of the Fisher matrix, before momentum;
            ``None`` for no bound.
        loss_factor: By what the loss is to be multiplied to be the negative logarithm of a likelihood, to which bound
            and damping belong: 1 of a cross-entropy, ``d / 2`` of a mean squared error over ``d`` outputs.
        decay: How much of the moments of one step counts in the next, in [0, 1].
        factors_every: After how many steps the moments are measured, at least 1.
        every: After how many steps they are inverted, at least 1.
        positions: ``"expand"`` takes each position of an example for an example of its own; ``"reduce"`` the mean of
            what is read over an example's positions and the sum of what flows back.
        output_factor: Whether there is a factor ``B``.
        beta_1: Of AdamW, in [0, 1).
        beta_2: Of AdamW, in [0, 1).
        epsilon: Of AdamW, at least 0.
        name: Name of the optimizer.
        **kwargs: The settings of every :class:`rewriter.JointOptimizer`, weight decay among them.

    Raises:
        ValueError: A hyperparameter is not in its legal range; the message says which that is.
    """

    # Keras writes it into files: a stable name and not a place, see NAMED_IN_FILES in rewriter/__init__.py.
    __module__ = f"{keras.LIBRARY}.kfac"

    slots: ClassVar[dict[str, Extent]] = {
        "first_moment": "full",
        "second_moment": "others",
        "input_inverse": "incoming_pairs",
        "output_inverse": "unit_pairs",
        "steps": "layer",
    }

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.9,
        damping: Any = 3e-3,
        bound: float | None = 1e-4,
        loss_factor: float = 1.0,
        decay: float = 0.95,
        factors_every: int = 1,
        every: int = 10,
        positions: str = "expand",
        output_factor: bool = True,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        name: str = "KFAC",
        **kwargs: Any,
    ) -> None:
        require_learning_rate(damping, "damping")
        require_count("factors_every", factors_every)
        require_count("every", every)
        require_one_of("positions", positions, _POSITIONS)
        require_flags(output_factor=output_factor)
        mean = RunningMean(decay, factors_every, positions == "reduce")
        super().__init__(
            learning_rate,
            momentum,
            bound,
            loss_factor,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            name=name,
            **kwargs,
        )
        self.statistics = {name: mean for name, _ in _SIDES[: 1 + output_factor]}
        self.damping = damping
        self.decay = decay
        self.factors_every = factors_every
        self.every = every
        self.positions = positions
        self.output_factor = output_factor

    @property
    def _rewriter_period(self) -> int:
        return math.lcm(super()._rewriter_period, self.every)

    def slot_shape(self, name: str, variable: Any) -> tuple[int, ...]:
        """Return the shape of a slot; a factor that is left out has no inverse.

        Args:
            name: The slot's name.
            variable: The variable it belongs to.
        """
        return () if name == "output_inverse" and not self.output_factor else super().slot_shape(name, variable)

    def refresh(self, variables: Sequence[Any]) -> None:
        """Invert the damped factors, every so many steps.

        Args:
            variables: The augmented kernels.
        """
        factors, inverses = zip(*_SIDES[: 1 + self.output_factor], strict=True)
        self.refresh_every(
            self.every,
            variables,
            inverses,
            lambda variable: [self.moment(factor, variable) for factor in factors],
            self._inverses,
        )

    def natural_gradient(self, gradient: Any, variable: Any, layout: Layout) -> Any:
        """Return ``A⁻¹ G B⁻¹``.

        Args:
            gradient: The gradient.
            variable: The augmented kernel.
            layout: Its layout.
        """
        del layout
        natural = keras.ops.matmul(self.slot("input_inverse", variable), gradient)
        return keras.ops.matmul(natural, self.slot("output_inverse", variable)) if self.output_factor else natural

    def _inverses(self, factors: Sequence[Any]) -> list[Any]:
        """Invert the damped factors."""
        ops, dtype = keras.ops, factors[0].dtype
        damping = self.damping(self.iterations) if isinstance(self.damping, keras.Schedule) else self.damping
        root = ops.sqrt(scalar(damping, dtype))
        # Zeros of a layer that has not been measured: it stays as it is.
        known = 1 - ops.cast(ops.equal(factors[0][-1, -1], 0), dtype)
        if not self.output_factor:
            return [known * _inverse(factors[0], ops.square(root))]
        spread = ops.sqrt(ops.divide_no_nan(_mean_square(factors[0]), _mean_square(factors[1])))
        # Of a layer to which nothing flows back, or that reads nothing.
        spread = ops.where(spread > 0, spread, ops.ones_like(spread))
        return [known * _inverse(factors[0], root * spread), _inverse(factors[1], root / spread)]


def _mean_square(factor: Any) -> Any:
    return keras.ops.trace(factor) / factor.shape[0]


def _inverse(factor: Any, damping: Any) -> Any:
    """Invert a symmetric matrix, with a number added to its diagonal, by the inverse of its Cholesky factor.

    At least as much is added as the rounding errors of the matrix are, with which it may have no such factor.
    """
    ops = keras.ops
    factor = finite_or_identity(factor)
    least = _ROUNDING * np.finfo(keras.dtype_of(factor.dtype).name).eps * ops.trace(factor)
    identity = ops.eye(factor.shape[0], factor.dtype)
    half = inverse_cholesky(factor + ops.maximum(damping, least) * identity)
    return ops.matmul(ops.transpose(half), half)


# An .h5 file names the optimizer inside a LossScaleOptimizer by nothing but its class.
keras.register(KFAC, KFAC.__name__, package="rewriter")
