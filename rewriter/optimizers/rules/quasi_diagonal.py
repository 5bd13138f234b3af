"""The quasi-diagonal natural gradient: of each unit's Fisher matrix the diagonal, and the row of its bias.

With ``g`` the gradient of a unit's weights, ``g₀`` that of its bias, and ``F`` the mean over positions of the squares
and products of their gradients there, of which this takes ``Fᵢᵢ``, ``F₀ᵢ`` and ``F₀₀``::

    μᵢ  = F₀ᵢ / F₀₀
    ΔWᵢ = (gᵢ - μᵢ g₀) / (Fᵢᵢ - μᵢ F₀ᵢ + λ)
    Δb  = g₀ / (F₀₀ + λ) - Σ μᵢ ΔWᵢ

which is then a step's direction, as for every :class:`~rewriter.optimizers.rules.natural_gradient.NaturalGradient`.

``μ`` is the mean of what the unit reads, each position weighted by what flows back there squared. So the rule does not
see a shift of its inputs; it needs no decomposition. Of each weight it keeps the momentum, two moments and, where these
are not measured in every step, two numbers that are made of them.

Source: Ollivier, *Riemannian metrics for neural networks I* (arXiv 1303.0818). The Fisher matrix is the empirical one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ...adapters import keras
from ...model.observation.flowing_back import UNIT_MOMENTS
from ..hyperparameters import require_number
from ..layer_moments import RunningMean
from .natural_gradient import NaturalGradient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rewriter.core.layout import Layout

    from ..state.extents import Extent

_KEPT = ("input_means", "inverse")  # slots of what is made of the moments, until they are measured again


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
        bound: κ: how far the natural gradient of a step may go, in the metric of the Fisher matrix, before momentum;
            ``None`` for no bound.
        loss_factor: By what the loss is to be multiplied to be the negative logarithm of a likelihood, to which bound
            and damping belong: 1 of a cross-entropy, ``d / 2`` of a mean squared error over ``d`` outputs.
        decay: How much of the moments of one step counts in the next, in [0, 1].
        every: After how many steps the moments are measured, at least 1. Fewer cost more, and follow faster.
        beta_1: Of AdamW, in [0, 1).
        beta_2: Of AdamW, in [0, 1).
        epsilon: Of AdamW, at least 0.
        name: Name of the optimizer.
        **kwargs: The settings of every :class:`rewriter.JointOptimizer`, weight decay among them.

    Raises:
        ValueError: A hyperparameter is not in its legal range; the message says which that is.
    """

    # Keras writes it into files: a stable name and not a place, see NAMED_IN_FILES in rewriter/__init__.py.
    __module__ = f"{keras.LIBRARY}.quasi_diagonal"

    slots: ClassVar[dict[str, Extent]] = {
        "first_moment": "full",
        "second_moment": "others",
        "input_means": "full",
        "inverse": "full",
        "steps": "layer",
    }

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.9,
        damping: float = 1e-2,
        bound: float | None = 1e-4,
        loss_factor: float = 1.0,
        decay: float = 0.9,
        every: int = 10,
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

    def slot_shape(self, name: str, variable: Any) -> tuple[int, ...]:
        """Return the shape of a slot; nothing is kept of moments that are measured in every step.

        Args:
            name: The slot's name.
            variable: The variable it belongs to.
        """
        return () if name in _KEPT and self.every == 1 else super().slot_shape(name, variable)

    def refresh(self, variables: Sequence[Any]) -> None:
        """Keep what is made of the moments, where they are not measured in every step.

        Args:
            variables: The augmented kernels.
        """

        def make(moments: Any) -> list[Any]:
            means, *inverses = self._of_moments(moments)
            return [keras.ops.concatenate(pair, axis=0) for pair in ((means, moments[:1] * 0), inverses)]

        if self.every > 1:
            self.refresh_every(self.every, variables, _KEPT, lambda each: self.moment(UNIT_MOMENTS, each), make)

    def natural_gradient(self, gradient: Any, variable: Any, layout: Layout) -> Any:
        """Return the natural gradient of all units.

        Args:
            gradient: The gradient.
            variable: The augmented kernel.
            layout: Its layout.
        """
        ops, last = keras.ops, layout.kernel_rows.stop
        if self.every == 1:
            means, inverse, of_bias = self._of_moments(self.moment(UNIT_MOMENTS, variable))
        else:
            means, inverse = (ops.convert_to_tensor(self.slot(name, variable)) for name in _KEPT)
            means, inverse, of_bias = means[:last], inverse[:last], inverse[last:]
        kernel, bias = ops.split(gradient, [last])
        step = (kernel - means * bias) * inverse
        return ops.concatenate([step, bias * of_bias - ops.sum(means * step, axis=0, keepdims=True)], axis=0)

    def _of_moments(self, moments: Any) -> tuple[Any, Any, Any]:
        """Return μ, and the inverse of what is divided by, of the weights and of the bias; 0 of a unit without F₀₀."""
        ops, last = keras.ops, moments.shape[0] // 2
        with_bias, of_bias, of_weights = ops.split(moments, [last, last + 1])
        means, moves = ops.divide_no_nan(with_bias, of_bias), ops.cast(of_bias > 0, moments.dtype)
        divisors = of_weights - means * with_bias + self.damping
        # A variance may come out below zero by rounding.
        inverse = ops.divide_no_nan(moves, ops.maximum(divisors, ops.zeros_like(divisors)))
        return means, inverse, ops.divide_no_nan(moves, of_bias + self.damping)


# An .h5 file names the optimizer inside a LossScaleOptimizer by nothing but its class.
keras.register(QuasiDiagonal, QuasiDiagonal.__name__, package="rewriter")
