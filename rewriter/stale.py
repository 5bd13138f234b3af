"""What still holds variables that were replaced: traced functions are made anew, optimizers refuse with the remedy."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from rewriter import keras_internals
from rewriter.errors import OptimizerError
from rewriter.holders import variables_of
from rewriter.log import log
from rewriter.slots import without_slots
from rewriter.walk import locate_layers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


def reset_functions(model: Any, models: Iterable[Any] | None = None) -> None:
    """Make everything that was traced of a model, and of other models with some of its layers, trace anew.

    Args:
        model: The model.
        models: What :func:`models_over` says of it, where that is known: to find them takes a look at every object.
    """
    for found in locate_layers(model):
        keras_internals.forget_traced_methods(found.layer)
    for affected in models_over(model) if models is None else models:
        keras_internals.reset_traced_functions(affected)
        keras_internals.forget_traced_methods(affected)


def models_over(model: Any, alive: Iterable[Any] | None = None) -> list[Any]:
    """List the models that share a layer with a model: itself, those inside it, and any other that is alive.

    Args:
        model: The model.
        alive: The models alive, among other things, where they are known.
    """
    layers = {id(found.layer) for found in locate_layers(model)}
    return [model] + [
        other
        for other in keras_internals.models_among(keras_internals.holders_alive() if alive is None else alive)
        if other is not model and any(id(layer) in layers for layer in keras_internals.layers_below(other))
    ]


class StaleOptimizer:
    """What an optimizer becomes once variables it was built for are replaced: it refuses the new ones.

    Keras's own optimizers would say that they cannot recognize a variable, and the legacy ones would train it as if
    it had never been trained.
    """

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Any]], *args: Any, **kwargs: Any) -> Any:
        """Apply gradients as the optimizer does, unless one is of a variable it was not built for."""
        pairs = list(grads_and_vars)
        self._require_known([variable for _, variable in pairs])
        return super().apply_gradients(pairs, *args, **kwargs)  # type: ignore[misc]

    def build(self, var_list: Sequence[Any]) -> None:
        """Do as the optimizer does, unless one is a variable it was not built for; a ``LossScaleOptimizer`` asks it."""
        self._require_known(var_list)
        super().build(var_list)  # type: ignore[misc]

    def _require_known(self, variables: Sequence[Any]) -> None:
        unknown = without_slots(self, variables)
        if unknown:
            raise OptimizerError(
                f"this {type(self).__name__} was built for weights that rewriter has replaced since, and does not know "
                f"{unknown[0].name}. Train with model.optimizer if that is another one, else compile the model with a "
                "new optimizer, or make one for your own loop. To go on with the state of this one, give it to "
                "rewriter.rewrite(model, optimizer=...) on the model as it was, and for a layer that is no model to "
                "rewriter.split(layer, optimizer=...) as well."
            )


@functools.cache
def _stale_class(cls: type) -> type:
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls.__name__, (StaleOptimizer, cls), names)


def require_not_stale(optimizer: Any, model: Any) -> None:
    """Raise ``OptimizerError`` if an optimizer has state for weights that were replaced when another model changed.

    Args:
        optimizer: The optimizer, which is to be kept.
        model: The model it is to be kept for.
    """
    inner = keras_internals.inner_optimizer(optimizer)
    if not isinstance(inner, StaleOptimizer):
        return
    unknown = without_slots(inner, keras_internals.trained_variables(model))
    names = ", ".join(variable.name.partition(":")[0] for variable in unknown[:3]) or "some that are gone"
    raise OptimizerError(
        f"this {type(inner).__name__} has state for weights that are replaced since this model, or another over the "
        f"same layers, was rewritten or split ({names}). Two optimizers hold state for the same variables then, and "
        "only that of the model that was given was carried. Possible is to go on with another optimizer, "
        "rewriter.rewrite(model, optimizer=None) or one that is new, whose state starts anew; or to begin again with "
        "both models as they were and to leave out the layers that they share, exclude=, so that each keeps its state."
    )


def take_graphs(alive: Iterable[Any], replaced: Iterable[keras_internals.Replaced]) -> list[tuple[Any, dict[str, Any]]]:
    """Make every ``tf.function`` that has traced replaced variables trace again: of a layer, or of a user's own loop.

    Args:
        alive: What :func:`rewriter.keras_internals.holders_alive` found.
        replaced: The variables.

    Returns:
        Each function with the traces it had.
    """
    handles = frozenset[int]().union(*(each.handles for each in replaced))
    functions = keras_internals.functions_among(alive) if handles else []
    holding = [each for each in functions if keras_internals.has_traced(each, handles)]
    for function in holding:
        lists = [
            way for way, variable in variables_of(function) if keras_internals.remember(variable).handles & handles
        ]
        if lists:
            log.warning(
                "the function %s is traced again, but it holds variables that are replaced now, %s: make them, or the "
                "function, again, or nothing trains the new ones.",
                getattr(function.python_function, "__qualname__", "of your own"),
                lists[0].removeprefix("()") or "in its closure",
            )
    return [(function, keras_internals.take_traces(function)) for function in holding]


def _further_optimizers(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield the optimizers that a model holds beside its own, each with its name: as attributes, or in containers."""
    for name, value in vars(model).items():
        several = [(name, value)]
        if isinstance(value, dict):
            several = [(f"{name}[{key!r}]", each) for key, each in value.items()]
        elif isinstance(value, list | tuple):
            several = [(f"{name}[{index}]", each) for index, each in enumerate(value)]
        if not keras_internals.is_bookkeeping(name):
            yield from (
                (way, each)
                for way, each in several
                if keras_internals.is_optimizer(each) and each is not keras_internals.optimizer_of(model)
            )


def let_go(model: Any, replaced: Iterable[keras_internals.Replaced], alive: Iterable[Any]) -> None:
    """Make everything alive that holds replaced variables of a model let go of them: traced functions, and optimizers.

    Every optimizer that was built for one of them refuses those in their place.

    Args:
        model: The model, with its new variables.
        replaced: The old ones.
        alive: What :func:`rewriter.keras_internals.holders_alive` found: one look at every object there is, for all.
    """
    keys = [each.key for each in replaced]
    models = models_over(model, alive)
    reset_functions(model, models)
    for optimizer in keras_internals.optimizers_among(alive):
        slots = keras_internals.optimizer_slots(optimizer)
        if slots is None or isinstance(optimizer, StaleOptimizer):
            continue
        if any(key in slots.index for key in keys):
            cls: type = type(optimizer)
            keras_internals.set_class(optimizer, _stale_class(cls))
    for holder in models:
        for name, each in _further_optimizers(holder):
            if isinstance(keras_internals.inner_optimizer(each), StaleOptimizer):
                log.warning(
                    "%s.%s: this %s has state for weights that are replaced now, and only that of model.optimizer is "
                    "carried: make a new one before it trains, it refuses to.",
                    *(holder.name, name, type(keras_internals.inner_optimizer(each)).__name__),
                )
    for other in models[1:]:
        if isinstance(keras_internals.inner_optimizer(getattr(other, "optimizer", None)), StaleOptimizer):
            log.warning(
                "%s shares layers with %s, and its optimizer was built for weights that are replaced now: compile it "
                "with a new one before it is trained on.",
                *(other.name, model.name),
            )
