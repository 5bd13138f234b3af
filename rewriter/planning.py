"""The plan: what the pass does to each layer and why, as data, made before anything is touched.

``rewrite`` applies this same object, so what ``--dry-run`` shows cannot differ from what the run does.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from rewriter import keras_internals, tables
from rewriter.augmented import Augmented, standard_class
from rewriter.errors import ModelError, NotMergeableError
from rewriter.families import Family, family_of, layout_for
from rewriter.layout import is_merged, layout_in
from rewriter.obstacles import NOT_BUILT, Surroundings
from rewriter.selection import Selectors, select
from rewriter.walk import LocatedLayer, locate_layers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rewriter.layout import Layout

ALREADY_MERGED = "already merged"


@dataclass(frozen=True)
class Decision:
    """What the pass does to one layer that owns a kernel.

    Attributes:
        path: Where the layer is in the model; the first of its paths, if it is shared.
        layer: The layer's standard class name, ``"Dense"``.
        action: ``"merge"`` or ``"skip"``.
        reason: Why.
        kernel_shape: ``None`` where the layer is not built.
        bias_shape: ``None`` where the layer has no bias or is not built.
        augmented_shape: ``(fan_in + 1, units)`` of the ``W*`` there is or will be, ``None`` where there is none.
        dtype: Name of the dtype in which the kernel is stored, ``None`` where the layer is not built.
        trainable: Whether training updates the layer, as far as the layer itself says.
        blocked: The layer has a kernel and bias pair that was selected and cannot be merged.
        target: The layer.
        layout: How its weights are or will be stacked; ``None`` where they are not.
    """

    path: str
    layer: str
    action: str
    reason: str
    kernel_shape: tuple[int, ...] | None
    bias_shape: tuple[int, ...] | None
    augmented_shape: tuple[int, int] | None
    dtype: str | None
    trainable: bool
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
            **{name: None if shape is None else list(shape) for name, shape in shapes.items()},
            "dtype": self.dtype,
            "trainable": self.trainable,
        }


@dataclass(frozen=True)
class Plan:
    """One decision for every layer that owns a kernel, in the model's order. ``str(plan)`` is a table.

    Attributes:
        model: The model's name.
        decisions: The decisions.
        selectors: How many layers each selector matched, by the selector as text.
    """

    model: str
    decisions: tuple[Decision, ...]
    selectors: dict[str, int] = field(default_factory=dict)

    @property
    def merges(self) -> tuple[Decision, ...]:
        """The decisions to merge; each has a layout."""
        return tuple(decision for decision in self.decisions if decision.action == "merge")

    @property
    def merged(self) -> tuple[Decision, ...]:
        """The decisions about layers that are merged already."""
        return tuple(decision for decision in self.decisions if decision.reason == ALREADY_MERGED)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON data.

        The keys are ``model``; the counts ``merge``, ``skip`` and ``already_merged``; ``selectors``, how many layers
        each matched; and ``decisions``.
        """
        return {
            "model": self.model,
            "merge": len(self.merges),
            "skip": len(self.decisions) - len(self.merges) - len(self.merged),
            "already_merged": len(self.merged),
            "selectors": self.selectors,
            "decisions": [decision.to_dict() for decision in self.decisions],
        }

    def require_all_merged(self) -> None:
        """Raise ``NotMergeableError`` if a selected pair cannot be merged, or if there is none to merge."""
        blocked = [decision for decision in self.decisions if decision.blocked]
        if blocked:
            lines = "\n".join(f"  {decision.path} ({decision.layer}): {decision.reason}" for decision in blocked)
            raise NotMergeableError(
                f"strict: {len(blocked)} selected layers of {self.model} cannot be merged:\n{lines}\n"
                "Leave them out with exclude= (--exclude), or drop strict."
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
        return f"{table}\n{self.summary()}" if rows else self.summary()

    def __str__(self) -> str:
        return self.table()


def plan(model: Any, include: Selectors = None, exclude: Selectors = None, strict: bool = False) -> Plan:
    """Decide what the pass would do to each layer of a model; touches nothing.

    Args:
        model: A tf-keras model, rewritten or not.
        include: Selectors of the layers to merge: shell globs on the layer's path (``"encoder/*/ffn"``) or callables
            on the layer; one or several. ``None`` selects every layer.
        exclude: Selectors of the layers to leave alone.
        strict: Raise unless every selected kernel and bias pair can be merged.

    Returns:
        The plan: one :class:`Decision` for every layer that owns a kernel.

    Raises:
        ModelError: ``model`` is no tf-keras model.
        SelectorError: A selector matches no layer that owns a kernel.
        NotMergeableError: ``strict`` and a selected pair cannot be merged; the message lists each with its reason.
    """
    located = locate_layers(model)
    candidates = [layer for layer in located if _owns_kernel(layer.layer)]
    selection = select(candidates, include, exclude)
    surroundings = Surroundings(model, located)
    decisions = tuple(
        _decide(candidate, id(candidate.layer) in selection.chosen, surroundings) for candidate in candidates
    )
    decided = Plan(model.name, decisions, selection.matched)
    if strict:
        decided.require_all_merged()
    return decided


def _owns_kernel(layer: Any) -> bool:
    # A Dense layer that is not built has no kernel yet, but is the user's business all the same.
    return family_of(layer) is not None or isinstance(vars(layer).get("kernel"), tf.Variable)


def _decide(located: LocatedLayer, chosen: bool, surroundings: Surroundings) -> Decision:
    layer = located.layer
    family = family_of(layer)
    out_of_scope = _out_of_scope(layer, family, chosen)
    obstacle = surroundings.obstacle(located, family) if family is not None and out_of_scope is None else None
    merge = out_of_scope is None and obstacle is None
    if isinstance(layer, Augmented):
        layout = layout_in(layer) if is_merged(layer) else None
        kernel, bias = getattr(layer, "augmented_kernel", None), None
    else:
        layout = layout_for(layer, family) if family is not None and merge else None
        kernel, bias = getattr(layer, "kernel", None), getattr(layer, "bias", None)
    shared = f"shared: {', '.join(located.paths)}" if len(located.paths) > 1 else "kernel and bias"
    return Decision(
        path=located.paths[0],
        layer=standard_class(layer).__name__,
        action="merge" if merge else "skip",
        reason=out_of_scope or obstacle or shared,
        kernel_shape=layout.parts[0].shape if layout else _shape(kernel),
        bias_shape=layout.parts[-1].shape if layout else _shape(bias),
        augmented_shape=layout.shape if layout else None,
        dtype=keras_internals.stored_dtype(kernel).name if isinstance(kernel, tf.Variable) else None,
        trainable=bool(layer.trainable),
        blocked=obstacle is not None,
        target=layer,
        layout=layout,
    )


def _out_of_scope(layer: Any, family: Family | None, chosen: bool) -> str | None:
    """Say why there is no pair to merge here, ``None`` if there is one."""
    if isinstance(layer, Augmented):
        return ALREADY_MERGED
    if not chosen:
        return "not selected"
    if family is None:
        return f"{type(layer).__name__} is not a Dense layer"
    if layer.built and getattr(layer, family.bias, None) is None:
        return "no bias (use_bias=False)"
    return None


def _shape(weight: Any) -> tuple[int, ...] | None:
    return None if weight is None else tuple(weight.shape)
