"""How many bytes of state an optimizer keeps for each layer, before and after a rewrite."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from rewriter.core.layout import Layout, layout_of, layouts_in

from ...adapters import keras
from ...model.output_layers import output_layers
from ...model.walk import LocatedLayer, locate_layers
from ..centered.optimizer import center, kept_of_inputs
from ..optimizer_choice import choose_optimizer, choose_standard_optimizer
from ..rule_statistics import kept_of_layer
from ..rules.adam import AdamForOthers, KernelInModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ...planning.plan import Plan
    from ..optimizer_choice import OptimizerChoice

_ELSEWHERE = ""  # the path of what is trained and in no layer


@dataclass(frozen=True)
class StateSize:
    """The bytes of an optimizer's slots. Counters and learning rates, a few bytes in all, are left out.

    Attributes:
        optimizer: The optimizer's class, ``None`` where there is none.
        layers: The bytes for each trained layer, by path.
        total: The bytes for all that is trained; ``None`` where an optimizer does not let itself be made again.
    """

    optimizer: str | None
    layers: dict[str, int]
    total: int | None

    def to_dict(self) -> dict[str, Any]:
        """Return ``optimizer``, ``layers``, the bytes by path, and ``total``, as JSON data; ``null`` for ``None``."""
        return {"optimizer": self.optimizer, "layers": self.layers, "total": self.total}

    def __str__(self) -> str:
        if self.optimizer is None:
            return "none"
        return f"{'unknown' if self.total is None else f'{self.total:,} bytes'} under {self.optimizer}"


class _Trained(NamedTuple):
    path: str
    shape: tuple[int, ...]
    dtype: Any
    name: str
    layout: Layout | None = None
    found: LocatedLayer | None = None  # of a layer that is to be merged


def state_sizes(
    plan: Plan, model: Any, choice: OptimizerChoice | None = None, inputs: Any = None
) -> tuple[StateSize, StateSize]:
    """Count the optimizer state of a model before a rewrite and after it.

    Args:
        plan: The plan of the model.
        model: The model. It is left as it is, and nothing of the size of a state is allocated.
        choice: The optimizer that a rewrite is to give the model; ``None`` for what it gives by itself.
        inputs: A batch that the model takes, for a rule that asks which layers give its outputs; ``None`` makes one.

    Returns:
        The count before and the count after; a model that is rewritten already, in whole, is counted as it will be
        exported, and as it is, or where a choice is given, as it is and as it will be.
    """
    is_merged, current = plan.is_carried_out, keras.optimizer_of(model)
    changes = is_merged and choice is not None
    before = current if changes else choose_standard_optimizer(model).optimizer
    choice = choice or (None if is_merged else choose_optimizer(model))
    after = current if choice is None else choice.optimizer
    giving = frozenset[int]()
    inner = keras.inner_optimizer(after)
    if isinstance(inner, AdamForOthers) and inner.asks_for_output_layers and plan.merges:
        to_merge = {id(layer): layouts for _, layer, layouts in plan.layers_to_merge()}
        giving = output_layers(model, inputs, lambda layer: to_merge.get(id(layer)) or layouts_in(layer))
    return (
        _count(before, _trained(plan, model, merged=changes), giving),
        _count(after, _trained(plan, model, merged=True), giving, choice is not None and choice.centers),
    )


def _trained(plan: Plan, model: Any, merged: bool) -> Iterator[_Trained]:
    """List the trained variables of a model, merged or separate, as asked for."""
    located = {id(weight): found for found in locate_layers(model) for weight in keras.own_weights(found.layer)}
    stacked = {
        id(getattr(layer, part.attribute)): (layout, part)
        for _, layer, layouts in plan.layers_to_merge()
        for layout in layouts
        for part in layout.parts
    }
    for variable in keras.trained_variables(model):
        found, dtype, name = located.get(id(variable)), keras.stored_dtype(variable), keras.name_of(variable)
        path = _ELSEWHERE if found is None else found.paths[0]
        layout, part = stacked.get(id(variable), (layout_of(variable), None))
        if layout is None:
            if keras.has_known_shape(variable):
                yield _Trained(path, tuple(variable.shape), dtype, name)
        elif merged and part is None:
            yield _Trained(path, layout.shape, dtype, name, layout)
        elif merged and part is layout.parts[0]:
            yield _Trained(path, layout.shape, dtype, layout.name, layout, found)
        elif not merged:
            shapes = [each.shape for each in layout.parts] if part is None else [part.shape]
            yield from (_Trained(path, shape, dtype, name) for shape in shapes)


def _count(optimizer: Any, trained: Iterable[_Trained], giving: frozenset[int], centers: bool = False) -> StateSize:
    """Build a copy of an optimizer in a graph that is never run: its slots have shapes and take no memory."""
    if optimizer is None:
        return StateSize(None, {}, 0)
    inner = keras.inner_optimizer(optimizer)
    try:
        bytes_of = _slot_bytes(inner, trained, giving, centers)
    except Exception:  # noqa: BLE001  a user's own optimizer may do what it likes when it is made and built
        return StateSize(type(inner).__name__, {}, None)
    layers = {path: size for path, size in bytes_of.items() if path != _ELSEWHERE}
    return StateSize(type(inner).__name__, layers, bytes_of.total())


def _slot_bytes(inner: Any, trained: Iterable[_Trained], giving: frozenset[int], centers: bool) -> Counter[str]:
    config, bytes_of = inner.get_config(), Counter[str]()
    with keras.without_memory():
        variables, kernels = [], []
        for each in trained:
            variable = keras.new_variable(each.shape, each.dtype, each.name)
            if each.layout is not None:
                each.layout.attach(variable)
            if each.layout is not None and each.found is not None:
                kernels.append(KernelInModel(each.found, variable, each.layout))
            variables.append((variable, each.path))
        like = type(inner).from_config(config)
        if centers:
            center(like)
        if isinstance(like, AdamForOthers) and kernels:
            like.choose_layers(kernels, giving)
        with warnings.catch_warnings():
            # That nothing is merged is what the plan says.
            warnings.filterwarnings("ignore", message=".*none of them is an augmented kernel")
            keras.build_slots(like, [variable for variable, _ in variables])
        slots = keras.optimizer_slots(like)
        if slots is None:
            raise ValueError("it does not say that it is built")
        saved = {id(variable) for variable in slots.variables}
        for variable, path in variables:
            place = slots.index.get(keras.variable_key(like, variable))
            if place is None:  # a legacy SGD without momentum keeps nothing
                continue
            kept = [of_all[place] for of_all in slots.lists.values() if id(of_all[place]) in saved]
            kept += [*kept_of_inputs(like, variable), *kept_of_layer(like, variable)]
            bytes_of[path] += sum(map(keras.bytes_of, kept))
    return bytes_of
