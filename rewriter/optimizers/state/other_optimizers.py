"""Optimizers beside the model's own that have state for its weights: of a loop, of a part, of a model over its layers.

They follow the weights, as one that is kept does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rewriter.core.layout import is_merged
from rewriter.core.log import log

from ...adapters import keras
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


class OtherOptimizers:
    """The further optimizers that have state for weights of some layers, where that can be moved.

    It can be of Keras's elementwise optimizers that are not centered, and that train all weights of an augmented kernel
    or none. All that such an optimizer trains has to be found, in the model or in another one that is alive.

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
        self._transfers = [
            StateTransfer(optimizer, elsewhere)
            for optimizer in filter(keras.is_optimizer, alive)
            if id(optimizer) not in inner and keras.inner_optimizer(optimizer) is optimizer and _can_follow(optimizer)
            if _trains_whole(optimizer, weights)
            if (elsewhere := _trained_elsewhere(optimizer, model, alive)) is not None
        ]

    def before_merge(self, layer: Any, layout: Layout) -> None:
        """Note that the weights of a layer are about to be merged, in one of its augmented kernels."""
        for transfer in self._transfers:
            transfer.before_merge(layer, layout)

    def before_separate(self, layer: Any, layout: Layout) -> None:
        """Note that an augmented kernel of a layer is about to be taken apart."""
        for transfer in self._transfers:
            transfer.before_separate(layer, layout)

    def move(self) -> None:
        """Move the state of each to the variables that the model has now."""
        for transfer in self._transfers:
            transfer.move(self._model)

    def roll_back(self) -> None:
        """Restore the slots that each had, after layers were changed and changed back."""
        for transfer in self._transfers:
            transfer.roll_back()

    @property
    def lines(self) -> list[Message]:
        """What the log is to say of them."""
        return [
            Outcome.ALSO_KEPT(
                optimizer=type(transfer.optimizer).__name__,
                where=_where(transfer.optimizer, self._model, self._alive),
                count=keras.iterations_of(transfer.optimizer),
            )
            for transfer in self._transfers
        ]


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


def _can_follow(optimizer: Any) -> bool:
    is_plain = not (is_joint(optimizer) or is_centered(optimizer) or isinstance(optimizer, OutdatedOptimizer))
    return is_plain and slots.is_known(optimizer)


def _trains_whole(optimizer: Any, weights: Sequence[Sequence[Any]]) -> bool:
    """Tell whether an optimizer has slots for some weights, and for none without those that are merged with it."""
    known = keras.optimizer_slots(optimizer)
    if known is None:
        return False
    trained = [[place is not None for place in slots.slot_places(optimizer, each, known)] for each in weights]
    return any(map(any, trained)) and all(all(each) or not any(each) for each in trained)


def _trained_elsewhere(optimizer: Any, model: Any, alive: Iterable[Any]) -> list[Any] | None:
    """List the variables that an optimizer trains and that are not in the model; ``None`` where one is not found."""
    known = keras.optimizer_slots(optimizer)
    assert known is not None, "it has slots"  # noqa: S101
    missing = known.index.keys() - {keras.variable_key(optimizer, each) for each in _variables_of(model)}
    found: dict[Any, Any] = {}
    for other in alive if missing else ():
        if isinstance(other, keras.Model) and other.built:
            of_it = {keras.variable_key(optimizer, each): each for each in _variables_of(other)}
            found.update({key: each for key, each in of_it.items() if key in missing})
    return list(found.values()) if found.keys() >= missing else None


def _variables_of(model: Any) -> list[Any]:
    return list(filter(keras.is_variable, model.variables))
