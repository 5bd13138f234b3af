"""The hooks of an optimizer whose gradients and steps are taken in other coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from rewriter.core.saved_state import has_shapes_of

from ...optimizer_hooks import CenteredHooks
from ..graphs.context import notes_of_graph
from ..layers import stored_variable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


class CenteredBase(CenteredHooks):
    """Base of the mixin that goes before the class of any optimizer of tf-keras.

    Clipping, weight decay, constraints, averages and schedules stay those of the optimizer's own class, as they lie
    between the methods that are overridden.
    """

    def build(self, var_list: Sequence[Any]) -> None:
        """Make the slots and the statistics; tf-keras calls it before the first step.

        Args:
            var_list: The variables to train.
        """
        super().build(var_list)  # type: ignore[misc]
        self._rewriter_build_statistics(var_list)

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Load the state.

        Args:
            store: The saved variables, numbered in order.
        """
        # As arrays: a sum over replicas is divided among them, and a dataset of a file cannot be divided.
        optimizer: Any = self
        values = {key: store[key][()] for key in store}
        if len(values) != len(optimizer.variables) or has_shapes_of(optimizer.name, optimizer.variables, values):
            super().load_own_variables(values)  # type: ignore[misc]  # of another count Keras says so

    def compute_gradients(self, loss: Any, var_list: Any, tape: Any = None) -> list[tuple[Any, Any]]:
        """Compute the gradients that :meth:`apply_gradients` takes.

        Their twins are kept for it. Of a gradient that is another by then, scaled for example, the twin is not used.

        Args:
            loss: As in every optimizer of tf-keras.
            var_list: As in every optimizer of tf-keras.
            tape: As in every optimizer of tf-keras.
        """
        optimizer: Any = super()
        # A loss scale multiplies gradients, so they come to the step as others.
        scaled = getattr(self, "_is_wrapped_by_loss_scale_optimizer", False)
        if callable(loss) or callable(var_list) or tape is None or scaled or tf.executing_eagerly():
            plain: list[tuple[Any, Any]] = optimizer.compute_gradients(loss, var_list, tape)
            return plain
        asked = _TapeWithTwins(tape, self._rewriter_twin_of)
        pairs = list(optimizer.compute_gradients(loss, var_list, asked))
        of_twins = [asked.gradients.get(id(variable)) for _, variable in pairs]
        changed = {
            id(gradient): (gradient, of_twin)
            for (gradient, variable), of_twin in zip(pairs, of_twins, strict=True)
            if of_twin is not None and self._rewriter_is_whole(gradient, variable)
        }
        notes_of_graph()[self] = changed
        return pairs

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
            skip_gradients_aggregation: The gradients are summed over the replicas already.
            **kwargs: As in every optimizer of tf-keras.
        """
        pairs: list[tuple[Any, Any]] = list(grads_and_vars)
        optimizer: Any = super()
        changed_already = notes_of_graph().pop(self, {})
        of_twins = [changed_already.get(id(gradient), (None, None))[1] for gradient, _ in pairs]
        if not skip_gradients_aggregation and kwargs.pop("experimental_aggregate_gradients", True):
            pairs = list(optimizer.aggregate_gradients(pairs))
        moved = [variable for gradient, variable in pairs if gradient is not None]
        tf.autograph.experimental.do_not_convert(self._rewriter_begin_step)(moved)
        changed = [
            (self._rewriter_changed(gradient, of_twin, variable), variable)
            for (gradient, variable), of_twin in zip(pairs, of_twins, strict=True)
        ]
        result = optimizer.apply_gradients(changed, name=name, skip_gradients_aggregation=True, **kwargs)
        self._rewriter_end_step(moved, optimizer.iterations - 1)
        return result

    def _rewriter_changed(self, gradient: Any, of_twin: Any, variable: Any) -> Any:
        if gradient is None or of_twin is not None:
            return of_twin
        return self._rewriter_changed_gradient(gradient, variable)

    def update_step(self, gradient: Any, variable: Any) -> None:
        """Apply one step to one variable; tf-keras calls it for each.

        Args:
            gradient: Its gradient, changed and clipped.
            variable: The variable.
        """
        optimizer: Any = super()
        stored, waits = stored_variable(variable), getattr(self, "_rewriter_waits", None)
        if waits is not None and waits(stored):
            optimizer.update_step(gradient, variable)
        else:
            self._rewriter_change_step(gradient, stored, lambda: optimizer.update_step(gradient, variable))

    def _rewriter_step_together(self, steps: Sequence[tuple[Any, Any]]) -> None:
        """Take the steps of variables that wait for each other; each is corrected as if it were taken alone."""
        optimizer: Any = super()

        def take(left: Sequence[tuple[Any, Any]]) -> None:
            if left:
                self._rewriter_change_step(None, left[0][1], lambda: take(left[1:]))
            else:
                optimizer._rewriter_step_together(steps)

        take(steps)


class _TapeWithTwins:
    """A tape that is asked for the gradients of twins at the same time, as a tape gives gradients once.

    In a graph those that nobody uses are not computed.
    """

    def __init__(self, tape: Any, twin_of: Callable[[Any], Any]) -> None:
        self._tape, self._twin_of = tape, twin_of
        self.gradients: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tape, name)

    def gradient(self, target: Any, sources: Sequence[Any], *args: Any, **kwargs: Any) -> list[Any]:
        """Return the gradients for some variables; those of their twins are kept, by ``id`` of the variable."""
        twins = {id(source): twin for source in sources if (twin := self._twin_of(source)) is not None}
        gradients = self._tape.gradient(target, [*sources, *twins.values()], *args, **kwargs)
        self.gradients = dict(zip(twins, gradients[len(sources) :], strict=True))
        return gradients[: len(sources)]  # type: ignore[no-any-return]
