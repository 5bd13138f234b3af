"""How many bytes of state an optimizer keeps for each layer, before and after a rewrite."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from rewriter.core.layout import Layout, layout_of

from ...adapters import keras
from ...model.walk import locate_layers
from ..centered.optimizer import kept_of_inputs
from ..optimizer_choice import choose_optimizer, choose_standard_optimizer
from ..rule_statistics import kept_of_layer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ...planning.plan import Plan

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
    layout: Layout | None = None


def state_sizes(plan: Plan, model: Any, optimizer: str | None = None) -> tuple[StateSize, StateSize]:
    """Count the optimizer state of a model before a rewrite and after it.

    Args:
        plan: The plan of the model.
        model: The model. It is left as it is, and nothing of the size of a state is allocated.
        optimizer: The name of the rule that a rewrite is to give the model; ``None`` for what it gives by itself.

    Returns:
        The count before and the count after; a model that is rewritten already, in whole, is counted as it will be
        exported, and as it is.
    """
    before = choose_standard_optimizer(model).optimizer
    stays = plan.is_carried_out and optimizer is None
    after = keras.optimizer_of(model) if stays else choose_optimizer(model, optimizer).optimizer
    return _count(before, _trained(plan, model, merged=False)), _count(after, _trained(plan, model, merged=True))


def _trained(plan: Plan, model: Any, merged: bool) -> Iterator[_Trained]:
    """List the trained variables of a model, merged or separate, as asked for."""
    paths = {id(weight): found.paths[0] for found in locate_layers(model) for weight in keras.own_weights(found.layer)}
    stacked = {
        id(getattr(layer, part.attribute)): (layout, part)
        for _, layer, layouts in plan.layers_to_merge()
        for layout in layouts
        for part in layout.parts
    }
    for variable in keras.trained_variables(model):
        path, dtype = paths.get(id(variable), _ELSEWHERE), keras.stored_dtype(variable)
        layout, part = stacked.get(id(variable), (layout_of(variable), None))
        if layout is None:
            if keras.has_known_shape(variable):
                yield _Trained(path, tuple(variable.shape), dtype)
        elif merged and (part is None or part is layout.parts[0]):
            yield _Trained(path, layout.shape, dtype, layout)
        elif not merged:
            shapes = [each.shape for each in layout.parts] if part is None else [part.shape]
            yield from (_Trained(path, shape, dtype) for shape in shapes)


def _count(optimizer: Any, trained: Iterable[_Trained]) -> StateSize:
    """Build a copy of an optimizer in a graph that is never run: its slots have shapes and take no memory."""
    if optimizer is None:
        return StateSize(None, {}, 0)
    inner = keras.inner_optimizer(optimizer)
    try:
        bytes_of = _slot_bytes(inner, trained)
    except Exception:  # noqa: BLE001  a user's own optimizer may do what it likes when it is made and built
        return StateSize(type(inner).__name__, {}, None)
    layers = {path: size for path, size in bytes_of.items() if path != _ELSEWHERE}
    return StateSize(type(inner).__name__, layers, bytes_of.total())


def _slot_bytes(inner: Any, trained: Iterable[_Trained]) -> Counter[str]:
    config, bytes_of = inner.get_config(), Counter[str]()
    with keras.without_memory():
        variables = []
        for each in trained:
            variable = keras.new_variable(each.shape, each.dtype)
            if each.layout is not None:
                each.layout.attach(variable)
            variables.append((variable, each.path))
        like = type(inner).from_config(config)
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
