"""What a rule asks its layers for: statistics of what they see in training, by name, read for a variable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from rewriter.core.layout import layout_of
from rewriter.core.suggestions import closest, did_you_mean

from ..adapters import OptimizerBase, keras
from .hyperparameters import require_number, require_one_of
from .layer_statistics import LayerStatistics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

INPUT_MEAN = "input_mean"
_NAMES = (INPUT_MEAN,)
_KEPT = "_rewriter_statistics_of_rule"


class ObservingRule(OptimizerBase):
    """A Keras optimizer whose rule may ask its layers what they see.

    Attributes:
        statistics: What a subclass wants to know of each layer: the name of a statistic, and how much of what was seen
            before still counts one step later, in [0, 1]. There is one, ``"input_mean"``. :meth:`statistic` reads it.
            Each call of a layer in training adds to it; inference does not. At a step it is summed over replicas.
    """

    statistics: ClassVar[Mapping[str, float]] = {}

    def statistic(self, name: str, variable: Any) -> Any:
        """Return a statistic of the layer of an augmented kernel, in a step.

        Args:
            name: One of :attr:`statistics`. ``"input_mean"`` is the mean of what each kernel row reads, over all calls
                of the layer in training and all their positions, those left out that a mask leaves out, with older
                steps counting less; zeros before the first call.
            variable: The augmented kernel that :meth:`update_layer` was given.

        Returns:
            A new tensor of the variable's dtype that is broadcast beside its kernel rows: of shape ``(rows, 1)``, or,
            where units read different features, as in a grouped convolution, ``(rows, units)`` or ``(1, units)``.
            ``None`` if the input of the layer is not known.

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
        kept, layout = _kept_by(self), layout_of(variable)
        observer = None if kept is None else kept.of(self, variable)
        if observer is None or layout is None:
            return None
        mean = observer.mean(keras.stored_dtype(variable))
        if observer.flow.by_unit:
            return observer.flow.beside_units(mean, layout.units)
        return keras.ops.reshape(observer.flow.above_biases(mean, 1), (-1, 1))

    def _rewriter_build_observers(self, variables: Sequence[Any]) -> None:
        observe_for_rule(self, variables)

    def _rewriter_before_steps(self) -> None:
        kept = _kept_by(self)
        if kept is not None:
            kept.share()

    def _rewriter_after_steps(self) -> None:
        kept = _kept_by(self)
        if kept is not None:
            kept.forget()


def _kept_by(rule: Any) -> LayerStatistics | None:
    kept: LayerStatistics | None = vars(rule).get(_KEPT)
    return kept


def observe_for_rule(rule: ObservingRule, variables: Sequence[Any]) -> None:
    """Have added up what a rule asks for, of the layers of some variables, and saved after all else of the rule.

    Raises:
        TypeError: ``statistics`` of the rule is no dict.
        ValueError: The rule asks for something that is no statistic, or with a decay that is not in its range.
    """
    if not isinstance(rule.statistics, dict):
        raise TypeError(
            f"{type(rule).__name__}.statistics must be a dict, as {{{INPUT_MEAN!r}: 0.99}}: what to ask each layer "
            f"for, and how much of it still counts one step later; got {rule.statistics!r}. Give a setting of your own "
            "another name."
        )
    if not rule.statistics:
        return
    for name, decay in rule.statistics.items():
        require_one_of(f"a statistic of {type(rule).__name__}", name, _NAMES)
        require_number(f"the decay of statistic {name!r}", decay, 0, 1)
    kept = _kept_by(rule) or LayerStatistics(rule.statistics[INPUT_MEAN])
    object.__setattr__(rule, _KEPT, kept)
    keras.put_last(rule, kept.build(rule, variables, name=INPUT_MEAN))
