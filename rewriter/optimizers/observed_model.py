"""The layers of a model that its optimizer wants to be told about, and the means that it begins with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rewriter.core.layout import augmented_kernels, is_merged, layouts_in

from ..adapters import keras
from ..model.output_layers import output_layers
from ..model.walk import locate_layers
from ..planning.centering import Centering, summary_of_centering
from .centered.moved_slots import MOVED, centered_slot
from .centered.optimizer import is_centered, observe, observer_of, state_of
from .rule_statistics import ObservingRule, observe_for_rule
from .rules.adam import AdamForOthers, KernelInModel
from .rules.natural_gradient import NaturalGradient

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..planning.plan import Plan
    from .optimizer_choice import OptimizerChoice


def start_from(optimizer: Any, model: Any, look: Callable[[], None]) -> None:
    """Let a centered optimizer begin with the means of some inputs, and take its moments there.

    Args:
        optimizer: The optimizer, just centered.
        model: The model that it trains.
        look: Calls the model on the inputs, with all its layers observed.
    """
    inner = keras.inner_optimizer(optimizer)
    look()
    slots = keras.optimizer_slots(inner)
    if slots is None:
        return
    for variable in keras.trained_variables(model):
        place = slots.index.get(keras.variable_key(inner, variable))
        if place is not None and observer_of(inner, variable) is not None:
            for name in MOVED & slots.lists.keys():
                slot = slots.lists[name][place]
                slot.assign(centered_slot(inner, name, variable, slot))


def observe_model(optimizer: Any, model: Any) -> None:
    """Have the layers of a model observed from now on of which an optimizer wants to know what they see.

    Args:
        optimizer: An optimizer; of a centered one the selectors are resolved, of a rule from a file what it chose.
        model: The model that it trains, rewritten.

    Raises:
        SelectorError: A selector matches no merged layer.
    """
    inner = keras.inner_optimizer(optimizer)
    merged = [found for found in locate_layers(model) if is_merged(found.layer)]
    if not merged:
        return
    recall_layers(optimizer, model)
    # A model that is not built does not list its variables, and its layers may have theirs all the same.
    trained = keras.trained_variables(model) if model.built else [each for of in merged for each in of.layer.weights]
    state = state_of(inner)
    if state is not None:
        state.resolve(inner, model)
        observe(inner, trained)
    elif isinstance(inner, ObservingRule):
        observe_for_rule(inner, trained)


def build_if_observing(model: Any) -> None:
    """Build the optimizer of a model, just compiled, if it wants to know what layers see: its first step sees it then.

    Keras builds one in its first step, when the layers have been called already.
    """
    inner = keras.inner_optimizer(keras.optimizer_of(model))
    asks = isinstance(inner, ObservingRule) and bool(inner.statistics)
    if model.built and (asks or is_centered(inner)) and keras.optimizer_slots(inner) is None:
        keras.build_slots(inner, keras.trained_variables(model))


def meet_model(optimizer: Any, model: Any, inputs: Any = None) -> None:
    """Have a rule on whole layers choose among those of a model, before slots are made for it.

    Args:
        optimizer: Any optimizer.
        model: The model that it is to train, rewritten.
        inputs: A batch that the model takes; ``None`` makes one where it has to run.
    """
    inner = keras.inner_optimizer(optimizer)
    if not isinstance(inner, AdamForOthers):
        return
    kernels = _kernels_in(model)
    if kernels:
        giving = output_layers(model, inputs) if inner.asks_for_output_layers else frozenset[int]()
        inner.choose_layers(kernels, giving)


def recall_layers(optimizer: Any, model: Any) -> None:
    """Have a rule on whole layers that was read from a file choose again those that it had chosen.

    Args:
        optimizer: Any optimizer.
        model: The model that it was read with, whose layers Keras may have named anew.
    """
    inner = keras.inner_optimizer(optimizer)
    if isinstance(inner, AdamForOthers):
        inner.recall_layers([each.kernel for each in _kernels_in(model)])


def _kernels_in(model: Any) -> list[KernelInModel]:
    return [
        KernelInModel(found, *kernel)
        for found in locate_layers(model)
        for kernel in zip(augmented_kernels(found.layer), layouts_in(found.layer), strict=True)
    ]


def lines_of_rule(optimizer: Any, model: Any) -> list[str]:
    """Return what the log is to say of a rule on whole layers: what it leaves to AdamW, and whether the loss fits."""
    inner = keras.inner_optimizer(optimizer)
    lines = inner.lines if isinstance(inner, AdamForOthers) else []
    if isinstance(inner, NaturalGradient) and inner.loss_factor == 1 and _is_mean_square(model):
        name = type(inner).__name__
        summed = str(getattr(model.loss, "reduction", "")) == "sum"
        what, factor = ("a sum of mean squares", "d / (2 n)") if summed else ("a mean square", "d / 2")
        over = "d outputs, in batches of n" if summed else "d outputs"
        return [*lines, f"{name}: loss_factor is 1, and the loss is {what}: {factor} is right over {over}"]
    return lines


def _is_mean_square(model: Any) -> bool:
    """Tell whether a model is compiled with one loss, which is a mean of squares."""
    loss = getattr(model, "loss", None)
    name = loss if isinstance(loss, str) else getattr(loss, "name", getattr(loss, "__name__", ""))
    return str(name).lower() in {"mse", "mean_squared_error"}


def centering_lines(decided: Plan, choice: OptimizerChoice) -> list[str]:
    """Say in a line how many layers of a plan are centered by an optimizer that was chosen, and why not all.

    Args:
        decided: The plan, carried out or not.
        choice: The optimizer; of one that is not centered, and will not be, there is nothing to say.
    """
    inner = keras.inner_optimizer(choice.optimizer)
    if not (choice.centers or is_centered(inner)):
        return []
    state = state_of(inner)
    left_out = frozenset() if state is None else state.left_out or frozenset()
    decisions = [*decided.merges, *decided.merged]
    for place, decision in enumerate(decisions):
        if decision.layout is not None and is_merged(decision.target):
            kernel = getattr(decision.target, decision.layout.attribute)
            if keras.variable_key(inner, kernel) in left_out:
                decisions[place] = replace(decision, centering=Centering.LEFT_OUT())
    return [summary_of_centering(decisions)]
