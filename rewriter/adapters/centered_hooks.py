"""What a centered optimizer is asked by the half that an adapter writes; of no Keras."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rewriter.core.derived_classes import Mixin

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class CenteredHooks(Mixin):
    """The questions, each answered by the half that knows no Keras."""

    def _rewriter_build_statistics(self, variables: Sequence[Any]) -> None:
        """Make what is kept of the variables to train, called whenever they are named; once it is there, do nothing."""
        raise NotImplementedError

    def _rewriter_begin_step(self) -> None:
        """Do what comes before the gradients of a step are changed, on each replica."""
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
