"""The hooks of an optimizer whose gradients and steps are taken in other coordinates."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from ...optimizer_hooks import CenteredHooks
from ..corrected_steps import add_corrected
from ..observation.layer_statistics import with_statistics, without_statistics
from ..slots import average_statistics
from .told_optimizer import ToldOptimizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# The variables that a step under way moves: Keras clips gradients without saying of what.
_MOVED: ContextVar[Sequence[Any]] = ContextVar("moved")


class CenteredBase(ToldOptimizer, CenteredHooks):
    """Base of the mixin that goes before the class of any optimizer of Keras 3.

    Accumulation of gradients, clipping, weight decay, constraints, averages and schedules stay those of the
    optimizer's own class, as they lie between the methods that are overridden.
    """

    def build(self, variables: Sequence[Any]) -> None:
        """Make the slots and the statistics; Keras calls it before the first step.

        Args:
            variables: The variables to train.
        """
        optimizer: Any = super()
        trained = without_statistics(variables)
        self._rewriter_build_statistics(trained)  # the layers keep them, so a model trains them from now on
        optimizer.build(with_statistics(trained))
        average_statistics(self)
        self._rewriter_build_statistics(trained)  # what the optimizer keeps comes behind its slots

    def _backend_apply_gradients(self, grads: Sequence[Any], trainable_variables: Sequence[Any]) -> None:
        optimizer: Any = super()
        token = _MOVED.set(trainable_variables)
        try:
            optimizer._backend_apply_gradients(grads, trainable_variables)
        finally:
            _MOVED.reset(token)

    def _clip_gradients(self, grads: Sequence[Any]) -> Sequence[Any]:
        # Called once a step, when all gradients that belong to it are added up, and before they are clipped.
        optimizer: Any = super()
        variables = _MOVED.get()
        self._rewriter_begin_step(variables)
        pairs = zip(grads, variables, strict=True)
        clipped: Sequence[Any] = optimizer._clip_gradients([self._rewriter_changed_gradient(*pair) for pair in pairs])
        return clipped

    def _backend_update_step(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any], learning_rate: Any
    ) -> None:
        optimizer: Any = super()
        optimizer._backend_update_step(grads, trainable_variables, learning_rate)
        self._rewriter_end_step(trainable_variables, optimizer.iterations)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Apply one step to one variable; Keras calls it for each.

        Args:
            gradient: Its gradient, changed and clipped.
            variable: The variable; on TensorFlow the one inside it.
            learning_rate: The learning rate of now.
        """
        optimizer: Any = super()
        self._rewriter_change_step(gradient, variable, lambda: optimizer.update_step(gradient, variable, learning_rate))

    def assign_add(self, variable: Any, value: Any) -> None:
        """Add to a variable, as Keras's optimizers do; a step that is under way is corrected."""
        add_corrected(variable, value, 1, super().assign_add)  # type: ignore[misc]

    def assign_sub(self, variable: Any, value: Any) -> None:
        """Subtract from a variable, as Keras's optimizers do; a step that is under way is corrected."""
        add_corrected(variable, value, -1, super().assign_sub)  # type: ignore[misc]

    def _parallel_update_step(self, grads: Sequence[Any], variables: Sequence[Any], learning_rate: Any) -> None:
        # On torch, where Keras's own optimizers move all variables at once.
        optimizer: Any = super()
        self._rewriter_correct_all(variables, lambda: optimizer._parallel_update_step(grads, variables, learning_rate))

    def _rewriter_step_together(self, steps: Sequence[tuple[Any, Any]]) -> None:
        """Take the steps of variables that wait for each other; each is corrected as if it were taken alone."""
        optimizer: Any = super()
        self._rewriter_correct_all(
            [variable for _, variable in steps], lambda: optimizer._rewriter_step_together(steps)
        )

    def _rewriter_correct_all(self, variables: Sequence[Any], step: Callable[[], None]) -> None:
        if variables:
            first, left = variables[0], variables[1:]
            self._rewriter_change_step(None, first, lambda: self._rewriter_correct_all(left, step))
        else:
            step()
