"""The hooks through which tf-keras calls an optimizer, handed to methods of a rule that know no Keras."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tf_keras

from rewriter.adapters.tf_keras.distribution import has_strategy, update_on_every_replica
from rewriter.adapters.tf_keras.layers import stored_variable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class DecayBase:
    """Base of the mixin whose weight decay leaves out rows, before the class of any optimizer of tf-keras."""

    weight_decay: float | None

    def decay_variables(self, variables: Sequence[Any]) -> None:
        """Decay some variables by one step; a subclass does it, called only where there is a weight decay."""
        raise NotImplementedError

    def decay_as_keras_does(self, variables: Sequence[Any]) -> None:
        """Decay some variables, each as a whole, as the optimizer's own class does."""
        super()._apply_weight_decay(variables)  # type: ignore[misc]

    def decay_with(self, decay: Callable[[Any], None], variable: Any) -> None:
        """Run a decay on a variable, or under ``tf.distribute`` on its copy on each replica."""
        update_on_every_replica(self, variable, decay)

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        if self.weight_decay is not None:
            self.decay_variables(variables)


class OptimizerBase(tf_keras.optimizers.Optimizer):
    """Base of the optimizers of this library.

    A subclass writes :meth:`take_step`, :meth:`slot_values` and :meth:`require_slots`.

    Args:
        learning_rate: A number or a schedule.
        **settings: Those of every optimizer of tf-keras.
    """

    def __init__(self, learning_rate: Any, **settings: Any) -> None:
        super().__init__(**settings)
        self._learning_rate = self._build_learning_rate(learning_rate)

    def take_step(self, gradient: Any, variable: Any) -> None:
        """Apply one step to one variable, given as it is stored."""
        raise NotImplementedError

    def slot_values(self, variables: Sequence[Any], made_before: bool) -> Mapping[str, Sequence[Any]]:
        """Return the first values of the slots, for each variable, by the attribute that is to hold the slots."""
        raise NotImplementedError

    def require_slots(self, variables: Sequence[Any]) -> None:
        """Raise an error unless each of some variables has slots; called when the optimizer is built already."""
        raise NotImplementedError

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
            self.require_slots(var_list)
            return
        for name, values in self.slot_values(var_list, getattr(self, "_slots_made", False)).items():
            slots = [
                self.add_variable_from_reference(variable, name, initial_value=value)
                for variable, value in zip(var_list, values, strict=True)
            ]
            setattr(self, name, slots)
        self._slots_made = self._built = True

    def update_step(self, gradient: Any, variable: Any) -> None:
        """Apply one step to one variable; tf-keras calls it for each.

        Args:
            gradient: Its gradient, dense or ``tf.IndexedSlices``.
            variable: The variable; under mixed precision, wrapped.
        """
        self.take_step(gradient, stored_variable(variable))

    def place_among_slots(self, variable: Any) -> int | None:
        """Return the place of a variable in each list of slots, ``None`` where it has none."""
        place: int | None = self._index_dict.get(self._var_key(variable))
        return place

    def descend(self, variable: Any, gradient: Any, rate: Any) -> None:
        """Subtract ``rate * gradient`` from a variable, of a sparse gradient in the rows that it has."""
        if isinstance(gradient, tf.IndexedSlices):
            variable.scatter_sub(tf.IndexedSlices(rate * gradient.values, gradient.indices))
        else:
            variable.assign_sub(rate * gradient)

    def aggregate_gradients(self, grads_and_vars: Any) -> Any:
        """Sum gradients over the replicas; tf-keras calls it before the first update.

        Without a strategy there is no second replica, so they pass unchanged. Keras sends them through one operation
        even then, and no variable could move before the last gradient exists.

        Args:
            grads_and_vars: Pairs of gradient and variable.
        """
        return super().aggregate_gradients(grads_and_vars) if has_strategy() else list(grads_and_vars)

    def decay_whole_variables(self, variables: Sequence[Any], decay: Callable[[Any], None]) -> None:
        """Run a decay on those of some variables that were not excluded from weight decay."""
        for variable in filter(self._use_weight_decay, variables):
            update_on_every_replica(self, variable, decay)

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

    def is_constructed(self) -> bool:
        """Tell whether ``__init__`` has been called, and not that of a subclass alone."""
        return "_learning_rate" in vars(self)

    def variables_not_saved(self) -> list[str]:
        """List the attributes that are variables, and none of those that tf-keras saves or makes again."""
        saved = {id(variable) for variable in self._variables}
        remade = {"_iterations", "_learning_rate", "_current_learning_rate"}
        return [
            name
            for name, value in vars(self).items()
            if isinstance(value, tf.Variable) and name not in remade and id(value) not in saved
        ]

    def keras_settings(self) -> dict[str, Any]:
        """Return the settings that every optimizer of tf-keras has, the learning rate as it was given."""
        return {**super().get_config(), "learning_rate": self._learning_rate}

    def serialized_setting(self, value: Any) -> Any:
        """Return a setting as JSON data."""
        return self._serialize_hyperparameter(value)
