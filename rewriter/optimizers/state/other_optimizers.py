"""Optimizers beside the model's own that have state for its weights: of a loop, of a part, of a model over its layers.

They follow the weights, as one that is kept does.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from rewriter.core.layout import is_merged
from rewriter.core.log import log

from ...adapters import keras
from .. import weight_decay
from ..centered.optimizer import is_centered
from ..joint_optimizer import is_joint
from . import slots
from .outcomes import Outcome
from .replaced_weights import OutdatedOptimizer
from .transfer import StateTransfer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rewriter.core.layout import Layout
    from rewriter.core.messages import Message

    from ...adapters.records import Replaced


class OtherOptimizers:
    """The further optimizers that know weights of some layers: by their state, or as what weight decay leaves out.

    The state of one follows if it is one of Keras's elementwise optimizers, is not centered, and trains all weights of
    an augmented kernel or none. All that it trains has to be found, in the model or in another one that is alive. Any
    other is only rolled back, if the layers are changed back.

    Args:
        model: The model.
        layers: The layers that are about to change, with their layouts.
        alive: The result of ``keras.holders_alive()``.
        *own: The optimizers that go another way.
    """

    def __init__(
        self, model: Any, layers: Sequence[tuple[Any, Sequence[Layout]]], alive: Sequence[Any], *own: Any
    ) -> None:
        inner = {id(keras.inner_optimizer(each)) for each in own}
        weights = [_weights_of(layer, layout) for layer, layouts in layers for layout in layouts]
        self._model = model
        self._alive = alive
        # Variables by their keys, listed when they are asked for.
        self._in_model: dict[Any, Any] | None = None
        self._elsewhere: dict[Any, Any] | None = None
        others = [
            optimizer
            for optimizer in filter(is_whole_optimizer, alive)
            if id(optimizer) not in inner and _knows_any(optimizer, weights)
        ]
        self._following = [
            StateTransfer(optimizer, elsewhere)
            for optimizer in others
            if _can_follow(optimizer) and _trains_whole(optimizer, weights)
            if (elsewhere := self._trained_elsewhere(optimizer)) is not None
        ]
        following = {id(each.optimizer) for each in self._following}
        self._all = [*self._following, *(StateTransfer(each) for each in others if id(each) not in following)]

    def before_merge(self, layer: Any, layout: Layout) -> None:
        """Note that the weights of a layer are about to be merged, in one of its augmented kernels."""
        for transfer in self._all:
            transfer.before_merge(layer, layout)

    def before_separate(self, layer: Any, layout: Layout) -> None:
        """Note that an augmented kernel of a layer is about to be taken apart."""
        for transfer in self._all:
            transfer.before_separate(layer, layout)

    def move(self) -> None:
        """Move the state of those that follow to the variables that the model has now."""
        for transfer in self._following:
            transfer.move(self._model)

    def roll_back(self) -> None:
        """Restore the slots that each had, after layers were changed and changed back."""
        for transfer in self._all:
            transfer.roll_back()

    @property
    def following(self) -> list[Any]:
        """Those whose state follows."""
        return [transfer.optimizer for transfer in self._following]

    @property
    def replaced(self) -> list[Replaced]:
        """The slots that those had which follow."""
        return [each for transfer in self._following for each in transfer.replaced]

    @property
    def lines(self) -> list[Message]:
        """What the log is to say of those that follow."""
        return [
            Outcome.ALSO_KEPT(
                optimizer=type(transfer.optimizer).__name__,
                where=_where(transfer.optimizer, self._model, self._alive),
                count=keras.iterations_of(transfer.optimizer),
            )
            for transfer in self._following
        ]

    def _trained_elsewhere(self, optimizer: Any) -> list[Any] | None:
        """List the variables that an optimizer trains outside of the model; ``None`` where one is not found."""
        known = keras.optimizer_slots(optimizer)
        if self._in_model is None:
            self._in_model = _by_key([self._model])
        missing = set() if known is None else known.index.keys() - self._in_model.keys()
        if missing and self._elsewhere is None:
            self._elsewhere = _by_key(each for each in self._alive if isinstance(each, keras.Model))
        found = {key: variable for key, variable in (self._elsewhere or {}).items() if key in missing}
        return list(found.values()) if found.keys() >= missing else None


def optimizers_held_by(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield the optimizers that a model holds beside its own, each with its name: as attributes, or in containers."""
    for name, value in vars(model).items():
        several = [(name, value)]
        if isinstance(value, dict):
            several = [(f"{name}[{key!r}]", each) for key, each in value.items()]
        elif isinstance(value, list | tuple):
            several = [(f"{name}[{index}]", each) for index, each in enumerate(value)]
        if not keras.is_bookkeeping(name):
            yield from (
                (way, each)
                for way, each in several
                if keras.is_optimizer(each) and each is not keras.optimizer_of(model)
            )


def warn_of_plain_optimizers(model: Any) -> None:
    """Warn that further optimizers of a model go on plainly, when its own is a joint or centered one from now on."""
    held = {name: keras.inner_optimizer(each) for name, each in optimizers_held_by(model)}
    plain = [name for name, each in held.items() if not (is_joint(each) or is_centered(each))]
    if plain:
        log.warning(
            "%s: what is said here is of model.optimizer. It has further ones that go on as they are: %s. Give each to "
            "the part of the model that it trains: rewriter.rewrite(part, optimizer=%s.Centered(model.%s)).",
            *(model.name, ", ".join(plain), keras.LIBRARY, plain[0]),
        )


def _where(optimizer: Any, model: Any, alive: Iterable[Any]) -> str:
    """Say where an optimizer is held, as a user would write it; empty where no model has it."""
    for holder in (model, *(each for each in alive if isinstance(each, keras.Model))):
        own = getattr(holder, "optimizer", None)
        for name, each in (("optimizer", own), *optimizers_held_by(holder)):
            if keras.is_optimizer(each) and keras.inner_optimizer(each) is optimizer:
                return f" in {holder.name}.{name}"
    return ""


def _weights_of(layer: Any, layout: Layout) -> list[Any]:
    return [getattr(layer, each) for each in ([layout.attribute] if is_merged(layer) else layout.attributes)]


def is_whole_optimizer(value: Any) -> bool:
    """Tell whether something is an optimizer, made to the end, and none around another."""
    return keras.is_optimizer(value) and keras.is_constructed(value) and keras.inner_optimizer(value) is value


def _knows_any(optimizer: Any, weights: Sequence[Sequence[Any]]) -> bool:
    """Tell whether an optimizer has slots for any of some weights, or was told to leave one out of weight decay."""
    several = list(itertools.chain(*weights))
    return slots.has_slots_of(optimizer, several) or weight_decay.leaves_out_any(optimizer, several)


def _can_follow(optimizer: Any) -> bool:
    is_plain = not (is_joint(optimizer) or is_centered(optimizer) or isinstance(optimizer, OutdatedOptimizer))
    return is_plain and slots.is_known(optimizer)


def _trains_whole(optimizer: Any, weights: Sequence[Sequence[Any]]) -> bool:
    """Tell whether an optimizer has slots for no weight without those that are merged with it."""
    known = keras.optimizer_slots(optimizer)
    if known is None:
        return True
    trained = [[place is not None for place in slots.slot_places(optimizer, each, known)] for each in weights]
    return all(all(each) or not any(each) for each in trained)


def _by_key(models: Iterable[Any]) -> dict[Any, Any]:
    """List the variables of some models by the keys by which optimizers know them; of those that are built."""
    return {
        keras.variable_key(None, variable): variable
        for model in models
        if getattr(model, "built", False)
        for variable in model.variables
        if keras.is_variable(variable)
    }
