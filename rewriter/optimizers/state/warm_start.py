"""Warm start: a joint momentum that goes on with the settings and the velocity of an SGD, or of another joint one.

tf-keras's SGD keeps ``slot ← μ slot - η G`` and adds it to the weights. So the velocity of the rule in
:mod:`rewriter.optimizers.joint_momentum` is ``V = -slot / η``, where η is the learning rate of the last step. An
augmented kernel starts from the mean of that, per unit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rewriter.core.derived_classes import original_class
from rewriter.core.layout import layout_of

from ...adapters import keras
from ..hyperparameters import scalar
from ..joint_momentum import JointMomentum
from ..joint_optimizer import AVERAGING, BOUNDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .slots import SlotSource

_SGD = keras.optimizer_classes("SGD")
_AVERAGE = {"_model_variables_moving_average"}
_VELOCITY = {"momentums", "momentum"}  # the attribute of the current SGD and of ours, the slot of the legacy one


def can_start_from(optimizer: Any) -> bool:
    """Tell whether a joint momentum can go on where an optimizer stopped."""
    return isinstance(keras.inner_optimizer(optimizer), _SGD) or is_joint_momentum(optimizer)


def is_joint_momentum(optimizer: Any) -> bool:
    """Tell whether an optimizer is joint momentum, centered or not, and no rule that somebody made of it."""
    return original_class(type(keras.inner_optimizer(optimizer))) is JointMomentum


def settings_from(optimizer: Any) -> dict[str, Any]:
    """Read the settings that a joint momentum takes from an SGD or another joint momentum."""
    inner = keras.inner_optimizer(optimizer)
    ema = AVERAGING if getattr(inner, "use_ema", False) else ()
    own = ("average", "decay_bias") if isinstance(inner, JointMomentum) else ()
    return {
        "learning_rate": keras.learning_rate_of(inner),
        "momentum": keras.setting_of(inner, "momentum"),
        **({"nesterov": True} if getattr(inner, "nesterov", False) else {}),
        **{name: value for name in (*own, *BOUNDS, *ema) if (value := getattr(inner, name, None)) is not None},
    }


def last_learning_rate(optimizer: Any) -> float:
    """Read the learning rate with which an optimizer made its last step, or will make its first."""
    rate = keras.learning_rate_of(optimizer)
    if not isinstance(rate, keras.Schedule):
        return float(rate)
    return float(rate(keras.ops.convert_to_tensor(max(keras.iterations_of(optimizer) - 1, 0), "int64")))


def velocity_count(optimizer: Any) -> int:
    """Count the slots of an optimizer that hold a velocity; without momentum none does, though tf-keras makes them."""
    if keras.setting_of(optimizer, "momentum") == 0:
        return 0
    slots = keras.optimizer_slots(optimizer)
    return 0 if slots is None else sum(len(values) for name, values in slots.lists.items() if name in _VELOCITY)


def left_behind(optimizer: Any) -> list[str]:
    """Name the slots of an optimizer, a user's subclass of SGD say, that no joint momentum can start from."""
    slots = keras.optimizer_slots(optimizer)
    names = [name for name in slots.lists if name not in {*_VELOCITY, *_AVERAGE}] if slots else []
    return [*names, *keras.state_beside_slots(optimizer)]


def start(optimizer: Any, stopped: Any, sources: Sequence[SlotSource], trainable: Sequence[Any]) -> None:
    """Build a joint momentum and fill its state from what an SGD, or another joint momentum, has.

    Args:
        optimizer: The joint momentum, not built yet.
        stopped: The optimizer it goes on from; it is left as it is.
        sources: For every variable of the model, where its slots in ``stopped`` come from.
        trainable: The trainable variables of the model, in its order.
    """
    # The step count goes on even where there is no velocity yet, so that a schedule does not begin again.
    joint, inner = keras.inner_optimizer(optimizer), keras.inner_optimizer(stopped)
    slots = keras.optimizer_slots(inner)
    keras.copy_iterations(joint, inner)
    if slots is None:
        return
    trained = [source for source in sources if source.trained]
    known = {id(variable) for variable in trainable}
    others = [source.variable for source in trained if id(source.variable) not in known]
    keras.build_slots(joint, [*trainable, *others])
    started = keras.optimizer_slots(joint)
    assert started is not None, "it was built just now"  # noqa: S101
    for name, values in slots.lists.items():
        for source in trained:
            place = started.index[keras.variable_key(joint, source.variable)]
            if name in _VELOCITY:
                started.lists["momentums"][place].assign(_velocity(source, name, values, joint, inner))
            elif name in started.lists:
                started.lists[name][place].assign(source.value(name, values))


def _velocity(source: SlotSource, name: str, slots: Sequence[Any], joint: Any, stopped: Any) -> Any:
    if isinstance(stopped, JointMomentum):
        return source.value(name, slots)
    # The slot of SGD has the rate of the last step in it. At a rate of 0 nothing can be read from it.
    rate = last_learning_rate(stopped)
    velocities = [
        slot / scalar(-rate, slot.dtype) if rate else keras.ops.zeros_like(slot) for slot in source.parts(slots)
    ]
    layout = layout_of(source.variable)
    if layout is None:
        return velocities[0]
    # What was merged already has one slot.
    parts = velocities if len(velocities) == len(layout.parts) else layout.unstack(*velocities)
    return joint.condense("momentums", parts, layout)
