"""The plan: what the pass does to each layer and why, as data, made before anything is touched.

``rewrite`` applies this same object, so what ``--dry-run`` shows cannot differ from what the run does.
"""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from rewriter import keras_internals, tables
from rewriter.augmented import Augmented, pairs_in, standard_class
from rewriter.discovery import Discovery
from rewriter.discovery import discover as find_pairs
from rewriter.errors import ModelError, NotMergeableError, PairError
from rewriter.families import family_of, names_of
from rewriter.layout import layouts_in
from rewriter.obstacles import NOT_BUILT, Surroundings
from rewriter.pairing import DENSE, Pair, layouts_for
from rewriter.selection import Selectors, select
from rewriter.told import is_told, told_pairs
from rewriter.walk import LocatedLayer, locate_layers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from rewriter.discovery import Remark
    from rewriter.layout import Layout

ALREADY_MERGED = "already merged"
_NO_BIAS = "no bias (use_bias=False)"
_FOUND = "found"


@dataclass(frozen=True)
class Decision:
    """What the pass does to one kernel of a layer; nearly all layers that own a kernel own one.

    Attributes:
        path: Where the layer is in the model; the first of its paths, if it is shared.
        layer: The layer's standard class name, ``"Dense"``.
        action: ``"merge"`` or ``"skip"``.
        reason: Why.
        weights: The attributes that hold what is or could be merged, the bias last; ``("kernel", "bias")``.
        kernel_shape: ``None`` where the layer is not built.
        bias_shape: ``None`` where the layer has no bias or is not built.
        augmented_shape: ``(fan_in + 1, units)`` of the ``W*`` there is or will be, ``None`` where there is none.
        dtype: Name of the dtype in which the kernel is stored, ``None`` where the layer is not built.
        trainable: Whether training updates the layer, as far as the layer itself says.
        found: The pair was found in the graph of the model, and is to be checked before it is believed.
        blocked: The layer has a kernel and bias pair that was selected and cannot be merged.
        target: The layer.
        layout: How its weights are or will be stacked; ``None`` where they are not.
    """

    path: str
    layer: str
    action: str
    reason: str
    weights: tuple[str, ...]
    kernel_shape: tuple[int, ...] | None
    bias_shape: tuple[int, ...] | None
    augmented_shape: tuple[int, int] | None
    dtype: str | None
    trainable: bool
    found: bool = field(repr=False)
    blocked: bool = field(repr=False)
    target: Any = field(repr=False, compare=False)
    layout: Layout | None = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the public attributes as JSON data: names as above, shapes as lists."""
        shapes = {name: getattr(self, name) for name in ("kernel_shape", "bias_shape", "augmented_shape")}
        return {
            "path": self.path,
            "layer": self.layer,
            "action": self.action,
            "reason": self.reason,
            "weights": list(self.weights),
            **{name: None if shape is None else list(shape) for name, shape in shapes.items()},
            "dtype": self.dtype,
            "trainable": self.trainable,
        }


@dataclass(frozen=True)
class Plan:
    """One decision for every kernel, in the order of the model's layers. ``str(plan)`` is a table.

    Attributes:
        model: The model's name.
        decisions: The decisions.
        selectors: How many layers each selector matched, by the selector as text.
        remarks: What in the model an optimizer of whole layers would not expect, if it was asked to look.
    """

    model: str
    decisions: tuple[Decision, ...]
    selectors: dict[str, int] = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()

    @property
    def merges(self) -> tuple[Decision, ...]:
        """The decisions to merge; each has a layout."""
        return tuple(decision for decision in self.decisions if decision.action == "merge")

    @property
    def merged(self) -> tuple[Decision, ...]:
        """The decisions about layers that are merged already."""
        return tuple(decision for decision in self.decisions if decision.reason == ALREADY_MERGED)

    def layers_to_merge(self) -> Iterator[tuple[str, Any, tuple[Layout, ...]]]:
        """Yield each layer to merge: its path, itself, and the layouts of its augmented kernels."""
        for layer, decisions in itertools.groupby(self.merges, key=lambda decision: decision.target):
            several = list(decisions)
            yield several[0].path, layer, tuple(each.layout for each in several if each.layout is not None)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON data.

        The keys are ``model``; the counts ``merge``, ``skip`` and ``already_merged``; ``selectors``, how many layers
        each matched; ``remarks``, each with ``place`` and ``text``; and ``decisions``.
        """
        return {
            "model": self.model,
            "merge": len(self.merges),
            "skip": len(self.decisions) - len(self.merges) - len(self.merged),
            "already_merged": len(self.merged),
            "selectors": self.selectors,
            "remarks": [remark.to_dict() for remark in self.remarks],
            "decisions": [decision.to_dict() for decision in self.decisions],
        }

    def require_all_merged(self) -> None:
        """Raise ``NotMergeableError`` if a selected pair cannot be merged or there is none, or for remarks."""
        blocked = [decision for decision in self.decisions if decision.blocked]
        if blocked:
            lines = "\n".join(f"  {decision.path} ({decision.layer}): {decision.reason}" for decision in blocked)
            raise NotMergeableError(
                f"strict: {len(blocked)} selected layers of {self.model} cannot be merged:\n{lines}\n"
                "Leave them out with exclude= (--exclude), or drop strict."
            )
        if self.remarks:
            lines = "\n".join(f"  {remark}" for remark in self.remarks)
            raise NotMergeableError(
                f"strict: {self.model} does not match what an optimizer of whole layers expects:\n{lines}\n"
                "Drop strict, or discover, to go on all the same."
            )
        if not self.merges and not self.merged:
            raise NotMergeableError(
                f"strict: {self.model} has nothing to merge, no selected layer has a kernel and a bias."
            )

    def require_built(self) -> None:
        """Raise ``ModelError`` if no pair can be merged for want of weights; warn if that is so for some."""
        unbuilt = [decision.path for decision in self.decisions if decision.reason == NOT_BUILT]
        if unbuilt and not self.merges and not self.merged:
            raise ModelError(
                f"{self.model} is not built: {', '.join(unbuilt)}. Call it on a batch, or model.build(input_shape), "
                "so that its layers have weights to merge."
            )
        if unbuilt:
            warnings.warn(
                f"{self.model} is rewritten in part. {', '.join(unbuilt)}: {NOT_BUILT}, then rewrite the model again.",
                stacklevel=3,
            )

    def without(self, path: str, reason: str) -> Plan:
        """Leave out the pairs that were found at a path, or all that were found if none were found there.

        Returns:
            The plan without them; the same plan if nothing was found.
        """
        there = [each for each in self.merges if each.found and each.path == path]
        left_out = there or [each for each in self.merges if each.found]
        decisions = tuple(
            replace(each, action="skip", reason=reason, augmented_shape=None, layout=None) if each in left_out else each
            for each in self.decisions
        )
        return replace(self, decisions=decisions) if left_out else self

    def summary(self) -> str:
        """Say in one line how many layers are merged, skipped or merged already."""
        counts = self.to_dict()
        line = f"{self.model}: {counts['merge']} to merge, {counts['skip']} skipped"
        if self.merged:
            line += f", {counts['already_merged']} already merged"
        matched = "; ".join(f"{selector} matched {count}" for selector, count in self.selectors.items())
        return f"{line} ({matched})" if matched else line

    def table(self, more: Mapping[str, Mapping[str, str]] | None = None) -> str:
        """Show the decisions as a table, and below it the summary.

        Args:
            more: Further columns: the text for each path, by the column's head.
        """
        columns = more or {}
        rows = [
            (
                decision.path,
                decision.layer,
                decision.action,
                tables.shape(decision.kernel_shape),
                tables.shape(decision.augmented_shape),
                decision.dtype or "",
                *(texts.get(decision.path, "") for texts in columns.values()),
                decision.reason,
            )
            for decision in self.decisions
        ]
        table = tables.render(("layer", "class", "action", "kernel", "W*", "dtype", *columns, "reason"), rows)
        lines = [table] if rows else []
        return "\n".join([*lines, self.summary(), *(f"{remark.place}: {remark.text}" for remark in self.remarks)])

    def __str__(self) -> str:
        return self.table()


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
        model: A tf-keras model, rewritten or not.
        include: Selectors of the layers to merge: shell globs on the layer's path (``"encoder/*/ffn"``) or callables
            on the layer; one or several. ``None`` selects every layer.
        exclude: Selectors of the layers to leave alone.
        strict: Raise unless every selected kernel and bias pair can be merged.
        layers: Which families of layers to merge: ``"dense"``, ``"conv"``, ``"einsum"``, ``"recurrent"``, ``"all"``, or
            several of these. What :func:`rewriter.pair` told is merged whatever they are.
        discover: Look for pairs in layers that are of no family and were not told, in what the model computes; and
            remark on what does not fit.
        inputs: A batch that the model takes, to trace it; ``None`` goes by what the model says of its inputs.

    Returns:
        The plan: one :class:`Decision` for every layer that owns a kernel; several for one with several pairs.

    Raises:
        ModelError: ``model`` is no tf-keras model.
        SelectorError: A selector matches no layer that owns a kernel, or there is no such family.
        PairError: What :func:`rewriter.pair` told does not fit a layer.
        NotMergeableError: ``strict`` and a selected pair cannot be merged, or there is a remark; the message lists
            each with its reason.
    """
    families = names_of(layers)
    located = locate_layers(model)
    discovery = find_pairs(model, inputs) if discover else Discovery({}, ())
    candidates = [layer for layer in located if id(layer.layer) in discovery.pairs or _owns_kernel(layer.layer)]
    selection = select(candidates, include, exclude)
    surroundings = Surroundings(model, located)
    decisions = tuple(
        decision
        for candidate in candidates
        for decision in _decide(
            candidate, id(candidate.layer) in selection.chosen, families, discovery.pairs, surroundings
        )
    )
    decided = Plan(model.name, decisions, selection.matched, discovery.remarks)
    if strict:
        decided.require_all_merged()
    return decided


def _owns_kernel(layer: Any) -> bool:
    if isinstance(layer, Augmented):
        return bool(pairs_in(layer))
    # A Dense layer that is not built has no kernel yet, but is the user's business all the same.
    return family_of(layer) is not None or is_told(layer) or isinstance(vars(layer).get("kernel"), tf.Variable)


def _decide(
    located: LocatedLayer,
    chosen: bool,
    families: tuple[str, ...],
    found: Mapping[int, tuple[Pair, ...]],
    surroundings: Surroundings,
) -> Iterator[Decision]:
    """Decide about each pair of a layer, or about its kernel where there is no pair to decide about."""
    layer = located.layer
    if isinstance(layer, Augmented):
        for merged in layouts_in(layer) or (None,):  # not built either
            yield _decision(located, ALREADY_MERGED, layout=merged)
        return
    source, pairs = _pairs(located, families, found) if chosen else ("", "not selected")
    if isinstance(pairs, str):
        yield _decision(located, pairs)
    elif not layer.built:
        yield _decision(located, NOT_BUILT, blocked=True)
    else:
        obstacles = [surroundings.obstacle(located, pair) for pair in pairs]
        free = [pair for pair, obstacle in zip(pairs, obstacles, strict=True) if obstacle is None]
        layouts = dict(zip(free, layouts_for(layer, free), strict=True))
        for pair, obstacle in zip(pairs, obstacles, strict=True):
            yield _decision(located, obstacle, pair, layouts.get(pair), blocked=obstacle is not None, source=source)


def _pairs(
    located: LocatedLayer, families: tuple[str, ...], found: Mapping[int, tuple[Pair, ...]]
) -> tuple[str, tuple[Pair, ...] | str]:
    """Tell which weights of a layer are to be merged, or why none are, and from where that is known."""
    layer, family = located.layer, family_of(located.layer)
    if is_told(layer):
        try:
            return "told", (told_pairs(layer) or _NO_BIAS) if layer.built else ()
        except PairError as error:
            raise PairError(f"{located.paths[0]}: {error}") from error
    if family is None:
        unknown = (
            f"{type(layer).__name__} is of no known family: rewriter.pair tells what belongs together in it, "
            "discover=True (--discover) finds it"
        )
        return _FOUND, found.get(id(layer), unknown)
    if family.name not in families:
        return "", f"not asked for: layers={family.name!r} (--layers {family.name}) merges it too"
    if not layer.built:
        return "", ()
    if layer.bias is None:
        return "", _NO_BIAS
    pair = family.pair(layer) if callable(family.pair) else family.pair
    return "", pair if isinstance(pair, str) else (pair,)


def _decision(
    located: LocatedLayer,
    reason: str | None,
    pair: Pair | None = None,
    layout: Layout | None = None,
    blocked: bool = False,
    source: str = "",
) -> Decision:
    """Put a decision together: to merge, if there is no reason not to."""
    layer = located.layer
    attributes = (pair or _usual_pair(layer)).attributes if layout is None else layout.attributes
    stacked = layout is not None and isinstance(layer, Augmented)
    kernel = getattr(layer, layout.attribute if layout is not None and stacked else attributes[0], None)
    shapes = {part.attribute: part.shape for part in layout.parts} if layout is not None else {}
    if len(located.paths) > 1:
        why = f"shared: {', '.join(located.paths)}"
    else:
        why = f"{', '.join(attributes[:-1])} and {attributes[-1]}"
    if source:
        why = f"{source}: {why}"
    return Decision(
        path=located.paths[0],
        layer=standard_class(layer).__name__,
        action="merge" if reason is None else "skip",
        reason=reason or why,
        weights=attributes,
        kernel_shape=shapes.get(attributes[0]) or _shape(getattr(layer, attributes[0], None)),
        bias_shape=shapes.get(attributes[-1]) or _shape(getattr(layer, attributes[-1], None)),
        augmented_shape=layout.shape if layout else None,
        dtype=keras_internals.stored_dtype(kernel).name if isinstance(kernel, tf.Variable) else None,
        trainable=bool(layer.trainable),
        found=source == _FOUND,
        blocked=blocked,
        target=layer,
        layout=layout,
    )


def _usual_pair(layer: Any) -> Pair:
    family = family_of(layer)
    return family.pair if family is not None and isinstance(family.pair, Pair) else DENSE


def _shape(weight: Any) -> tuple[int, ...] | None:
    return tuple(weight.shape) if isinstance(weight, tf.Variable | tf.Tensor) else None
