"""What every optimizer of Keras 3 does that wants to know what layers see: it adds up what they tell, and saves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rewriter.core.saved_state import has_shapes_of

from .. import ops
from ..distribution import sum_over_replicas
from ..observation.layer_statistics import add_step, is_kept_by_layer, kept_by_layers, without_statistics

if TYPE_CHECKING:
    from collections.abc import Sequence


class ToldOptimizer:
    """Mixin before an optimizer of Keras 3.

    Keras would put what layers tell in the place of what they told before, and, of several gradients that are
    accumulated, the largest.
    """

    def _overwrite_variables_directly_with_gradients(
        self,
        grads: Sequence[Any],
        vars: Sequence[Any],  # noqa: A002  Keras's name
    ) -> tuple[Sequence[Any], Sequence[Any]]:
        optimizer: Any = self
        pairs = [*zip(grads, vars, strict=True)]
        told = [(variable, gradient) for gradient, variable in pairs if is_kept_by_layer(variable)]
        add_step(optimizer, told, sum_over_replicas([seen for _, seen in told]))
        left = [pair for pair in pairs if not is_kept_by_layer(pair[1])]
        given = ([gradient for gradient, _ in left], [variable for _, variable in left])
        result: tuple[Sequence[Any], Sequence[Any]] = super()._overwrite_variables_directly_with_gradients(*given)  # type: ignore[misc]
        return result

    def _check_variables_are_known(self, variables: Sequence[Any]) -> None:
        # Where a step builds the optimizer, a statistic for one that is gone goes too, and its gradient is there still.
        super()._check_variables_are_known(without_statistics(variables))  # type: ignore[misc]

    def save_own_variables(self, store: Any) -> None:
        """Save the state, and behind it what the layers told."""
        super().save_own_variables(store)  # type: ignore[misc]
        for place, statistic in enumerate(kept_by_layers(self), len(store)):
            store[str(place)] = ops.convert_to_numpy(statistic)

    def load_own_variables(self, store: Any) -> None:
        """Load the state, and what the layers told."""
        optimizer: Any = self
        statistics, own = kept_by_layers(self), len(optimizer.variables)
        if len(store.keys()) != own + len(statistics):
            super().load_own_variables(store)  # type: ignore[misc]
            return  # Keras has said that they do not fit
        if not has_shapes_of(optimizer.name, [*optimizer.variables, *statistics], store):
            return
        super().load_own_variables({str(place): store[str(place)] for place in range(own)})  # type: ignore[misc]
        for place, statistic in enumerate(statistics, own):
            statistic.assign(store[str(place)][()])
