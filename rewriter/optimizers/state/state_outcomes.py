"""What is said of the state and settings of an optimizer: what is kept, and what is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rewriter.core import hints
from rewriter.core.layout import layout_of
from rewriter.core.tables import counted

from ...adapters import keras, required
from ..centered.optimizer import is_centered
from ..joint_optimizer import BOUNDS
from . import slots
from .outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rewriter.core.hints import Argument
    from rewriter.core.messages import Message


def kept_state(optimizer: Any, split_model: Any = None) -> Iterator[Message]:
    """Yield what state is kept; for a model that is split, with the number of slots after it."""
    inner = keras.inner_optimizer(optimizer)
    count = _slot_count(inner) if split_model is None else _split_slot_count(inner, split_model)
    yield Outcome.SLOTS_KEPT(count=count)
    yield Outcome.ITERATIONS_KEPT(count=keras.iterations_of(inner))
    yield from loss_scale_kept(optimizer)
    if (clipnorm := getattr(inner, "clipnorm", None)) is not None:
        plainly = Outcome.SETTING(name="clipnorm", value=shown(clipnorm), how="kept")
        yield Outcome.CLIPNORM_KEPT(value=shown(clipnorm)) if split_model is None else plainly


def lost_settings(current: Any, new: str) -> Iterator[Message]:
    """Yield the settings of an optimizer, beside its learning rate, that a new one of some name does not take over."""
    inner = keras.inner_optimizer(current)
    rate = keras.learning_rate_of(inner)
    left = [shown(rate)] if isinstance(rate, keras.Schedule) else []
    left += [f"{name} {shown(value)}" for name in (*BOUNDS, "use_ema") if (value := getattr(inner, name, None))]
    if left:
        yield Outcome.SETTINGS_LOST(optimizer=name_of(current), what=", ".join(left), new=new)


def lost_state(model: Any, is_possible: Callable[[Argument], bool] = lambda _: False) -> Iterator[Message]:
    """Yield what state of a model's optimizer is lost, with the arguments that would keep it and are possible."""
    current = keras.optimizer_of(model)
    if current is None:
        return
    inner = keras.inner_optimizer(current)
    count, iterations = _slot_count(inner), keras.iterations_of(inner)
    if count or iterations:
        lost = {
            "optimizer": name_of(current),
            "what": f"{counted(count, 'slot')} and {counted(iterations, 'iteration')}",
        }
        if is_possible(hints.CENTERED):
            yield Outcome.STATE_LOST_BUT_KEPT_OR_CENTERED(**lost, keep=hints.KEEP_OPTIMIZER, center=hints.CENTERED)
        elif is_possible(hints.KEEP_OPTIMIZER):
            yield Outcome.STATE_LOST_BUT_KEPT_BY(**lost, keep=hints.KEEP_OPTIMIZER)
        else:
            yield Outcome.STATE_LOST(**lost)
    yield from loss_scale_kept(current)


def loss_scale_kept(optimizer: Any) -> Iterator[Message]:
    """Yield what becomes of the loss scale that an optimizer is in, if it is in one."""
    if keras.inner_optimizer(optimizer) is not optimizer:
        yield Outcome.LOSS_SCALE_KEPT(scale=required(keras.loss_scale, "a loss scale").scale_of(optimizer))


def _slot_count(inner: Any) -> int:
    state = keras.optimizer_slots(inner)
    return 0 if state is None else sum(len(slots) for slots in state.lists.values())


def _split_slot_count(inner: Any, model: Any) -> int:
    """Count the slots there are once each of an augmented kernel's is split as the kernel is."""
    state = keras.optimizer_slots(inner)
    if state is None:
        return 0
    variables = list(filter(keras.is_variable, model.variables))
    places = slots.slot_places(inner, variables, state)
    parts = {
        place: len(layout.parts) if (layout := layout_of(variable)) else 1
        for variable, place in zip(variables, places, strict=True)
        if place is not None
    }
    return sum(parts.get(place, 1) for of_all in state.lists.values() for place in range(len(of_all)))


def shown(value: Any) -> str:
    """Write a setting: of a schedule its class."""
    if isinstance(value, keras.Schedule):
        return type(value).__name__
    return str(value) if isinstance(value, bool) or not isinstance(value, int | float) else f"{value:.6g}"


def name_of(optimizer: Any) -> str:
    """Name an optimizer, with what is to be known of its kind: ``"centered Adam"``."""
    inner = keras.inner_optimizer(optimizer)
    is_legacy = keras.legacy is not None and keras.legacy.is_legacy(inner)
    return f"{'legacy ' if is_legacy else 'centered ' if is_centered(inner) else ''}{type(inner).__name__}"
