"""The hooks through which tf-keras calls an optimizer, handed to methods of a rule that know no Keras."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tf_keras
from tensorflow.python.distribute import distribute_lib

from rewriter.core.saved_state import has_shapes_of

from ...optimizer_hooks import JointHooks
from ..distribution import has_strategy
from ..layers import stored_dtype, stored_variable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class DecayBase:
    """Base of the mixin whose weight decay leaves out rows, before the class of any optimizer of tf-keras.

    Whatever is added to a user's class has a name that a user would not choose.
    """

    weight_decay: float | None

    def _rewriter_decay(self, variables: Sequence[Any]) -> None:
        """Decay some variables by one step; a subclass writes it, called only where there is a weight decay."""
        raise NotImplementedError

    def _rewriter_decay_as_keras(self, variables: Sequence[Any]) -> None:
        """Decay some variables, each as a whole, as the optimizer's own class does."""
        super()._apply_weight_decay(variables)  # type: ignore[misc]

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        if self.weight_decay is not None:
            self._rewriter_decay(variables)


class OptimizerBase(JointHooks, tf_keras.optimizers.Optimizer):
    """Base of the optimizers of this library.

    Args:
        learning_rate: A number or a schedule.
        **settings: Those of every optimizer of tf-keras.
    """

    def __init__(self, learning_rate: Any, **settings: Any) -> None:
        super().__init__(**settings)
        self._learning_rate = self._build_learning_rate(learning_rate)

    def build(self, var_list: Sequence[Any]) -> None:
        """Make the slots; tf-keras calls it before the first step.

        Args:
            var_list: The variables to train.

        Raises:
            ValueError: A slot's extent is none of those there are, or its name is taken.
            OptimizerError: The slots were made before, and not for one of these variables.
        """
        super().build(var_list)
        if getattr(self, "_built", False):
            self._rewriter_require_slots(var_list)
            self._rewriter_build_observers(var_list)
            return
        for name, values in self._rewriter_slots(var_list, getattr(self, "_slots_made", False)).items():
            pairs = zip(var_list, values, strict=True)
            setattr(self, name, [self._rewriter_slot_of(variable, name, value) for variable, value in pairs])
        self._slots_made = self._built = True
        self._rewriter_build_observers(var_list)

    def _rewriter_slot_of(self, variable: Any, name: str, value: Any) -> Any:
        """Make the slot of a variable, in the dtype of its first value."""
        if tf.as_dtype(value.dtype) == stored_dtype(variable):
            return self.add_variable_from_reference(variable, name, initial_value=value)
        # tf-keras makes each in the dtype of its variable.
        with tf.distribute.get_strategy().extended.colocate_vars_with(stored_variable(variable)):
            named = f"{name}/{stored_variable(variable)._shared_name}"
            slot = tf.Variable(value, name=named, dtype=value.dtype, trainable=False)
        self._variables.append(slot)
        return slot

    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[Any, Any]],
        name: str | None = None,
        skip_gradients_aggregation: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Take one step.

        Args:
            grads_and_vars: Pairs of gradient and variable.
            name: As in every optimizer of tf-keras.
            skip_gradients_aggregation: As in every optimizer of tf-keras.
            **kwargs: As in every optimizer of tf-keras.
        """
        pairs = list(grads_and_vars)
        moved = [variable for gradient, variable in pairs if gradient is not None]
        tf.autograph.experimental.do_not_convert(self._rewriter_before_steps)(moved)
        # In a graph all is traced once more with what was built.
        is_late = tf.executing_eagerly() and not getattr(self, "_built", False)
        result = super().apply_gradients(pairs, name, skip_gradients_aggregation, **kwargs)
        if is_late:
            self._rewriter_warn_of_uncalled(moved)
        self._rewriter_after_steps()
        return result

    def _distributed_apply_gradients_fn(self, distribution: Any, grads_and_vars: Any, **kwargs: Any) -> Any:
        with self._rewriter_waiting([stored_variable(variable) for _, variable in grads_and_vars]) as waiting:
            compiles = self.jit_compile
            if waiting:
                # Keras compiles each step by itself where it can, and then none could see the others.
                object.__setattr__(self, "jit_compile", False)
            try:
                return super()._distributed_apply_gradients_fn(distribution, grads_and_vars, **kwargs)
            finally:
                if waiting:
                    object.__setattr__(self, "jit_compile", compiles)

    def update_step(self, gradient: Any, variable: Any) -> None:
        """Apply one step to one variable; tf-keras calls it for each.

        Args:
            gradient: Its gradient, dense or ``tf.IndexedSlices``.
            variable: The variable; under mixed precision, wrapped.
        """
        replica = distribute_lib.get_update_replica_id() if has_strategy() else None
        self._rewriter_step_or_wait(gradient, stored_variable(variable), replica)

    def aggregate_gradients(self, grads_and_vars: Any) -> Any:
        """Sum gradients over the replicas; tf-keras calls it before the first update.

        Without a strategy there is no second replica, so they pass unchanged. tf-keras would pass them through one
        operation, so every update would wait for the last gradient.

        Args:
            grads_and_vars: Pairs of gradient and variable.
        """
        return super().aggregate_gradients(grads_and_vars) if has_strategy() else list(grads_and_vars)

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Load the state.

        Args:
            store: The saved variables, numbered in order. A state that was saved for other variables is not loaded,
                and tf-keras logs that.
        """
        if len(store) == 1:  # saved before the first step: there is a count of iterations and no state yet
            self.iterations.assign(store["0"][()])
            return
        # As arrays: a sum over replicas is divided among them, and a dataset of a file cannot be divided.
        values = {key: store[key][()] for key in store}
        if len(values) != len(self.variables) or has_shapes_of(self.name, self.variables, values):
            super().load_own_variables(values)  # of another count Keras says so

    def _rewriter_settings(self) -> dict[str, Any]:
        """Return the settings that every optimizer of tf-keras has, the learning rate as it was given."""
        return {**super().get_config(), "learning_rate": self._learning_rate}
