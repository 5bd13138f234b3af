"""The quasi-diagonal natural gradient: of each unit's Fisher matrix the diagonal, and the row of its bias.

With ``g`` the gradient of a unit's weights, ``g₀`` that of its bias, and ``F`` the mean over positions of the squares
and products of their gradients there, of which this takes ``Fᵢᵢ``, ``F₀ᵢ`` and ``F₀₀``:

    μᵢ  = F₀ᵢ / F₀₀
    ΔWᵢ = (gᵢ - μᵢ g₀) / (Fᵢᵢ - μᵢ F₀ᵢ + λ)
    Δb  = g₀ / (F₀₀ + λ) - Σ μᵢ ΔWᵢ

which is then a step's direction, as for every :class:`~rewriter.optimizers.rules.natural_gradient.NaturalGradient`.

``μ`` is the mean of what the unit reads, each position weighted by what flows back there squared. So the rule does not
see a shift of its inputs; it costs two numbers a weight and no decomposition.

Source: Ollivier, *Riemannian metrics for neural networks I* (arXiv 1303.0818). The Fisher matrix is the empirical one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...adapters import keras
from ...model.flowing_back import UNIT_MOMENTS
from ..hyperparameters import require_number
from ..layer_moments import RunningMean
from .natural_gradient import NaturalGradient

if TYPE_CHECKING:
    from rewriter.core.layout import Layout


class QuasiDiagonal(NaturalGradient):
    """The natural gradient of each unit, with the part of its Fisher matrix that costs no more than Adam.

    Variables that are no augmented kernels get AdamW, and so do layers of which it is not known what flows back:
    recurrent cells, layers whose units read different features, and those with a ``call`` of their own. The log says
    which. The loss must be a mean over the positions, or of a convolution over the examples; ``loss_factor`` says what
    is not so.

    Args:
        learning_rate: η, a number of at least 0 or a ``LearningRateSchedule``.
        momentum: Of the steps, in [0, 1].
        damping: λ, at least 0.
        bound: κ: how far a step may go, in the metric of the Fisher matrix; ``None`` for no bound.
        loss_factor: By what the loss is to be multiplied to be the negative logarithm of a likelihood, to which bound
            and damping belong: 1 of a cross-entropy, ``d / 2`` of a mean squared error over ``d`` outputs.
        decay: How much of the moments of one step counts in the next, in [0, 1].
        every: After how many steps the moments are measured, at least 1.
        beta_1: Of AdamW, in [0, 1].
        beta_2: Of AdamW, in [0, 1].
        epsilon: Of AdamW, at least 0.
        name: Name of the optimizer.
        **kwargs: The settings of every :class:`rewriter.JointOptimizer`, weight decay among them.

    Raises:
        ValueError: A hyperparameter is not in its legal range; the message says which that is.
    """

    # Keras writes it into files: a stable name and not a place, see NAMED_IN_FILES in rewriter/__init__.py.
    __module__ = f"{keras.LIBRARY}.quasi_diagonal"

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.9,
        damping: float = 1e-2,
        bound: float | None = 1e-4,
        loss_factor: float = 1.0,
        decay: float = 0.95,
        every: int = 1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        name: str = "QuasiDiagonal",
        **kwargs: Any,
    ) -> None:
        require_number("damping", damping, 0)
        mean = RunningMean(decay, every)
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
        self.statistics = {UNIT_MOMENTS: mean}
        self.damping = damping
        self.decay = decay
        self.every = every

    def natural_gradient(self, gradient: Any, variable: Any, layout: Layout) -> Any:
        """Return the natural gradient of all units.

        Args:
            gradient: The gradient.
            variable: The augmented kernel.
            layout: Its layout.
        """
        moments = self.moment(UNIT_MOMENTS, variable)
        ops, last = keras.ops, layout.kernel_rows.stop
        with_bias, of_bias, of_weights = ops.split(moments, [last, last + 1])
        of_kernel, bias = ops.split(gradient, [last])
        means = ops.divide_no_nan(with_bias, of_bias)
        step = _divided(of_kernel - means * bias, of_weights - means * with_bias + self.damping)
        of_step = _divided(bias, of_bias + self.damping) - ops.sum(means * step, axis=0, keepdims=True)
        moves = ops.concatenate([step, of_step], axis=0)
        return ops.where(of_bias > 0, moves, ops.zeros_like(moves))


def _divided(value: Any, by: Any) -> Any:
    # A variance may come out below zero by rounding.
    return keras.ops.divide_no_nan(value, keras.ops.maximum(by, keras.ops.zeros_like(by)))


# An .h5 file names the optimizer inside a LossScaleOptimizer by nothing but its class.
keras.register(QuasiDiagonal, QuasiDiagonal.__name__, package="rewriter")
