"""The hooks through which Keras 3 calls an optimizer, handed to methods of a rule that know no Keras."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from ...optimizer_hooks import JointHooks
from ..distribution import replica_of_update
from ..observation.layer_statistics import is_kept_by_layer, with_statistics, without_statistics
from ..slots import average_statistics, before_the_trace
from .told_optimizer import ToldOptimizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class DecayBase:
    """Base of the mixin whose weight decay leaves out rows, before the class of any optimizer of Keras 3.

    Whatever is added to a user's class has a name that a user would not choose.
    """

    weight_decay: float | None

    def _rewriter_decay(self, variables: Sequence[Any]) -> None:
        """Decay some variables by one step; a subclass writes it, called only where there is a weight decay."""
        raise NotImplementedError

    def _rewriter_decay_as_keras(self, variables: Sequence[Any]) -> None:
        """Decay some variables, each as a whole, as the optimizer's own class does."""
        # On torch Keras fails where there is none.
        if any(map(self._use_weight_decay, variables)):  # type: ignore[attr-defined]
            super()._apply_weight_decay(variables)  # type: ignore[misc]

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        if self.weight_decay is not None:
            self._rewriter_decay(variables)


class OptimizerBase(JointHooks, ToldOptimizer, keras.optimizers.Optimizer):
    """Base of the optimizers of this library.

    Args:
        learning_rate: A number or a schedule.
        jit_compile: Of no meaning here: a model says whether its step is compiled.
        **settings: Those of every optimizer of Keras 3.
    """

    def __init__(self, learning_rate: Any, jit_compile: bool = True, **settings: Any) -> None:
        super().__init__(learning_rate=learning_rate, **settings)
        self.jit_compile = jit_compile

    def build(self, variables: Sequence[Any]) -> None:
        """Make the slots; Keras calls it before the first step.

        Args:
            variables: The variables to train.

        Raises:
            ValueError: A slot's extent is none of those there are, or its name is taken.
            OptimizerError: The slots were made before, and not for one of these variables.
        """
        trained = without_statistics(variables)
        with before_the_trace():
            if self.built:
                self._rewriter_require_slots(trained)
            else:
                self._rewriter_build_observers(trained)
                self._rewriter_make_slots(trained)
            self._rewriter_build_observers(trained)

    def _rewriter_make_slots(self, trained: Sequence[Any]) -> None:
        made = self._rewriter_slots(trained, getattr(self, "_slots_made", False))
        super().build(with_statistics(trained))
        average_statistics(self)
        for name, values in made.items():
            of_trained = iter(zip(trained, values, strict=True))
            setattr(self, name, [self._rewriter_slot_of(each, name, of_trained) for each in with_statistics(trained)])
        self._slots_made = True

    def _rewriter_slot_of(self, variable: Any, name: str, of_trained: Iterator[tuple[Any, Any]]) -> Any:
        """Make the slot of a variable, ``None`` for a statistic that a layer keeps."""
        if is_kept_by_layer(variable):
            return None
        _, value = next(of_trained)
        scope = variable.path.replace("/", "_")
        dtype = keras.backend.standardize_dtype(value.dtype)
        slot = self.add_variable(tuple(value.shape), dtype=dtype, name=f"{scope}_{name}")
        slot.assign(keras.ops.copy(value))  # JAX: a step that is given one buffer as two variables is refused
        return slot

    def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
        self._rewriter_before_steps(trainable_variables)
        with self._rewriter_waiting(trainable_variables):
            super()._backend_update_step(grads, trainable_variables, learning_rate)
        self._rewriter_after_steps()

    def _distributed_tf_update_step(self, distribution: Any, grads_and_vars: Any, learning_rate: Any) -> None:
        # On TensorFlow it comes between, in a thread of its own where there are several replicas.
        pairs = list(grads_and_vars)
        with self._rewriter_waiting([variable for _, variable in pairs]):
            super()._distributed_tf_update_step(distribution, pairs, learning_rate)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Apply one step to one variable; Keras calls it for each.

        Args:
            gradient: Its gradient.
            variable: The variable.
            learning_rate: The learning rate of now, which the rule reads by itself.
        """
        del learning_rate
        self._rewriter_step_or_wait(gradient, variable, replica_of_update())

    def _rewriter_settings(self) -> dict[str, Any]:
        """Return the settings that every optimizer of Keras 3 has, the learning rate as it was given."""
        return {**super().get_config(), "learning_rate": self._learning_rate}
