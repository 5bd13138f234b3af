"""What a rule asks its layers for: statistics of what they see in training, by name, read for a variable."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rewriter.core.layout import layout_of
from rewriter.core.suggestions import closest, did_you_mean

from ..adapters import OptimizerBase, keras
from ..model.observation.flowing_back import MOMENTS
from .hyperparameters import require_number, require_one_of
from .layer_moments import LayerMoments, RunningMean
from .layer_statistics import LayerStatistics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

INPUT_MEAN = "input_mean"
_NAMES = (INPUT_MEAN, *MOMENTS)
# Of a rule: what it keeps of the means, and of the moments, that it asks for.
_MEANS, _MOMENTS = "_rewriter_statistics_of_rule", "_rewriter_moments_of_rule"


class ObservingRule(OptimizerBase):
    """A Keras optimizer whose rule may ask its layers what they see.

    Attributes:
        statistics: What a subclass wants to know of each layer: the name of a statistic, and how much of what was seen
            before still counts one step later, in [0, 1]; of a moment a :class:`rewriter.RunningMean` says more.
            :meth:`statistic` reads it. Each call of a layer in training adds to it; inference does not. At a step it is
            summed over replicas.
    """

    statistics: Mapping[str, float | RunningMean] = {}

    def statistic(self, name: str, variable: Any) -> Any:
        """Return a statistic of the layer of an augmented kernel, in a step.

        With ``X`` what each kernel row reads at each position, ``X̃`` the same with a one behind each row, ``Δ`` what
        flows back to the result of the layer before its activation, and ``N`` the number of positions, or of a
        convolution that of examples, there are

        - ``"input_mean"``: the mean of ``X`` over all calls in training and all their positions, those left out that a
          mask leaves out. It is broadcast beside the kernel rows: of shape ``(rows, 1)``, or, where units read
          different features, as in a grouped convolution, ``(rows, units)`` or ``(1, units)``.
        - ``"input_moment"``: the mean of ``X̃ᵀ X̃``, of shape ``(incoming, incoming)``.
        - ``"output_moment"``: ``N ΔᵀΔ``, of shape ``(units, units)``: of a loss that is a mean over the positions, the
          mean of the squared gradient at one.
        - ``"unit_moments"``: ``N [X̃, X²]ᵀ Δ²``, of shape ``(2 incoming - 1, units)``.

        Args:
            name: One of :attr:`statistics`.
            variable: The augmented kernel that :meth:`update_layer` was given.

        Returns:
            A new tensor; a mean of the variable's dtype, a moment of float32, or float64 if the variable has that.
            Older steps count less; zeros before the first call. ``None`` where it is not known: of a layer whose input
            is not, and of moments for layers whose units read different features, recurrent cells, and layers with a
            call of their own.

        Raises:
            ValueError: There is no such statistic, or the rule does not ask for it.
        """
        if name not in self.statistics:
            hint = did_you_mean(closest(name, [*self.statistics])) or (
                f" Ask for it: statistics = {{{name!r}: 0.99}}." if name in _NAMES else ""
            )
            asked = ", ".join(self.statistics) or "none"
            raise ValueError(
                f"{type(self).__name__} has no statistic {name!r}; those that it asks for are {asked}.{hint}"
            )
        if name in MOMENTS:
            moments: LayerMoments | None = vars(self).get(_MOMENTS)
            return None if moments is None else moments.of(self, variable, name)
        kept, layout = _means_of(self), layout_of(variable)
        observer = None if kept is None else kept.of(self, variable)
        if observer is None or layout is None:
            return None
        mean = observer.mean(keras.stored_dtype(variable))
        if observer.flow.by_unit:
            return observer.flow.beside_units(mean, layout.units)
        return keras.ops.reshape(observer.flow.above_biases(mean, 1), (-1, 1))

    def _rewriter_has_measured(self, variable: Any) -> Any:
        """Tell whether a step has measured the moments of a layer, which can be measured: a scalar of truth."""
        moments: LayerMoments = vars(self)[_MOMENTS]
        return moments.has_measured(self, variable)

    @property
    def _rewriter_period(self) -> int:
        """After how many steps what a step costs repeats: some measure, or decompose, and those between do not."""
        return math.lcm(*(each.every for each in self.statistics.values() if isinstance(each, RunningMean)))

    def _rewriter_build_observers(self, variables: Sequence[Any]) -> None:
        observe_for_rule(self, variables)

    # AutoGraph reads these in a user's own loop, and knows no assignment in a condition.
    def _rewriter_before_steps(self, variables: Sequence[Any]) -> None:
        self._rewriter_warn_of_uncalled(variables)
        means, moments = _means_of(self), vars(self).get(_MOMENTS)
        if means is not None:
            means.share()
        if moments is not None:
            moments.begin_step()

    def _rewriter_warn_of_uncalled(self, variables: Sequence[Any]) -> None:
        for kept in (_means_of(self), vars(self).get(_MOMENTS)):
            if kept is not None:
                kept.observers.warn_of_uncalled(self, variables)

    def _rewriter_after_steps(self) -> None:
        means, moments = _means_of(self), vars(self).get(_MOMENTS)
        if means is not None:
            means.forget()
        if moments is not None:
            moments.end_step(self.iterations)


def _means_of(rule: Any) -> LayerStatistics | None:
    kept: LayerStatistics | None = vars(rule).get(_MEANS)
    return kept


def kept_of_layer(rule: Any, variable: Any) -> list[Any]:
    """List the variables in which a rule keeps what it asks the layer of an augmented kernel for."""
    means, moments = (vars(rule).get(name) for name in (_MEANS, _MOMENTS))
    found = [] if means is None else [means.of(rule, variable)]
    found += [] if moments is None else [moments.observers.of.get(keras.variable_key(rule, variable))]
    return [each for observer in found if observer is not None for each in observer.variables]


def observe_for_rule(rule: ObservingRule, variables: Sequence[Any]) -> None:
    """Have added up what a rule asks for, of the layers of some variables, and saved after all else of the rule.

    Raises:
        TypeError: ``statistics`` of the rule is no dict.
        ValueError: The rule asks for something that is no statistic, or with a decay that is not in its range, or for
            moments in different ways.
    """
    name = type(rule).__name__
    if not isinstance(rule.statistics, dict):
        raise TypeError(
            f"{name}.statistics must be a dict, as {{{INPUT_MEAN!r}: 0.99}}: what to ask each layer "
            f"for, and how much of it still counts one step later; got {rule.statistics!r}. Give a setting of your own "
            "another name."
        )
    if not rule.statistics:
        return
    for asked, decay in rule.statistics.items():
        require_one_of(f"a statistic of {name}", asked, _NAMES)
        if not (asked in MOMENTS and isinstance(decay, RunningMean)):
            require_number(f"the decay of statistic {asked!r}", decay, 0, 1)
    kept = []
    if INPUT_MEAN in rule.statistics:
        means = _means_of(rule) or LayerStatistics(rule.statistics[INPUT_MEAN])
        object.__setattr__(rule, _MEANS, means)
        kept += means.build(rule, variables, name=INPUT_MEAN)
    wanted = {
        asked: mean if isinstance(mean, RunningMean) else RunningMean(mean)
        for asked, mean in rule.statistics.items()
        if asked in MOMENTS
    }
    if len(set(wanted.values())) > 1:
        raise ValueError(f"{name} asks for moments in different ways, {wanted}: give all of them one RunningMean.")
    if wanted:
        moments = vars(rule).get(_MOMENTS) or LayerMoments(tuple(wanted), next(iter(wanted.values())))
        object.__setattr__(rule, _MOMENTS, moments)
        kept += moments.build(rule, variables)
    keras.put_last(rule, kept)
