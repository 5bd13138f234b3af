"""``rewrite``: a model is rewritten in memory, in place. ``split`` is the way back.

    split(rewrite(model)) == model

in every weight, bit for bit, and in variable names and order, layer classes, and optimizer state where it is kept.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from rewriter.core import hints, progress
from rewriter.core.errors import DifferenceError, SelectorError
from rewriter.core.flags import require_flags
from rewriter.core.layout import is_merged, layout_of, layouts_in
from rewriter.core.log import log, log_lines, warn

from ..adapters import keras
from ..model import surgery
from ..model.augmented_layers import augmented_class, pairs_in, standard_class
from ..model.layer_views import is_exact
from ..model.pairs import pair_of
from ..model.recurrent_loops import slice_outside_loops
from ..model.walk import locate_layers
from ..optimizers import weight_decay
from ..optimizers.centered.optimizer import center, copy_means, is_centered, settings_of, uncenter
from ..optimizers.joint_optimizer import has_no_rule_for_others, is_joint
from ..optimizers.observed_model import centering_lines, lines_of_rule, meet_model, observe_model, start_from
from ..optimizers.optimizer_choice import choose_optimizer, is_word
from ..optimizers.state import warm_start
from ..optimizers.state.other_optimizers import OtherOptimizers, warn_of_plain_optimizers
from ..optimizers.state.pending_restore import restore_now
from ..optimizers.state.sparse_gradients import require_dense_gradients
from ..optimizers.state.transfer import StateTransfer
from ..planning import planner
from ..planning.reasons import Skip
from ..planning.renamed_variables import Renamed, summary_of, warnings_of
from .checking import checked_layer, checked_model
from .invalidation import invalidate_gone, invalidate_holders, invalidate_traces
from .model_methods import origin_of, take_over_methods
from .model_run import look
from .split import require_changeable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rewriter.core.messages import Message

    from ..adapters.records import Replaced
    from ..model.selectors import Selectors
    from ..optimizers.optimizer_choice import OptimizerChoice
    from ..planning.plan import Plan


def rewrite(
    model: Any,
    optimizer: Any = None,
    include: Selectors = None,
    exclude: Selectors = None,
    strict: bool = False,
    check: bool = True,
    inputs: Any = None,
    exact: bool | None = None,
    layers: str | Iterable[str] = "dense",
    discover: bool = False,
    plan: Plan | None = None,
) -> Any:
    """Merge each Dense layer's kernel and bias, or those of other layers, into one variable ``W* = [W; b]``. In place.

    The layer objects and their names stay; each rewritten layer has one ``augmented_kernel`` of shape
    ``(fan_in + 1, units)``, and its ``kernel`` and ``bias`` are views of that. A compiled model stays compiled.
    A model that is rewritten already is left as it is; one rewritten in part is completed; one with nothing to merge
    is left as it is, its optimizer too unless another is given, with a warning.

    Args:
        model: A built Keras model: Sequential, Functional or subclassed.
        optimizer: ``None`` gives :class:`rewriter.JointMomentum` in centered coordinates, with the learning rate and
            momentum of a compiled SGD where there is one. What is lost of the optimizer that a model has is warned of
            before. An optimizer instance gives that one; the name ``"JointMomentum"`` that of the model, or else one
            that is not centered, and ``"SOAP"``, ``"KFAC"``, ``"Muon"`` or ``"QuasiDiagonal"`` that rule with its
            defaults. ``"keep"`` keeps the compiled optimizer with its state, slots of kernel and bias stacked as the
            weights are. ``"centered"`` keeps it so and centers it, as :class:`rewriter.Centered` does. The means of
            what is centered begin with those of ``inputs``, if they are given.
        include: Selectors of the layers to merge, as in :func:`rewriter.plan`.
        exclude: Selectors of the layers to leave alone.
        strict: Raise unless every selected kernel and bias pair can be merged.
        check: Compare each layer's weights, its outputs, and those of the model, before and after. A layer with code of
            yours, or that a run of the model does not call, is run alone too, on a random batch. A model with
            classes of your own is also called in training mode, before and after.
        inputs: A batch that the model takes, for the check and to trace it; ``None`` makes one from what the model says
            of its inputs.
        exact: Whether gradients are to be those of the unmerged model bit for bit. ``None`` says yes, unless the
            optimizer is a joint one. ``False`` trains faster, with gradients equal to rounding, and under
            ``jit_compile`` outputs too; without it the outputs are equal bit for bit all the same.
        layers: Which families of layers to merge: ``"dense"``, ``"conv"``, ``"einsum"``, ``"recurrent"``, ``"all"``, or
            several of these. Pairs that :func:`rewriter.pair` declares are merged in any family.
        discover: Merge pairs that are found in what the model computes too, each only if the check passes, which is
            made in any case: a layer that computes something else is put back, and the log says so.
        plan: What :func:`rewriter.plan` said of this model, to do just that. It has the selectors, ``layers`` and
            ``discover`` in it.

    Returns:
        The same model.

    Raises:
        ModelError: ``model`` is no Keras model, or not built, or was not made under the ``tf.distribute`` strategy
            that is active, or is in :func:`rewriter.standard_form`; or ``inputs`` is no batch that it takes; or
            the plan is not of the model as it is.
        SelectorError: A selector matches no layer that owns a kernel, or is given beside a plan.
        NotMergeableError: ``strict`` and a selected pair cannot be merged.
        OptimizerError: The optimizer is none of the choices, or its state cannot be kept.
        PairError: A declared pair does not fit its layer.
        DifferenceError: A layer computes something else once merged.
        TypeError: What is to be ``True`` or ``False`` is neither.

        Whatever is raised, the model is as it was.
    """
    require_flags(check=check, **({} if exact is None else {"exact": exact}))
    decided = _planned(model, plan, include, exclude, strict, layers, discover, inputs)
    decided.require_built()
    # From here to apply() nothing changes but deferred state of a checkpoint, which is restored in the form it has.
    require_changeable(model)
    restore_now(model, optimizer)
    if is_word(optimizer) and not decided.merges and not decided.merged:
        more = any(each.unasked for each in decided.decisions)
        hint = f"; {hints.Argument('layers', 'all')} merges more than Dense layers" if more else ""
        warn(
            f"{model.name} is left as it is, its optimizer too: no selected layer has a kernel and a bias that can be "
            f"merged. {hints.PLAN} says why of each{hint}."
        )
        return model
    choice = choose_optimizer(model, optimizer)
    if choice.lost:
        warn(f"{model.name}: {'; '.join(map(str, choice.lost))}.")
    apply(decided, model, choice, check=check, inputs=inputs, exact=exact)
    return model


def _planned(
    model: Any,
    given: Plan | None,
    include: Selectors,
    exclude: Selectors,
    strict: bool,
    layers: str | Iterable[str],
    discover: bool,
    inputs: Any,
) -> Plan:
    """Return the plan of a model as it is; one that was given has to be the same."""
    if given is None:
        return planner.plan(
            model, include=include, exclude=exclude, strict=strict, layers=layers, discover=discover, inputs=inputs
        )
    if include is not None or exclude is not None or layers != "dense" or discover:
        raise SelectorError(
            "plan= says which layers are merged: give include, exclude, layers, discover to rewriter.plan."
        )
    now = planner.plan(model, strict=strict, **given.settings)
    given.require_same(now)
    return now


def apply(
    decided: Plan,
    model: Any,
    choice: OptimizerChoice,
    check: bool = True,
    inputs: Any = None,
    exact: bool | None = None,
) -> Plan:
    """Carry out a plan on the model it was made for, and give the model its optimizer.

    Returns:
        What was done: the plan, without the pairs that were found and did not pass the check.
    """
    # A discovered pair that fails the check is dropped and the rest is tried again, as often as one fails. Each round
    # has one pair less, so this ends.
    while True:
        try:
            _apply(decided, model, choice, check, inputs, choice.exact if exact is None else exact)
        except DifferenceError as error:
            why = Skip.NOT_PROVEN(difference=error.what)
            proven = decided.without(error.path, why)
            if proven is decided:
                raise
            log.warning("%s: %s", error.path, why)
            decided = proven
        else:
            return decided


def _apply(decided: Plan, model: Any, choice: OptimizerChoice, check: bool, inputs: Any, exact: bool) -> None:
    """Carry out a plan as it is; whatever is raised, the model is as it was."""
    # What is found in a graph is a guess, and a guess is proven or undone, whatever the caller says of the check.
    guessed = [decision.path for decision in decided.merges if decision.found]
    check = check or bool(guessed)
    # Two optimizers may have state: the model's own, and one that is given and was built for this model.
    transfers = {
        id(each): StateTransfer(each) for each in (keras.optimizer_of(model), choice.state_of) if each is not None
    }
    alive = keras.holders_alive()
    to_merge = [(layer, layouts) for _, layer, layouts in decided.layers_to_merge()]
    others = OtherOptimizers(model, to_merge, alive, keras.optimizer_of(model), choice.optimizer)
    layers_with_paths = [(path, layer) for path, layer, _ in decided.layers_to_merge()]
    for optimizer in (choice.optimizer, *others.following):
        require_dense_gradients(optimizer, layers_with_paths)
    all_transfers: list[StateTransfer | OtherOptimizers] = [*transfers.values(), others]
    merged: list[Any] = []
    changed: list[tuple[Any, type]] = []
    replaced: list[Replaced] = []
    try:
        # On inputs of its own a model is run even where nothing is merged: a SavedModel says what its model takes.
        to_run = check and (decided.merges or inputs is not None)
        unchecked = contextlib.nullcontext(frozenset[int]())
        with checked_model(model, to_merge, inputs, guessed) if to_run else unchecked as seen:
            for path, layer, layouts in progress.each([*decided.layers_to_merge()], "merging"):
                # Before the merge: afterwards the old variables are nowhere in the layer.
                for layout in layouts:
                    replaced += (keras.remember(getattr(layer, each)) for each in layout.attributes)
                    for transfer in all_transfers:
                        transfer.before_merge(layer, layout)
                cls = augmented_class(standard_class(layer), exact, tuple(map(pair_of, layouts)))
                alone = id(layer) not in seen
                with checked_layer(layer, layouts, path, alone) if check else contextlib.nullcontext():
                    merged.append(layer)  # before: what is interrupted between the two is to be undone too
                    surgery.merge(layer, cls, layouts)
            invalidate_traces(alive, replaced)  # before the model is run again
            changed += slice_outside_loops(model) if merged else []
        changed += _set_exact((decision.target for decision in decided.merged), exact)
        meet_model(choice.optimizer, model, inputs)
        _transfer_state(model, choice, transfers.get(id(choice.state_of)))
        others.move()
        invalidate_traces(alive, [each for transfer in all_transfers for each in transfer.replaced])
        targets = [decision.target for decision in (*decided.merges, *decided.merged)]
        knows_rows = weight_decay.exclude_rows(keras.inner_optimizer(choice.optimizer), targets)
        warnings = _name_warnings(model, choice, targets)  # before the model has the optimizer, which is asked apart
    except BaseException:
        _undo(merged, changed, all_transfers, choice)
        invalidate_gone(model, replaced, alive)
        raise
    # From here on the model is rewritten. What could raise, a handler of the log for example, comes last.
    replaced_optimizer = choice.optimizer is not None and choice.optimizer is not keras.optimizer_of(model)
    if choice.optimizer is not None:
        # Also one that stays: what compile was given may have been wrapped in a loss scale, which no file would say.
        keras.set_optimizer(model, choice.optimizer)
    if merged or (replaced_optimizer and decided.merged):
        said = origin_of(model).get("settings", {}).get("selectors", []) if not merged else list(decided.selectors)
        settings = {"optimizer": choice.what, "selectors": said}
        take_over_methods(model, {"settings": settings})
    if choice.centers and inputs is not None:
        start_from(choice.optimizer, model, lambda: look(model, inputs))
    if merged or replaced_optimizer or changed or knows_rows or choice.centers:
        invalidate_holders(model, replaced, alive)  # functions hold the optimizer too
    _report(decided, model, choice, others.lines, warnings)


def _name_warnings(model: Any, choice: OptimizerChoice, targets: Iterable[Any]) -> list[str]:
    """List warnings about code that goes by the names of variables that are gone, each once."""
    gone = [Renamed.by(layout) for target in targets for layout in layouts_in(target)]
    return [*dict.fromkeys(warnings_of(model, choice.optimizer, gone))]


def _report(
    decided: Plan, model: Any, choice: OptimizerChoice, of_others: Sequence[Message], warnings: Iterable[str]
) -> None:
    """Log what was done, what became of the optimizer, and which code may not expect merged layers."""
    names = summary_of(decided.renamed)
    lines = (
        decided.summary(done=True),
        *([names] if names else []),
        *choice.lines,
        *of_others,
        *centering_lines(decided, choice),
        *lines_of_rule(choice.optimizer, model),
    )
    log_lines(lines)
    for line in warnings:
        log.warning("%s", line)
    if choice.centers or is_joint(choice.optimizer) or is_centered(choice.optimizer):
        warn_of_plain_optimizers(model)
    if has_no_rule_for_others(choice.optimizer) and (left := _trained_apart(model)):
        log.warning(
            "%s has no update_other, so what is not merged is trained by gradient descent alone: %s",
            type(keras.inner_optimizer(choice.optimizer)).__name__,
            ", ".join(left),
        )


def _trained_apart(model: Any) -> list[str]:
    """Name the layers of a model that have variables which are trained and are no augmented kernels."""
    trained = {id(variable) for variable in keras.trained_variables(model) if layout_of(variable) is None}
    return [
        found.paths[0]
        for found in locate_layers(model)
        if any(id(variable) in trained for variable in keras.own_weights(found.layer))
    ]


def _undo(
    merged: list[Any],
    changed: list[tuple[Any, type]],
    transfers: Iterable[StateTransfer | OtherOptimizers],
    choice: OptimizerChoice,
) -> None:
    if choice.centers:
        uncenter(choice.optimizer)
    for layer, cls in changed:
        keras.set_class(layer, cls)
    for layer in filter(is_merged, reversed(merged)):
        surgery.separate(layer, standard_class(layer))
    for transfer in transfers:
        transfer.roll_back()


def _set_exact(layers: Iterable[Any], exact: bool) -> list[tuple[Any, type]]:
    """Make merged layers exact, or not; returns those for which that is a change, with their former class."""
    changed = [(layer, type(layer)) for layer in layers if is_exact(layer) != exact]
    for layer, _ in changed:
        keras.set_class(layer, augmented_class(standard_class(layer), exact, pairs_in(layer)))
    return changed


def _transfer_state(model: Any, choice: OptimizerChoice, transfer: StateTransfer | None) -> None:
    if transfer is not None and choice.keeps:
        transfer.move(model)
    elif transfer is not None:
        trained = keras.trained_variables(model)
        warm_start.start(choice.optimizer, choice.state_of, transfer.sources(model), trained)
        transfer.copy_exclusions(choice.optimizer)
    if choice.centers:
        center(keras.inner_optimizer(choice.optimizer), **settings_of(choice.state_of))
    observe_model(choice.optimizer, model)
    if choice.centers and is_centered(choice.state_of):
        new, old = map(keras.inner_optimizer, (choice.optimizer, choice.state_of))
        copy_means(new, old, keras.trained_variables(model))
