"""Joint momentum: each unit's momentum is its mean over all incoming connections, the bias among them.

With ``G`` the gradient of ``W*``, so that its last row is the bias gradient, the rule is

    V ← G + μ · 1 · mean(V)        the mean over the incoming axis, per unit
    W* ← W* - η V

Only the mean ``m`` of ``V`` is ever read again, and it obeys its own recursion, so ``V`` is not stored:

    W* ← W* - η (G + μ 1 m)
    m ← mean(G) + μ m

In centered coordinates, with ``m̂`` the mean of the layer's inputs, ``G`` is ``(G_W - m̂ ⊗ G_b, G_b)``, and the bias row
moves by ``-m̂ᵀ ΔW`` more, as under :class:`rewriter.Centered`.

With Nesterov's look-ahead (Sutskever et al. 2013, as in tf-keras's SGD) the second ``m`` comes first, and moves the
weights: ``W* ← W* - η (G + μ 1 · mean(V))`` with the ``V`` of this step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rewriter.core.flags import require_flags
from rewriter.core.layout import layout_of

from ..adapters import keras
from .centered.optimizer import center, is_centered, mean_input
from .hyperparameters import require_number, require_one_of, scalar
from .joint_optimizer import JointOptimizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rewriter.core.layout import Layout

    from .state.extents import Extent

# By what is averaged: what is kept of V.
_EXTENT: dict[str, Extent] = {"incoming": "unit", "outgoing": "incoming"}


class _Slots:
    """The slots by what is averaged; on the class itself, those of the default."""

    def __get__(self, optimizer: JointMomentum | None, _: type) -> dict[str, Extent]:
        return {"momentums": _EXTENT["incoming" if optimizer is None else optimizer.average]}


class JointMomentum(JointOptimizer):
    """Momentum that sees a layer whole: one number a unit, averaged over its incoming connections and its bias.

    Variables that are not augmented kernels get ordinary heavy-ball momentum, ``V ← G + μV``, with a slot of their
    own size. The learning rate multiplies at the update, not inside ``V``.

    Args:
        learning_rate: η, a number of at least 0 or a ``LearningRateSchedule``.
        momentum: μ, in [0, 1].
        average: ``"incoming"`` averages over axis 0 of ``W*``, the rows that feed a unit, and keeps ``units`` numbers
            a layer. ``"outgoing"`` averages over axis 1, which is what a literal mean over ``axis=1`` of a Keras kernel
            computes, and keeps ``fan_in + 1`` numbers; it is here for comparison.
        nesterov: Whether the weights move by the momentum that this step makes instead of the one it finds.
        centered: Whether steps are taken in centered coordinates: ``JointMomentum(centered=True)`` is
            ``Centered(JointMomentum())``, see :class:`rewriter.Centered`.
        name: Name of the optimizer.
        **kwargs: The settings of every :class:`rewriter.JointOptimizer`: ``weight_decay``, ``decay_bias``,
            ``clipnorm``, ``clipvalue``, ``global_clipnorm``, ``use_ema``, ``ema_momentum``,
            ``ema_overwrite_frequency``, ``jit_compile``.

    Raises:
        ValueError: A hyperparameter is not in its legal range; the message says which that is.
    """

    # Keras writes it into files: a stable name and not a place, see NAMED_IN_FILES in rewriter/__init__.py.
    __module__ = f"{keras.LIBRARY}.joint_momentum"

    # The mean momentum of each layer, the full momentum of each other variable.
    slots = _Slots()

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.9,
        average: str = "incoming",
        nesterov: bool = False,
        centered: bool = False,
        name: str = "JointMomentum",
        **kwargs: Any,
    ) -> None:
        require_number("momentum", momentum, 0, 1)
        require_one_of("average", average, _EXTENT)
        require_flags(nesterov=nesterov, centered=centered)
        super().__init__(learning_rate, name=name, **kwargs)
        self.momentum = momentum
        self.average = average
        self.nesterov = nesterov
        if centered:
            center(self)

    @property
    def centered(self) -> bool:
        """Whether steps are taken in centered coordinates."""
        return is_centered(self)

    def update_layer(self, gradient: Any, variable: Any, layout: Layout) -> None:
        """Apply one step of the rule to a whole layer.

        Args:
            gradient: The gradient of the augmented kernel.
            variable: The augmented kernel.
            layout: Its layout.
        """
        rate, momentum = keras.ops.cast(self.learning_rate, variable.dtype), scalar(self.momentum, variable.dtype)
        slot = self.slot("momentums", variable)
        if self.average == "incoming" and keras.fused is not None:
            inputs = mean_input(self, variable) if self._rewriter_corrects_step(variable) else None
            keras.fused.update(variable, slot, gradient, rate, momentum, self.nesterov, inputs)
            return
        axis = layout.incoming_axis if self.average == "incoming" else 1 - layout.incoming_axis
        found = momentum * slot
        made = keras.ops.mean(gradient, axis=axis) + found
        moving = momentum * made if self.nesterov else found
        variable.assign_sub(rate * (gradient + keras.ops.expand_dims(moving, axis)))
        slot.assign(made)

    def _rewriter_waits(self, variable: Any) -> bool:
        """Tell whether the step of a variable is taken together with others."""
        return super()._rewriter_waits(variable) or (self._moves_together and layout_of(variable) is not None)

    @property
    def _moves_together(self) -> bool:
        return self._is_fused and keras.fused is not None and keras.fused.updates_together()

    @property
    def _is_fused(self) -> bool:
        # A rule made of this one may move the variable in another way.
        own = type(self).update_layer is JointMomentum.update_layer and not self._rewriter_sees_all
        return own and self.average == "incoming" and keras.fused is not None

    def _rewriter_step_together(self, steps: Sequence[tuple[Any, Any]]) -> None:
        if not self._moves_together:
            super()._rewriter_step_together(steps)
            return
        assert keras.fused is not None, "it moves them"  # noqa: S101
        given = [
            (variable, self.slot("momentums", variable), gradient, mean_input(self, variable))
            for gradient, variable in steps
        ]
        keras.fused.update_together(given, self.learning_rate, self.momentum, self.nesterov)

    def _rewriter_corrects_step(self, variable: Any) -> bool:
        """Tell whether the rule moves the bias for the centered coordinates by itself, which costs no further pass."""
        return self._is_fused and mean_input(self, variable) is not None

    def standard_optimizer(self, **settings: Any) -> Any:
        """Return a fresh SGD with the same learning rate, momentum and other shared settings.

        Args:
            **settings: Further settings of the SGD.
        """
        return super().standard_optimizer(momentum=self.momentum, nesterov=self.nesterov, **settings)

    def update_other(self, gradient: Any, variable: Any) -> None:
        """Apply one step of heavy-ball momentum to a variable that is no augmented kernel.

        Args:
            gradient: Its gradient, dense or ``tf.IndexedSlices``.
            variable: The variable.
        """
        velocity = self.slot("momentums", variable)
        momentum = scalar(self.momentum, variable.dtype)
        if keras.is_sparse(gradient):
            # Rows without a gradient move on too; what is saved is a gradient as large as the variable.
            velocity.assign(momentum * velocity)
            keras.descend(velocity, gradient, -1.0)
            if self.nesterov:
                super().update_other(gradient, variable)
            super().update_other(momentum * velocity if self.nesterov else velocity, variable)
        else:
            velocity.assign(gradient + momentum * velocity)
            super().update_other(gradient + momentum * velocity if self.nesterov else velocity, variable)


# An .h5 file names the optimizer inside a LossScaleOptimizer by nothing but its class.
keras.register(JointMomentum, JointMomentum.__name__, package="rewriter")
