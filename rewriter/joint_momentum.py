"""Joint momentum: each unit's momentum is its mean over all incoming connections, the bias among them.

With ``G`` the gradient of ``W*``, so that its last row is the bias gradient, the rule is

    V ← G + μ · 1 · mean(V)        the mean over the incoming axis, per unit
    W* ← W* - η V

Only the mean ``m`` of ``V`` is ever read again, and it obeys its own recursion, so ``V`` is not stored:

    W* ← W* - η (G + μ 1 m)
    m ← mean(G) + μ m
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tf_keras

from rewriter import keras_internals
from rewriter.layout import layout_of
from rewriter.weight_decay import RowwiseWeightDecay

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rewriter.layout import Layout

_AXES = {"incoming": 0, "outgoing": 1}


@tf_keras.saving.register_keras_serializable(package="rewriter")
class JointMomentum(RowwiseWeightDecay, tf_keras.optimizers.Optimizer):
    """Momentum that sees a layer whole: one number a unit, averaged over its incoming connections and its bias.

    Variables that are not augmented kernels get ordinary heavy-ball momentum, ``V ← G + μV``, with a slot of their
    own size. The learning rate multiplies at the update, not inside ``V``.

    Args:
        learning_rate: η, a float or a ``LearningRateSchedule``.
        momentum: μ, in [0, 1].
        average: ``"incoming"`` averages over axis 0 of ``W*``, the rows that feed a unit, and keeps ``units`` numbers
            a layer. ``"outgoing"`` averages over axis 1, which is what a literal mean over ``axis=1`` of a Keras kernel
            computes, and keeps ``fan_in + 1`` numbers; it is here for comparison.
        weight_decay: Decoupled weight decay, times the learning rate, on the kernel rows only.
        clipnorm: As in every tf-keras optimizer; an augmented kernel is clipped whole.
        clipvalue: As in every tf-keras optimizer.
        global_clipnorm: As in every tf-keras optimizer.
        use_ema: As in every tf-keras optimizer.
        ema_momentum: As in every tf-keras optimizer.
        ema_overwrite_frequency: As in every tf-keras optimizer.
        jit_compile: As in every tf-keras optimizer.
        name: Name of the optimizer.
        **kwargs: What tf-keras adds when it loads an optimizer.

    Raises:
        ValueError: ``momentum`` or ``average`` is not one of those above.
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.9,
        average: str = "incoming",
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        jit_compile: bool = True,
        name: str = "JointMomentum",
        **kwargs: Any,
    ) -> None:
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be in [0, 1], got {momentum!r}.")
        if average not in _AXES:
            raise ValueError(f"average must be one of {', '.join(map(repr, _AXES))}, got {average!r}.")
        super().__init__(
            name=name,
            weight_decay=weight_decay,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
            ema_overwrite_frequency=ema_overwrite_frequency,
            jit_compile=jit_compile,
            **kwargs,
        )
        self._learning_rate = self._build_learning_rate(learning_rate)
        self.momentum = momentum
        self.average = average

    def build(self, var_list: Sequence[Any]) -> None:
        """Make the state: a mean momentum for each augmented kernel, a full momentum for each other variable.

        Args:
            var_list: The variables to train.
        """
        super().build(var_list)
        if getattr(self, "_built", False):
            return
        self.momentums = [
            self.add_variable_from_reference(variable, "m", shape=self._slot_shape(variable)) for variable in var_list
        ]
        self._built = True

    def update_step(self, gradient: Any, variable: Any) -> None:
        """Apply one step of the rule to one variable.

        Args:
            gradient: Its gradient, dense or ``tf.IndexedSlices``.
            variable: The variable; an augmented kernel is known by its layout.
        """
        dtype = variable.dtype
        rate = tf.cast(self.learning_rate, dtype)
        momentum = tf.cast(self.momentum, dtype)
        slot = self.momentums[self._index_dict[self._var_key(variable)]]
        gradient = tf.convert_to_tensor(gradient)
        if layout_of(variable) is None:
            slot.assign(gradient + momentum * slot)
            variable.assign_sub(rate * slot)
            return
        axis = _AXES[self.average]
        carried = momentum * slot
        variable.assign_sub(rate * (gradient + tf.expand_dims(carried, axis)))
        slot.assign(self.condense(gradient) + carried)

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Load the state.

        Args:
            store: The saved variables, numbered in order. A state that was saved for other variables is not loaded,
                and tf-keras logs that.
        """
        if len(store) == 1:  # saved before the first step: there is a count of iterations and no state yet
            self.iterations.assign(store["0"][()])
            return
        super().load_own_variables(store)

    def condense(self, momentum: Any) -> Any:
        """Reduce the momentum of a whole augmented kernel, ``V``, to the mean that is the state.

        Args:
            momentum: Tensor of the augmented kernel's shape.

        Returns:
            Its mean over the axis of ``average``, of rank 1.
        """
        return tf.reduce_mean(momentum, axis=_AXES[self.average])

    def standard_optimizer(self) -> Any:
        """Return the nearest plain Keras optimizer: SGD of the same settings, with a state of its own, fresh."""
        config = {key: value for key, value in self.get_config().items() if key not in {"average", "name"}}
        return tf_keras.optimizers.SGD.from_config(config)

    def get_config(self) -> dict[str, Any]:
        """Return the settings, ready for ``from_config``."""
        return {
            **super().get_config(),
            "learning_rate": self._serialize_hyperparameter(self._learning_rate),
            "momentum": self.momentum,
            "average": self.average,
        }

    def _slot_shape(self, variable: Any) -> tuple[int, ...] | None:
        layout = layout_of(variable)
        return None if layout is None else (layout.shape[1 - _AXES[self.average]],)

    def decayed_parts(self, variable: Any, layout: Layout) -> tuple[str, ...]:
        """Name the parts of an augmented kernel that weight decay acts on: of the kernel rows, never of the bias row.

        Args:
            variable: The augmented kernel.
            layout: Its layout.
        """
        bias = layout.parts[-1].attribute
        return tuple(part for part in super().decayed_parts(variable, layout) if part != bias)


def is_joint(optimizer: Any) -> bool:
    """Tell whether an optimizer is a joint momentum, be it inside a ``LossScaleOptimizer``."""
    return isinstance(keras_internals.inner_optimizer(optimizer), JointMomentum)
