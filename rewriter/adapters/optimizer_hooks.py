"""What the half of an optimizer that an adapter writes asks of the other half, which knows no Keras."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from rewriter.core.derived_classes import Mixin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

# The steps that wait for others: how many there will be, and those that are there, by replica.
_WAITING: ContextVar[tuple[int, dict[Any, list[tuple[Any, Any]]]]] = ContextVar("waiting")


class CenteredHooks(Mixin):
    """What is asked of a centered optimizer."""

    def _rewriter_build_statistics(self, variables: Sequence[Any]) -> None:
        """Make what is kept of the variables to train, called whenever they are named; once it is there, do nothing."""
        raise NotImplementedError

    def _rewriter_begin_step(self, variables: Sequence[Any]) -> None:
        """Do what comes before the gradients of a step are changed, on each replica, given the variables that move."""
        raise NotImplementedError

    def _rewriter_changed_gradient(self, gradient: Any, variable: Any) -> Any:
        """Return a gradient in the coordinates in which the step is taken."""
        raise NotImplementedError

    def _rewriter_change_step(self, gradient: Any, variable: Any, step: Callable[[], None]) -> None:
        """Take the step of one variable, by calling ``step()``, and correct it; the variable is given as stored.

        The gradient is that of the step, ``None`` if it is taken together with others.
        """
        raise NotImplementedError

    def _rewriter_end_step(self, variables: Sequence[Any], steps: Any) -> None:
        """Do what comes after all variables moved, on each replica, given those that did, and the steps before."""
        raise NotImplementedError

    def _rewriter_twin_of(self, variable: Any) -> Any:
        """Return the scalar whose gradient is that of a variable in the step's coordinates, ``None`` for none."""
        raise NotImplementedError

    def _rewriter_is_whole(self, gradient: Any, variable: Any) -> bool:
        """Tell whether a gradient of a variable has come from where its twin's comes from, and from nowhere else."""
        raise NotImplementedError


class JointHooks:
    """What is asked of an optimizer of whole layers."""

    def _rewriter_step(self, gradient: Any, variable: Any) -> None:
        """Apply one step to one variable, given as it is stored."""
        raise NotImplementedError

    def _rewriter_slots(self, variables: Sequence[Any], made_before: bool) -> Mapping[str, Sequence[Any]]:
        """Return the first values of the slots, for each variable, by the attribute that is to hold the slots."""
        raise NotImplementedError

    def _rewriter_require_slots(self, variables: Sequence[Any]) -> None:
        """Raise an error unless each of some variables has slots; called when the optimizer is built already."""
        raise NotImplementedError

    def _rewriter_build_observers(self, variables: Sequence[Any]) -> None:
        """Make what is kept of the layers of the variables to train, where it is not there yet."""
        raise NotImplementedError

    def _rewriter_before_steps(self, variables: Sequence[Any]) -> None:
        """Do what comes before the steps of all variables, on each replica, given those that move."""
        raise NotImplementedError

    def _rewriter_warn_of_uncalled(self, variables: Sequence[Any]) -> None:
        """Warn, once, of variables that move while nothing was seen of their layers."""
        raise NotImplementedError

    def _rewriter_after_steps(self) -> None:
        """Do what comes after the steps of all variables, on each replica."""
        raise NotImplementedError

    def _rewriter_waits(self, variable: Any) -> bool:
        """Tell whether the step of a variable is taken together with those of all others of which that is true."""
        raise NotImplementedError

    def _rewriter_step_together(self, steps: Sequence[tuple[Any, Any]]) -> None:
        """Apply one step to all variables that wait, given with their gradients, on each replica."""
        raise NotImplementedError

    @contextlib.contextmanager
    def _rewriter_waiting(self, variables: Sequence[Any]) -> Iterator[int]:
        """Inside, steps of variables that wait for each other are taken with the last; yields how many wait."""
        count = sum(map(self._rewriter_waits, variables))
        token = _WAITING.set((count, defaultdict(list)))
        try:
            yield count
        finally:
            _WAITING.reset(token)

    def _rewriter_step_or_wait(self, gradient: Any, variable: Any, replica: Any) -> None:
        """Apply one step to one variable, given as it is stored, on a replica; or to all that wait, with the last."""
        if not self._rewriter_waits(variable):
            self._rewriter_step(gradient, variable)
            return
        expected, waiting = _WAITING.get()
        steps = waiting[replica]
        steps.append((gradient, variable))
        if len(steps) == expected:
            self._rewriter_step_together(steps)
