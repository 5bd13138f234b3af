"""Decides what the pass does to each layer of a model, before anything is touched."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rewriter.core import hints
from rewriter.core.errors import ModelError, PairError
from rewriter.core.flags import require_flags
from rewriter.core.layout import layouts_in
from rewriter.core.messages import Message

from ..adapters import keras
from ..model.augmented_layers import Augmented, pairs_in, standard_class
from ..model.families import family_of, names_of
from ..model.pairs import DENSE, Pair, layouts_for
from ..model.selectors import Selection, Selectors, select
from ..model.variable_holders import is_of_a_users_class
from ..model.walk import LocatedLayer, locate_layers
from .centering import centering_of
from .decisions import Decision, Place
from .declared_pairs import declared_pairs_of, has_declared_pairs
from .merge_blockers import Surroundings, class_unknown
from .merge_cost import cost_blocker
from .pair_discovery import Discovery, Remark
from .pair_discovery import discover as find_pairs
from .plan import Plan
from .reasons import Finding, Merge, Skip

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from rewriter.core.layout import Layout


def plan(
    model: Any,
    include: Selectors = None,
    exclude: Selectors = None,
    strict: bool = False,
    layers: str | Iterable[str] = "dense",
    discover: bool = False,
    inputs: Any = None,
) -> Plan:
    """Decide what the pass would do to each layer of a model; touches nothing.

    Args:
        model: A Keras model, rewritten or not.
        include: Selectors of the layers to merge: shell globs on the layer's path (``"encoder/*/ffn"``) or callables
            on the layer; one or several. ``None`` selects every layer.
        exclude: Selectors of the layers to leave alone.
        strict: Raise unless every selected kernel and bias pair can be merged.
        layers: Which families of layers to merge: ``"dense"``, ``"conv"``, ``"einsum"``, ``"recurrent"``, ``"all"``, or
            several of these. Pairs that :func:`rewriter.pair` declares are merged whatever the families are.
        discover: Look for pairs in what the model computes, for layers of no family and without a declaration; and
            remark on what does not fit.
        inputs: A batch that the model takes, to trace it; ``None`` goes by what the model says of its inputs.

    Returns:
        The plan: one :class:`Decision` for every layer that owns a kernel; several for one with several pairs.

    Raises:
        ModelError: ``model`` is no Keras model, or cannot be traced on ``inputs``, where pairs are to be found.
        SelectorError: A selector matches no layer that owns a kernel, or there is no such family.
        PairError: A declared pair does not fit its layer.
        NotMergeableError: ``strict`` and a selected pair cannot be merged, or there is a remark; the message lists
            each with its reason.
        TypeError: ``strict`` or ``discover`` is neither ``True`` nor ``False``.
    """
    require_flags(strict=strict, discover=discover)
    families = names_of(layers)
    located = locate_layers(model)
    _require_inside(model)
    if has_declared_pairs(model):
        raise PairError(
            f"{model.name}: a pair is declared for the model itself, and only layers in a model are merged. Move the "
            "weights to a layer, and declare a pair for that."
        )
    discovery = find_pairs(model, inputs) if discover else Discovery({}, ())
    found = discovery.pairs if discover else None
    candidates = [layer for layer in located if id(layer.layer) in discovery.pairs or _owns_kernel(layer.layer)]
    # A selector may also name a layer that only a remark is about: to leave it out silences the remark.
    selectable = {id(candidate.layer) for candidate in candidates} | {id(remark.layer) for remark in discovery.remarks}
    selection = select([each for each in located if id(each.layer) in selectable], include, exclude)
    surroundings = Surroundings(model, located)
    decisions = tuple(
        decision
        for candidate in candidates
        for decision in _decide(candidate, selection, families, found, surroundings)
    )
    remarks = tuple(
        _in_view_of(remark, decisions)
        for remark in discovery.remarks
        if remark.layer is model or id(remark.layer) in selection.chosen
    )
    settings = {"include": include, "exclude": exclude, "layers": layers, "discover": discover, "inputs": inputs}
    looked = {id(decision.target) for decision in decisions} if not discover else {id(each.layer) for each in located}
    decided = Plan(model.name, _places(model, located, looked), decisions, selection.matched, remarks, settings)
    if strict:
        decided.require_all_merged()
    return decided


def _require_inside(model: Any) -> None:
    """Raise ``ModelError`` for a single layer that would be merged itself: only layers inside a model are."""
    alone = not isinstance(model, keras.Model)
    if alone and (family_of(model) is not None or isinstance(model, (*keras.layer_classes("RNN"), Augmented))):
        raise ModelError(
            f"{model.name} is itself a layer to merge, and layers in a model are: put it in one, as in "
            f"model = {keras.NAME}.Sequential([layer]), and give that. The layer is changed in place all the same."
        )


def _in_view_of(remark: Remark, decisions: Iterable[Decision]) -> Remark:
    """Reword a remark about a weight that is merged all the same, because its family or ``pair`` says so."""
    for decision in decisions:
        if decision.target is remark.layer and remark.attribute in decision.weights and decision.action == "merge":
            finding = remark.finding
            how = finding["how"] if finding.kind is Finding.IN_NO_PAIR else str(finding)
            return replace(remark, finding=Finding.MERGED_ALL_THE_SAME(how=how))
    return remark


def _places(model: Any, located: Iterable[LocatedLayer], looked: Collection[int]) -> tuple[Place, ...]:
    """List the model and its layers, each below the layer by which it is reached first.

    Args:
        model: The model.
        located: Its layers.
        looked: The ``id`` of those of which it is known whether they have a pair.
    """
    paths = {id(model): "", **{id(found.layer): found.paths[0] for found in located}}
    layers = [(model, "", ""), *((found.layer, found.paths[0], paths[id(found.owners[0])]) for found in located)]
    return tuple(
        Place(
            path,
            above,
            standard_class(layer).__name__,
            _count_of_numbers(layer),
            unlooked=id(layer) not in looked and layer is not model and _may_have_a_pair(layer),
        )
        for layer, path, above in layers
    )


def _may_have_a_pair(layer: Any) -> bool:
    several = len(keras.own_weights(layer)) > 1
    return several and is_of_a_users_class(layer) and not isinstance(layer, Augmented)


def _count_of_numbers(layer: Any) -> int:
    return sum(keras.count_of_numbers(weight) for weight in keras.own_weights(layer))


def _owns_kernel(layer: Any) -> bool:
    if isinstance(layer, Augmented):
        return bool(pairs_in(layer))
    # A Dense layer that is not built has no kernel yet. It is listed all the same: the user has to build it.
    return family_of(layer) is not None or has_declared_pairs(layer) or keras.is_variable(vars(layer).get("kernel"))


def _decide(
    located: LocatedLayer,
    selection: Selection,
    families: tuple[str, ...],
    found: Mapping[int, tuple[Pair, ...]] | None,
    surroundings: Surroundings,
) -> Iterator[Decision]:
    """Decide about each pair of a layer, or about its kernel where there is no pair to decide about."""
    layer = located.layer
    if isinstance(layer, Augmented):
        stays = Skip.STAYS_MERGED(exclude=hints.EXCLUDE, split=hints.SPLIT)
        for merged in layouts_in(layer) or (None,):  # not built either
            yield _decision(located, stays if id(layer) in selection.excluded else Skip.ALREADY_MERGED(), layout=merged)
        return
    sought = _sought(located, found) if id(layer) in selection.chosen else _Sought(skip=Skip.NOT_SELECTED())
    asked = sought.family in (None, *families)
    if sought.skip is not None:
        of_no_interest = not asked and sought.skip.kind is Skip.NOT_BUILT
        skip = Skip.NOT_ASKED_FOR_NOR_BUILT() if of_no_interest else sought.skip
        yield _decision(located, skip, blocked=sought.blocked and asked)
        return
    reasons = [surroundings.blocker(located, pair) for pair in sought.pairs]
    if sought.source is not Merge.DECLARED:  # a declared pair is wanted, whatever it costs
        reasons = [
            reason or cost_blocker(layer, *layouts_for(layer, (pair,)))
            for pair, reason in zip(sought.pairs, reasons, strict=True)
        ]
    if not asked:
        # The hint must work: a pair that something else keeps from being merged has that reason, and no hint.
        more = hints.Argument("layers", ",".join((*families, str(sought.family))))
        unasked = [reason or Skip.NOT_ASKED_FOR(layers=more) for reason in reasons]
        for pair, was, said in zip(sought.pairs, reasons, unasked, strict=True):
            yield _decision(located, said, pair, unasked=was is None)
        return
    free = [pair for pair, reason in zip(sought.pairs, reasons, strict=True) if reason is None]
    layouts = dict(zip(free, layouts_for(layer, free), strict=True))
    for pair, reason in zip(sought.pairs, reasons, strict=True):
        yield _decision(located, reason, pair, layouts.get(pair), blocked=reason is not None, source=sought.source)


@dataclass(frozen=True)
class _Sought:
    """The pairs of a layer to merge, with their family or source; or the reason why there are none."""

    pairs: tuple[Pair, ...] = ()
    source: Merge | None = None
    skip: Message | None = None
    blocked: bool = False
    family: str | None = None


def _sought(located: LocatedLayer, found: Mapping[int, tuple[Pair, ...]] | None) -> _Sought:
    """Look for the pairs of a layer; ``found`` is what the model's graph shows, ``None`` without ``discover``."""
    layer, family = located.layer, family_of(located.layer)
    declared, name = has_declared_pairs(layer), None if family is None else family.name
    if not layer.built and (declared or family is not None):
        return _Sought(skip=Skip.NOT_BUILT(), blocked=True, family=name)
    if declared:
        pairs = _declared(located)
        return _Sought(pairs, Merge.DECLARED, None if pairs else Skip.NO_BIAS())
    if family is None:
        pairs = (found or {}).get(id(layer), ())
        return _Sought(pairs, Merge.FOUND, None if pairs else _no_family(layer, looked=found is not None))
    if layer.bias is None:
        return _Sought(skip=Skip.NO_BIAS(), family=name)
    pair = family.pair(layer) if callable(family.pair) else family.pair
    if isinstance(pair, Message):
        return _Sought(skip=pair, blocked=True, family=name)
    return _Sought((pair,), family=name)


def _no_family(layer: Any, looked: bool) -> Message:
    """Return why a layer of no known family is skipped, with what could merge it."""
    name = type(layer).__name__
    if keras.is_opaque(layer):
        return class_unknown(name)
    if len(keras.own_weights(layer)) == 1:
        return Skip.ONE_WEIGHT(layer=name)
    return (Skip.NO_PAIR_FOUND if looked else Skip.NO_FAMILY)(layer=name, discover=hints.DISCOVER)


def _declared(located: LocatedLayer) -> tuple[Pair, ...]:
    try:
        return declared_pairs_of(located.layer)
    except PairError as error:
        raise PairError(f"{located.paths[0]}: {error}") from error


def _decision(
    located: LocatedLayer,
    skip: Message | None,
    pair: Pair | None = None,
    layout: Layout | None = None,
    blocked: bool = False,
    source: Merge | None = None,
    unasked: bool = False,
) -> Decision:
    """Make a decision: to merge, unless there is a reason to skip."""
    layer = located.layer
    attributes = (pair or _usual_pair(layer)).attributes if layout is None else layout.attributes
    stacked = layout is not None and isinstance(layer, Augmented)
    kernel = getattr(layer, layout.attribute if layout is not None and stacked else attributes[0], None)
    shapes = {part.attribute: part.shape for part in layout.parts} if layout is not None else {}
    shared = len(located.paths) > 1
    merge = Merge.SHARED(paths=", ".join(located.paths)) if shared else Merge.PAIR(weights=attributes)
    if source is not None:
        merge = source(why=merge)
    return Decision(
        path=located.paths[0],
        layer=standard_class(layer).__name__,
        action="merge" if skip is None else "skip",
        why=skip or merge,
        weights=attributes,
        kernel_shape=shapes.get(attributes[0]) or _shape(getattr(layer, attributes[0], None)),
        bias_shape=shapes.get(attributes[-1]) or _shape(getattr(layer, attributes[-1], None)),
        augmented_shape=layout.shape if layout else None,
        dtype=keras.stored_dtype(kernel).name if keras.is_variable(kernel) else None,
        trainable=bool(layer.trainable),
        centering=None if layout is None else centering_of(layer, located.owners, layout),
        found=source is Merge.FOUND,
        blocked=blocked,
        unasked=unasked,
        target=layer,
        layout=layout,
    )


def _usual_pair(layer: Any) -> Pair:
    family = family_of(layer)
    return family.pair if family is not None and isinstance(family.pair, Pair) else DENSE


def _shape(weight: Any) -> tuple[int, ...] | None:
    return tuple(weight.shape) if keras.is_variable(weight) or keras.is_tensor(weight) else None
