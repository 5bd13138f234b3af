"""The plan: what the pass does to each layer and why, as data, made before anything is touched.

``rewrite`` applies this same object, so what ``--dry-run`` shows cannot differ from what the run does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from rewriter import keras_internals, tables
from rewriter.augmented import Augmented, is_merged, standard_class
from rewriter.errors import NotMergeableError
from rewriter.families import Family, family_of, layout_for
from rewriter.layout import layout_in
from rewriter.selection import Selectors, select
from rewriter.walk import LocatedLayer, locate_layers

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    """One decision for every layer that owns a kernel, in the model's order. ``str(plan)`` is a table."""

    model: str
    decisions: tuple[Decision, ...]

    @property
    def merges(self) -> tuple[Decision, ...]:
        """The decisions to merge; each has a layout."""
        return tuple(decision for decision in self.decisions if decision.action == "merge")

    @property
    def merged(self) -> tuple[Decision, ...]:
        """The decisions about layers that are merged already."""
        return tuple(decision for decision in self.decisions if decision.reason == ALREADY_MERGED)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON data: ``model``, ``merge``, ``skip`` and ``already_merged`` counts, ``decisions``."""
        return {
            "model": self.model,
            "merge": len(self.merges),
            "skip": len(self.decisions) - len(self.merges) - len(self.merged),
            "already_merged": len(self.merged),
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

    def summary(self) -> str:
        """Say in one line how many layers are merged, skipped or merged already."""
        counts = self.to_dict()
        line = f"{self.model}: {counts['merge']} to merge, {counts['skip']} skipped"
        return f"{line}, {counts['already_merged']} already merged" if self.merged else line

    def __str__(self) -> str:
        rows = [
            (
                decision.path,
                decision.layer,
                decision.action,
                tables.shape(decision.kernel_shape),
                tables.shape(decision.augmented_shape),
                decision.dtype or "",
                decision.reason,
            )
            for decision in self.decisions
        ]
        table = tables.render(("layer", "class", "action", "kernel", "W*", "dtype", "reason"), rows)
        return f"{table}\n{self.summary()}" if rows else self.summary()


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
    chosen = select(candidates, include, exclude)
    holders = _holders(model, located)
    decisions = tuple(_decide(candidate, id(candidate.layer) in chosen, holders) for candidate in candidates)
    decided = Plan(model.name, decisions)
    if strict:
        decided.require_all_merged()
    return decided


def _owns_kernel(layer: Any) -> bool:
    # A Dense layer that is not built has no kernel yet, but is the user's business all the same.
    return family_of(layer) is not None or isinstance(vars(layer).get("kernel"), tf.Variable)


def _holders(model: Any, located: Sequence[LocatedLayer]) -> dict[int, list[str]]:
    """Map each variable, by ``id``, to the attributes that hold it, anywhere in the model."""
    holders: dict[int, list[str]] = {}
    for path, layer in [("", model), *((layer.paths[0], layer.layer) for layer in located)]:
        for attribute, value in vars(layer).items():
            if isinstance(value, tf.Variable):
                holders.setdefault(id(value), []).append(f"{path}.{attribute}" if path else attribute)
    return holders


def _decide(located: LocatedLayer, chosen: bool, holders: dict[int, list[str]]) -> Decision:
    layer = located.layer
    family = family_of(layer)
    out_of_scope = _out_of_scope(layer, family, chosen)
    obstacle = _obstacle(located, family, holders) if family is not None and out_of_scope is None else None
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


def _obstacle(located: LocatedLayer, family: Family, holders: dict[int, list[str]]) -> str | None:
    """Say why a pair cannot be merged, ``None`` if it can; each reason says what the user can do, where they can."""
    layer = located.layer
    if not layer.built:
        return "not built, so it has no weights yet: call the model on a batch, or model.build(input_shape)"
    weights: list[Any] = [getattr(layer, attribute, None) for attribute in (family.kernel, family.bias)]
    for attribute, weight in zip((family.kernel, family.bias), weights, strict=True):
        if not isinstance(weight, tf.Variable) or vars(layer).get(attribute) is not weight:
            return f"its {attribute} is no variable of its own but {type(weight).__name__}: something replaced it"
        own = f"{located.paths[0]}.{attribute}"
        others = [held for held in holders[id(weight)] if held != own]
        if others:
            return f"{' and '.join([own, *others])} are one variable: merging would untie them"
    return _misfit(layer, *weights)


def _misfit(layer: Any, kernel: Any, bias: Any) -> str | None:
    """Say why two variables cannot be stacked in one, ``None`` if they can."""
    if tuple(kernel.shape[-1:]) != tuple(bias.shape):
        return f"kernel {tables.shape(kernel.shape)} and bias {tables.shape(bias.shape)} differ in units"
    dtypes = [keras_internals.stored_dtype(weight).name for weight in (kernel, bias)]
    if dtypes[0] != dtypes[1]:
        return f"kernel is {dtypes[0]} and bias is {dtypes[1]}: one variable has one dtype"
    if kernel.trainable != bias.trainable:
        return "of kernel and bias only one is trainable: one variable is trained whole"
    own = {id(weight) for weight in keras_internals.own_weights(layer)}
    return None if {id(kernel), id(bias)} <= own else "its kernel or bias is not among the layer's own weights"


def _shape(weight: Any) -> tuple[int, ...] | None:
    return None if weight is None else tuple(weight.shape)
