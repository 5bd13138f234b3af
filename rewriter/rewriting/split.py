"""``split`` and ``standard_form``: a rewritten model becomes plain Keras again, for good or for a while."""

from __future__ import annotations

import contextlib
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rewriter.core import progress
from rewriter.core.errors import ModelError, OptimizerError
from rewriter.core.layout import augmented_kernels, is_merged, layouts_in
from rewriter.core.log import log, log_lines

from ..adapters import keras
from ..model import surgery
from ..model.augmented_layers import Augmented, standard_class
from ..model.walk import locate_layers, require_layers
from ..optimizers.centered.optimizer import center_again, uncenter
from ..optimizers.joint_optimizer import is_joint
from ..optimizers.optimizer_choice import choose_standard_optimizer, require_for_layer
from ..optimizers.state.other_optimizers import OtherOptimizers
from ..optimizers.state.pending_restore import require_loaded_in_its_form, restore_now
from ..optimizers.state.slots import require_own, require_separable
from ..optimizers.state.transfer import StateTransfer
from .checking import checked_layer, checked_model
from .invalidation import (
    invalidate_gone,
    invalidate_holders,
    invalidate_traces,
    models_sharing_layers,
    reset_functions,
    restore_traces,
)
from .model_methods import give_back_methods, origin_of, take_over_methods

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rewriter.core.layout import Layout

    from ..adapters.records import Replaced
    from ..optimizers.centered.optimizer import Suspended

# The layers that are in standard form for a while, and are to find all as they left it.
_FOR_A_WHILE: weakref.WeakSet[Any] = weakref.WeakSet()


def _require_own_scope(model: Any) -> None:
    if keras.in_foreign_scope(model):
        raise ModelError(
            f"{model.name} was not made in the scope of the tf.distribute strategy that is active here. Call this "
            "outside of it, or make or load the model inside: with strategy.scope(): ..."
        )


def require_changeable(model: Any) -> None:
    """Raise ``ModelError`` if a model cannot be rewritten or split now."""
    _require_own_scope(model)
    require_loaded_in_its_form(model)
    inside = next((found.paths[0] for found in locate_layers(model) if found.layer in _FOR_A_WHILE), None)
    if inside is not None:
        raise ModelError(
            f"{model.name} is in standard_form, and {inside} is merged again at its end: leave the with block first."
        )


def split(model: Any, optimizer: Any = None) -> Any:
    """Take every ``W*`` of a model apart into kernel and bias again, for good. In place; the inverse of ``rewrite``.

    A compiled model stays compiled: under the optimizer it has, slots split as the weights are, or, under
    :class:`rewriter.JointMomentum`, under an SGD of the same learning rate and momentum that starts without velocity.
    Under another :class:`rewriter.JointOptimizer` it is what that one's ``standard_optimizer`` returns.

    Args:
        model: A Keras model, or a layer with layers in it, rewritten or not.
        optimizer: The optimizer of your own loop that trains a layer which is no model, to go on with its state; a
            model has its own.

    Returns:
        The same model, plain Keras.

    Raises:
        ModelError: ``model`` is no Keras model, or was not made under the ``tf.distribute`` strategy that is active,
            or is in :func:`rewriter.standard_form`.
        OptimizerError: ``optimizer`` is given for a model, or its state cannot be kept.
    """
    require_layers(model)
    require_changeable(model)
    if optimizer is not None:
        require_for_layer(model, optimizer)
    # State from a checkpoint goes by position: the optimizer is built while the model has the form it was saved in.
    restore_now(model, optimizer)
    lines = choose_standard_optimizer(model).lines
    alive, replaced = keras.holders_alive(), _replaced(model)
    layers = [(found.layer, layouts_in(found.layer)) for found in locate_layers(model) if is_merged(found.layer)]
    others = OtherOptimizers(model, layers, alive, keras.optimizer_of(model), optimizer)
    if _separate_all(model, alive, replaced, others, keep=False, given=optimizer)[0]:
        log_lines((*lines, *others.lines))
    invalidate_holders(model, replaced, alive)
    return model


def _replaced(model: Any) -> list[Replaced]:
    return [keras.remember(kernel) for found in locate_layers(model) for kernel in augmented_kernels(found.layer)]


@contextlib.contextmanager
def standard_form(model: Any, check: bool = False, inputs: Any = None) -> Iterator[Any]:
    """Inside, a rewritten model *is* plain Keras: classes, variable names and order, weights, optimizer.

    Use it for any tool or format that knows nothing of this library. On exit the model is rewritten again with the same
    ``W*`` objects, holding whatever was loaded or assigned inside; a compiled ``fit`` goes on without a new trace.
    What is trained inside, under the optimizer of the standard form, is in the weights; a joint optimizer goes on from
    where it was, and the log says so.

    Args:
        model: A Keras model, rewritten or not.
        check: Compare weights and outputs, rewritten and standard, as :func:`rewriter.rewrite` does.
        inputs: A batch that the model takes, for the check; ``None`` makes one.

    Yields:
        The same model.

    Raises:
        ModelError: ``model`` is no Keras model, or was not made under the ``tf.distribute`` strategy that is active;
            or ``inputs`` is no batch that it takes; or, at the end, a layer cannot be merged again after what was done
            inside, as when it was quantized or given LoRA weights: then the model stays in standard form.
        OptimizerError: The state of the optimizer cannot be split, or that of one given inside cannot be kept: then
            the model stays in standard form.
        DifferenceError: A layer computes something else in standard form. The model is as it was.
    """
    require_layers(model)
    _require_own_scope(model)
    restore_now(model)
    optimizer, origin = keras.optimizer_of(model), origin_of(model)
    # Kept as they are, and not copied: the graph of a compiled fit has captured these variables and functions.
    state = keras.optimizer_slots(keras.inner_optimizer(optimizer))
    alive = keras.holders_alive()
    models = models_sharing_layers(model, alive)
    functions = [(inner, keras.traced_functions(inner)) for inner in models]
    replaced = _replaced(model)
    separated, traces, suspended = _separate_all(model, alive, replaced, OtherOptimizers(model, (), ()), check, inputs)
    reset_functions(model, models)
    standard, compilation = keras.optimizer_of(model), keras.compilation(model)
    _FOR_A_WHILE.update(each.layer for each in separated)
    steps = _steps(standard)
    try:
        yield model
    finally:
        _FOR_A_WHILE.difference_update([each.layer for each in separated])
        restore_now(model)
        _require_stackable(model, optimizer, standard)
        _require_mergeable(model, separated, replaced)
        apart = [keras.remember(getattr(each.layer, name)) for each in separated for name in _names(each.layouts)]
        if keras.optimizer_of(model) is optimizer:
            center_again(suspended)
        transfer = StateTransfer(keras.optimizer_of(model))
        for each in separated:
            for layout in each.layouts:
                transfer.before_merge(each.layer, layout)
            each.merge_again()
        # Three cases: the optimizer that was kept, one that stood in for a joint one, or one that was compiled inside.
        compiled_anew = keras.compilation(model) is not compilation
        if keras.optimizer_of(model) is optimizer:
            transfer.move(model, reuse=state)
        elif keras.optimizer_of(model) is standard:
            if _steps(standard) > steps:
                log.warning(
                    "%s: %d steps were made in standard form, under another optimizer; the weights keep them, and %s "
                    "goes on from where it was.",
                    model.name,
                    _steps(standard) - steps,
                    type(keras.inner_optimizer(optimizer)).__name__,
                )
            keras.set_optimizer(model, optimizer)
        else:
            transfer.move(model)  # another one, that was given inside, stays
        if separated:
            take_over_methods(model, origin)
        keras.refuse_in_other_libraries(frozenset[int]().union(*(each.handles for each in apart)))
        invalidate_traces(keras.holders_alive(), apart)  # a function that was traced inside has separate weights
        restore_traces(traces)
        if compiled_anew:
            reset_functions(model)
        else:
            for inner, traced in functions:
                keras.restore_traced_functions(inner, traced)


def _require_stackable(model: Any, *known: Any) -> None:
    """Raise ``OptimizerError`` if an optimizer that was given inside ``standard_form`` has slots of other shapes."""
    optimizer = keras.optimizer_of(model)
    if any(optimizer is each for each in known):
        return
    try:
        require_own(optimizer, list(filter(keras.is_variable, model.variables)), elementwise=not is_joint(optimizer))
    except OptimizerError as error:
        raise OptimizerError(
            f"{error} It was given inside standard_form, and {model.name} stays in standard form, as it is."
        ) from None


def _require_mergeable(model: Any, separated: Iterable[_Separated], replaced: Iterable[Replaced]) -> None:
    """Raise ``ModelError`` if a layer cannot be merged again after what was done to it inside ``standard_form``."""
    if why := _not_mergeable(model, separated):
        invalidate_holders(model, replaced, keras.holders_alive())
        raise ModelError(
            f"{why}. {model.name} stays in standard form, as rewriter.split(model) leaves it; rewrite it again for "
            "what can be merged."
        )


def _not_mergeable(model: Any, separated: Iterable[_Separated]) -> str:
    layouts = {id(each.layer): each.layouts for each in separated}
    for found in locate_layers(model):
        of_layer = layouts.get(id(found.layer), ())
        if of_layer and (why := keras.computes_otherwise(found.layer)):
            return f"{found.paths[0]} cannot be merged again at the end of standard_form: {why}"
        for part in (part for layout in of_layer for part in layout.parts):
            weight = getattr(found.layer, part.attribute)
            if not keras.is_variable(weight) or tuple(weight.shape) != part.shape:
                now = f"of shape {tuple(weight.shape)}" if keras.is_variable(weight) else f"a {type(weight).__name__}"
                return (
                    f"{found.paths[0]} cannot be merged again at the end of standard_form: its {part.attribute} was a "
                    f"variable of shape {part.shape} and is {now}"
                )
    return ""


def _names(layouts: Iterable[Layout]) -> list[str]:
    return [attribute for layout in layouts for attribute in layout.attributes]


def _steps(optimizer: Any) -> int:
    return 0 if optimizer is None else keras.iterations_of(keras.inner_optimizer(optimizer))


@dataclass(frozen=True)
class _Separated:
    """A separated layer, with what is needed to merge it again.

    Attributes:
        layer: The layer.
        cls: Its augmented class.
        layouts: Those of its augmented kernels; none for a layer that had none, as it is not built or has only a loop.
        kernels: The augmented kernels; none where going back makes new ones.
    """

    layer: Any
    cls: type
    layouts: tuple[Layout, ...]
    kernels: tuple[Any, ...]

    def merge_again(self) -> None:
        """Give the layer the form it had."""
        if self.layouts:
            surgery.merge(self.layer, self.cls, self.layouts, self.kernels)
        else:
            keras.set_class(self.layer, self.cls)


def _separate_all(
    model: Any,
    alive: Iterable[Any],
    replaced: Iterable[Replaced],
    others: OtherOptimizers,
    check: bool = False,
    inputs: Any = None,
    keep: bool = True,
    given: Any = None,
) -> tuple[list[_Separated], list[tuple[Any, dict[str, Any]]], Suspended | None]:
    """Separate every rewritten layer, the optimizer along with them, and others.

    In ``standard_form`` there are no others: they hold the same augmented kernels again at its end.

    Returns:
        What is needed to go back: the layers; the functions that have traced their augmented kernels, with the traces
        they had; and the optimizer, if it was centered. Where the augmented kernels are not kept, going back makes new
        ones.
    """
    located = [found for found in locate_layers(model) if isinstance(found.layer, Augmented)]
    # A layer that is no model has no optimizer; its user's loop has one, and gives it.
    own = keras.optimizer_of(model) if given is None else given
    if own is not None and not is_joint(own):
        require_separable(own, [kernel for found in located for kernel in augmented_kernels(found.layer)])
    transfer, origin = StateTransfer(own), origin_of(model)
    separated: list[_Separated] = []
    suspended = None
    give_back_methods(model)
    try:
        # On inputs of its own a model is run even where nothing is merged: a SavedModel says what its model takes.
        to_run = check and (located or inputs is not None)
        layers = [(found.layer, layouts_in(found.layer)) for found in located]
        unchecked = contextlib.nullcontext(frozenset[int]())
        with checked_model(model, layers, inputs) if to_run else unchecked as seen:
            for found in progress.each(located, "splitting"):
                layer, layouts = found.layer, layouts_in(found.layer)
                before = _Separated(layer, type(layer), layouts, tuple(augmented_kernels(layer)) if keep else ())
                if not layouts:
                    separated.append(before)
                    keras.set_class(layer, standard_class(layer))
                    continue
                for layout in layouts:
                    transfer.before_separate(layer, layout)
                    others.before_separate(layer, layout)
                alone = id(layer) not in seen
                with checked_layer(layer, layouts, found.paths[0], alone) if check else contextlib.nullcontext():
                    separated.append(before)  # before: what is interrupted between the two is to be undone too
                    surgery.separate(layer, standard_class(layer))
            traces = invalidate_traces(alive, replaced)  # before the model is run again
        # After the layers: slots are made in the order of the variables that the model has now.
        choice = choose_standard_optimizer(model)
        if choice.keeps or given is not None:
            suspended = uncenter(own)
            transfer.move(model)
        elif choice.optimizer is not None:
            _give(model, choice.optimizer)
            transfer.copy_exclusions(choice.optimizer)
        others.move()
        if not keep:
            invalidate_traces(alive, (*transfer.replaced, *others.replaced))
    except BaseException:
        _go_back(model, separated, None if given is not None else own)
        center_again(suspended)
        transfer.roll_back()
        others.roll_back()
        take_over_methods(model, origin)
        reset_functions(model)
        invalidate_gone(model, replaced, alive)
        raise
    return separated, traces, suspended


def _go_back(model: Any, separated: Iterable[_Separated], optimizer: Any) -> None:
    """Give layers the form they had, those that have lost it, and the model the optimizer it had."""
    for each in separated:
        if not (each.layouts and is_merged(each.layer)):
            each.merge_again()
    if optimizer is not None and keras.optimizer_of(model) is not optimizer:
        keras.set_optimizer(model, optimizer)


def _give(model: Any, optimizer: Any) -> None:
    """Give a model a new optimizer, which goes on counting where the old one stopped; none if it is not compiled."""
    if not keras.is_compiled(model):
        keras.set_optimizer(model, None)
        return
    # Built, so that what is saved of it is whole.
    keras.build_slots(keras.inner_optimizer(optimizer), keras.trained_variables(model))
    keras.copy_iterations(*map(keras.inner_optimizer, (optimizer, keras.optimizer_of(model))))
    keras.set_optimizer(model, optimizer)
