"""An optimizer whose weights were replaced refuses the new ones, and says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from rewriter.core import hints
from rewriter.core.derived_classes import Mixin, derived_class
from rewriter.core.errors import OptimizerError

from ...adapters import keras
from .slots import without_slots

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class OutdatedOptimizer(Mixin):
    """Mixin of an optimizer whose variables were replaced: it refuses the new ones.

    Without it Keras's optimizers would only say that they do not recognize a variable, and the legacy ones would train
    it without its state.
    """

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Any]], *args: Any, **kwargs: Any) -> Any:
        """Apply gradients; ``OptimizerError`` for a variable that the optimizer was not built for."""
        pairs = list(grads_and_vars)
        self._require_known([variable for _, variable in pairs])
        return super().apply_gradients(pairs, *args, **kwargs)  # type: ignore[misc]

    def build(self, var_list: Sequence[Any]) -> None:
        """Build the optimizer; ``OptimizerError`` for a variable that it was not built for.

        A ``LossScaleOptimizer`` calls it at every step.
        """
        self._require_known(var_list)
        super().build(var_list)  # type: ignore[misc]

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> Any:
        """Apply gradients, of Keras 3; ``OptimizerError`` for a variable that the optimizer was not built for."""
        self._require_known(list(trainable_variables or ()))
        return super().apply(grads, trainable_variables)  # type: ignore[misc]

    def stateless_apply(self, *_: Any, **__: Any) -> Any:
        """Raise ``OptimizerError``: of values, as JAX has them, it is not known which variables they are of."""
        self._refuse("the model's own")

    def _require_known(self, variables: Sequence[Any]) -> None:
        unknown = without_slots(self, variables)
        if unknown:
            self._refuse(keras.name_of(unknown[0]))

    def _refuse(self, what: str) -> NoReturn:
        raise OptimizerError(
            f"this {type(self).__name__} was built for weights that rewriter has replaced since, and does not know "
            f"{what}. Train with model.optimizer if that is another one, else compile the model with a new optimizer, "
            "or make one for your own loop. To go on with the state of this one, give it to "
            "rewriter.rewrite(model, optimizer=...) on the model as it was, and for a layer that is no model to "
            "rewriter.split(layer, optimizer=...) as well."
        )


def refuse_new_weights(optimizer: Any) -> None:
    """Make an optimizer refuse every variable that it was not built for."""
    keras.set_class(optimizer, derived_class(OutdatedOptimizer, type(optimizer)))


def require_up_to_date(optimizer: Any, model: Any) -> None:
    """Raise ``OptimizerError`` if an optimizer has state for weights that were replaced when another model changed.

    Args:
        optimizer: The optimizer, which is to be kept.
        model: The model it is to be kept for.
    """
    inner = keras.inner_optimizer(optimizer)
    if not isinstance(inner, OutdatedOptimizer):
        return
    unknown = without_slots(inner, keras.trained_variables(model))
    names = ", ".join(keras.name_of(variable) for variable in unknown[:3]) or "some that are gone"
    raise OptimizerError(
        f"this {type(inner).__name__} has state for weights that are replaced since this model, or another over the "
        f"same layers, was rewritten or split ({names}). Two optimizers hold state for the same variables then, and "
        "only that of the model that was given was kept. Go on with another optimizer and without that state, "
        "rewriter.rewrite(model, optimizer=None) or a new one. Or begin again with both models as they were, and leave "
        f"out the layers that they share, {hints.EXCLUDE}: then each keeps its state."
    )
