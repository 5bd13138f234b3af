"""What still holds replaced variables: traced functions trace again, and optimizers refuse and say what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rewriter.core.log import log

from ..adapters import keras
from ..model.variable_holders import variables_of
from ..model.walk import locate_layers
from ..optimizers.centered.optimizer import is_centered
from ..optimizers.joint_optimizer import is_joint
from ..optimizers.state.other_optimizers import is_whole_optimizer, optimizers_held_by
from ..optimizers.state.replaced_weights import OutdatedOptimizer, refuse_new_weights

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..adapters.records import Replaced


def reset_functions(model: Any, models: Iterable[Any] | None = None) -> None:
    """Make all functions of a model, and of other models over some of its layers, trace again at their next call.

    Args:
        model: The model.
        models: The result of :func:`models_sharing_layers` for it, if it is known already.
    """
    for found in locate_layers(model):
        keras.reset_traced_functions(found.layer)
    for affected in models_sharing_layers(model) if models is None else models:
        keras.reset_traced_functions(affected)


def models_sharing_layers(model: Any, alive: Iterable[Any] | None = None) -> list[Any]:
    """List the models that share a layer with a model: itself, those inside it, and any other that is alive.

    Args:
        model: The model.
        alive: The models alive, among other things, where they are known.
    """
    layers = {id(found.layer) for found in locate_layers(model)}
    return [model] + [
        other
        for other in (keras.holders_alive() if alive is None else alive)
        if isinstance(other, keras.Model) and other is not model
        if any(id(layer) in layers for layer in keras.layers_below(other))
    ]


def invalidate_traces(alive: Iterable[Any], replaced: Iterable[Replaced]) -> list[tuple[Any, dict[str, Any]]]:
    """Make every ``tf.function`` that has traced replaced variables trace again: of a layer, or of a user's own loop.

    Args:
        alive: The result of ``keras.holders_alive()``.
        replaced: The variables.

    Returns:
        Each function with the traces it had.
    """
    handles = frozenset[int]().union(*(each.handles for each in replaced))
    functions = keras.functions
    if functions is None or not handles:
        return []
    holding = [each for each in alive if functions.is_traced_function(each) and functions.has_traced(each, handles)]
    for function in holding:
        lists = [way for way, variable in variables_of(function) if keras.remember(variable).handles & handles]
        if lists:
            log.warning(
                "the function %s holds variables that were replaced, %s. It is traced again, but goes on with the old "
                "ones: make the function again, or the new ones are not trained.",
                getattr(function.python_function, "__qualname__", "of your own"),
                lists[0].removeprefix("()") or "in its closure",
            )
    return [(function, functions.take_traces(function)) for function in holding]


def restore_traces(traces: Iterable[tuple[Any, dict[str, Any]]]) -> None:
    """Give functions back the traces that :func:`invalidate_traces` took, as their variables are in use again."""
    if keras.functions is not None:
        for function, of_it in traces:
            keras.functions.put_traces(function, of_it)


def invalidate_holders(model: Any, replaced: Iterable[Replaced], alive: Iterable[Any]) -> None:
    """Invalidate everything alive that holds replaced variables of a model: traced functions and optimizers.

    Every optimizer that was built for one of them refuses those in their place.

    Args:
        model: The model, with its new variables.
        replaced: The old ones.
        alive: The result of ``keras.holders_alive()``.
    """
    replaced = list(replaced)
    keys = [each.key for each in replaced]
    keras.refuse_in_other_libraries(frozenset[int]().union(*(each.handles for each in replaced)))
    models = models_sharing_layers(model, alive)
    reset_functions(model, models)
    with_slots = filter(is_whole_optimizer, alive)
    for optimizer in with_slots:
        slots = None if isinstance(optimizer, OutdatedOptimizer) else keras.optimizer_slots(optimizer)
        if slots is not None and any(key in slots.index for key in keys):
            refuse_new_weights(optimizer)
    for holder in models:
        for name, each in optimizers_held_by(holder):
            if isinstance(keras.inner_optimizer(each), OutdatedOptimizer):
                log.warning(
                    "%s.%s: this %s has state for weights that are replaced now, which cannot be kept. It refuses to "
                    "train: make a new one.",
                    *(holder.name, name, type(keras.inner_optimizer(each)).__name__),
                )
    for other in models[1:]:
        if isinstance(keras.inner_optimizer(getattr(other, "optimizer", None)), OutdatedOptimizer):
            log.warning(
                "%s shares layers with %s, and its optimizer was built for weights that are replaced now: compile it "
                "with a new one before it is trained on.",
                *(other.name, model.name),
            )
        elif _lacks_statistics(other):
            log.warning(
                "%s shares layers with %s, and these keep in variables what they see, which the optimizer of %s does "
                "not know: compile it with a new one before it is trained on.",
                *(other.name, model.name, other.name),
            )


def _lacks_statistics(model: Any) -> bool:
    """Tell whether a model's optimizer, built and plain, does not know what its layers keep among what is trained."""
    inner = keras.inner_optimizer(getattr(model, "optimizer", None))
    if not (getattr(model, "built", False) and keras.is_optimizer(inner)) or is_joint(inner) or is_centered(inner):
        return False
    kept = [each for each in model.trainable_variables if getattr(each, "overwrite_with_gradient", False)]
    return keras.optimizer_slots(inner) is not None and any(
        keras.place_among_slots(inner, each) is None for each in kept
    )


def invalidate_gone(model: Any, replaced: Iterable[Replaced], alive: Iterable[Any]) -> None:
    """Invalidate what holds variables that a model had before it was put back: it may have new ones of the same values.

    Args:
        model: The model, as it was but for such variables.
        replaced: The variables it had.
        alive: The result of ``keras.holders_alive()``.
    """
    here = [keras.remember(variable) for variable in filter(keras.is_variable, model.variables)]
    keys, handles = {each.key for each in here}, frozenset[int]().union(*(each.handles for each in here))
    # By its handles where a variable has some: the key of one that is gone may be that of a new one.
    gone = [each for each in replaced if not (each.handles & handles if each.handles else each.key in keys)]
    invalidate_traces(alive, gone)
    invalidate_holders(model, gone, alive)
