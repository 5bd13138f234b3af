"""Decides which optimizer a model gets, and what becomes of the state of its present one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rewriter.core import hints
from rewriter.core.errors import OptimizerError
from rewriter.core.keras_packages import CALLED, keras_of
from rewriter.core.layout import layout_of
from rewriter.core.suggestions import closest, did_you_mean

from ..adapters import keras, required
from .centered.optimizer import is_centered, require_centerable
from .joint_momentum import JointMomentum
from .joint_optimizer import BOUNDS, is_joint
from .outcomes import LOST, Outcome
from .rules.by_name import RULES
from .state import slots, warm_start
from .state.replaced_weights import require_up_to_date

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rewriter.core.messages import Message

KEEP = "keep"
CENTERED = "centered"  # center the compiled optimizer, with its state
JOINT = JointMomentum.__name__  # whatever the model has, as far as it can start from that


def is_word(optimizer: Any) -> bool:
    """Tell whether something stands for an optimizer and is none: ``None``, or a word."""
    return optimizer is None or (isinstance(optimizer, str) and optimizer in (KEEP, CENTERED, *RULES))


@dataclass(frozen=True)
class OptimizerChoice:
    """The optimizer a model gets.

    Attributes:
        optimizer: The optimizer; ``None`` where the model has none to keep.
        state_of: The optimizer whose state it goes on with: itself, one that it can start from, or ``None``.
        lines: What is kept, converted and lost; the first line is about the optimizer itself.
        centers: Whether the optimizer is to be centered, once its state is moved.
    """

    optimizer: Any
    state_of: Any
    lines: tuple[Message, ...]
    centers: bool = False

    @property
    def keeps(self) -> bool:
        """Whether the optimizer goes on with its own state."""
        return self.optimizer is not None and self.optimizer is self.state_of

    @property
    def what(self) -> str:
        """What becomes of the optimizer itself, in words."""
        return str(self.lines[0]["what"])

    @property
    def lost(self) -> tuple[Message, ...]:
        """The lines about settings or state that are lost."""
        return tuple(line for line in self.lines if line.kind in LOST)

    @property
    def exact(self) -> bool:
        """Whether the model must train bit for bit as it would unmerged: not under a joint or a centered optimizer."""
        return not (is_joint(self.optimizer) or is_centered(self.optimizer) or self.centers)


def choose_optimizer(
    model: Any, optimizer: Any = None, learning_rate: float | None = None, momentum: float | None = None
) -> OptimizerChoice:
    """Decide which optimizer a rewritten model gets; touches nothing.

    Args:
        model: The model.
        optimizer: As in :func:`rewriter.rewrite`.
        learning_rate: Of the optimizer, where that is ``None`` or a name; of joint momentum that of a compiled SGD, if
            not given.
        momentum: Likewise.

    Raises:
        OptimizerError: ``optimizer`` is none of the choices, or the state of the model's own cannot be kept.
    """
    settings = {"learning_rate": learning_rate, "momentum": momentum}
    given = {name: value for name, value in settings.items() if value is not None}
    if optimizer is None:
        return _choose_default(model, given)
    if is_word(optimizer):
        return _choose_by_name(model, optimizer, given)
    current = keras.optimizer_of(model)
    if not keras.is_optimizer(optimizer):
        raise OptimizerError(
            f"optimizer must be None, 'keep', 'centered', {', '.join(map(repr, RULES))} or an optimizer of "
            f"{keras.NAME}, got "
            f"{optimizer!r} of type {type(optimizer).__module__}.{type(optimizer).__name__}.{_meant(optimizer)}"
        )
    if keras.strategy_of(model) is not keras.strategy_of(optimizer):
        raise OptimizerError(
            f"optimizer= is a {_name(optimizer)} that was made outside the tf.distribute strategy of this model; make "
            "it inside: with strategy.scope(): ..."
        )
    require_up_to_date(optimizer, model)
    # As compile does under mixed_float16, where gradients would vanish without.
    bare, optimizer = optimizer, _scaled_like(current, optimizer)
    if optimizer is current or slots.has_slots_of(optimizer, list(filter(keras.is_variable, model.variables))):
        return _kept(model, optimizer)
    state = keras.optimizer_slots(keras.inner_optimizer(optimizer))
    if state is not None and state.index:
        raise OptimizerError(
            f"optimizer= is a {_name(optimizer)} that is built for other variables than those of this model; "
            "give it one that is new, or the one that trained this model."
        )
    scaled = ", in a LossScaleOptimizer" if optimizer is not bare else ""
    head = Outcome.OPTIMIZER(what=f"{_name(optimizer)}, as given{scaled}")
    return OptimizerChoice(optimizer, optimizer, (head, *_lost_state(model, chosen=True)))


def require_for_layer(model: Any, optimizer: Any) -> None:
    """Raise ``OptimizerError`` unless the state of an optimizer can be kept when a layer that is no model is split."""
    if isinstance(model, keras.Model):
        raise OptimizerError(f"split takes optimizer= for a layer that is no model; {model.name} has its own.")
    if not keras.is_optimizer(optimizer) or is_joint(optimizer):
        raise OptimizerError(
            f"optimizer= must be an optimizer of {keras.NAME} that is not joint, as the split layer has no W* for one; "
            f"got {optimizer!r}."
        )
    require_up_to_date(optimizer, model)
    slots.require_own(optimizer, list(filter(keras.is_variable, model.variables)))


def _choose_own(model: Any) -> OptimizerChoice:
    """Choose the optimizer that a model is compiled with."""
    current = keras.optimizer_of(model)
    if current is None:
        return OptimizerChoice(None, None, (Outcome.OPTIMIZER(what="none to keep, the model is not compiled"),))
    require_up_to_date(current, model)
    if not is_joint(current):
        slots.require_known(current, list(filter(keras.is_variable, model.variables)))
    return _kept(model, current)


def _choose_centered(model: Any) -> OptimizerChoice:
    """Choose the optimizer that a model is compiled with, to be centered."""
    current = keras.optimizer_of(model)
    if current is None:
        raise OptimizerError(
            f"{hints.CENTERED} centers the optimizer that a model is compiled with, and {model.name} is not compiled: "
            "call model.compile(optimizer=..., loss=...) first, or give one, optimizer={keras.LIBRARY}.Centered(...)."
        )
    require_centerable(keras.inner_optimizer(current))
    kept = _choose_own(model)
    what = f"{_name(current)} kept, in centered coordinates; second moments stay as they are"
    lines = (Outcome.OPTIMIZER(what=what), *kept.lines[1:])
    return OptimizerChoice(kept.optimizer, kept.state_of, lines, centers=not is_centered(current))


def _choose_default(model: Any, given: dict[str, Any]) -> OptimizerChoice:
    """Choose a joint optimizer: the one that a model has, or centered joint momentum; none for a layer, no model."""
    if not isinstance(model, keras.Model):
        what = f"none, a layer has none: make one for your training loop, as in {keras.LIBRARY}.JointMomentum()"
        return OptimizerChoice(None, None, (Outcome.OPTIMIZER(what=what),))
    current = keras.optimizer_of(model)
    if (is_joint(current) or is_centered(current)) and not given:
        return _kept(model, keras.optimizer_of(model))
    with keras.strategy_scope(model):
        return _joint(model, given, centers=not is_joint(current) or is_centered(current))


def _choose_joint(model: Any, given: dict[str, Any]) -> OptimizerChoice:
    """Choose joint momentum, by its name: the one that a model has, or one that starts from its SGD, or a new one."""
    current = keras.inner_optimizer(keras.optimizer_of(model))
    if not isinstance(model, keras.Model) or warm_start.is_joint_momentum(current):
        return _choose_default(model, given)
    with keras.strategy_scope(model):
        if is_joint(current) and not given:
            return choose_optimizer(model, JointMomentum())
        return _joint(model, given, centers=False)


def _choose_by_name(model: Any, name: str, given: dict[str, Any]) -> OptimizerChoice:
    """Choose by one of the words that stand for an optimizer, with the settings given where it is a new one."""
    if name == JOINT:
        return _choose_joint(model, given)
    if name in RULES:
        return _choose_rule(model, RULES[name], given)
    return _choose_own(model) if name == KEEP else _choose_centered(model)


def _choose_rule(model: Any, rule: Any, given: dict[str, Any]) -> OptimizerChoice:
    """Choose a rule on whole layers by its class: the one that a model has, or a new one."""
    current = keras.inner_optimizer(keras.optimizer_of(model))
    if type(current) is rule and not given:
        return _kept(model, keras.optimizer_of(model))
    with keras.strategy_scope(model):
        return choose_optimizer(model, rule(**given))


def _meant(given: Any) -> str:
    """Return what was probably meant by something that is no optimizer."""
    if isinstance(given, type):
        return f" Make one: {given.__name__}(...)."
    if not isinstance(given, str):
        return _of_other_keras(given)
    return did_you_mean(closest(given, [KEEP, CENTERED, *RULES])) or (
        f" A name has no settings: make one, as in {keras.NAME}.optimizers.Adam(1e-3) or "
        f"{keras.LIBRARY}.JointMomentum(0.01)."
    )


def _of_other_keras(given: Any) -> str:
    other = keras_of(given)
    if other in {None, keras.NAME}:
        return ""
    ours = any(cls.__module__.startswith("rewriter.") for cls in type(given).__mro__)
    where = keras.LIBRARY if ours else f"{keras.NAME}.optimizers"
    return f" That is one of {CALLED[other]}; make one of {where}."


def choose_standard_optimizer(model: Any) -> OptimizerChoice:
    """Decide which plain Keras optimizer the standard form of a model gets: an SGD for a joint one, else its own."""
    optimizer = keras.optimizer_of(model)
    if optimizer is None:
        return OptimizerChoice(None, None, (Outcome.OPTIMIZER(what="none, the model is not compiled"),))
    if not is_joint(optimizer):
        head = Outcome.OPTIMIZER(what=f"{_name(optimizer)} kept")
        return OptimizerChoice(optimizer, optimizer, (head, *_kept_state(optimizer, model)))
    inner = keras.inner_optimizer(optimizer)
    standard = inner.standard_optimizer()
    if not keras.is_optimizer(standard) or is_joint(standard):
        raise OptimizerError(
            f"{_name(optimizer)}.standard_optimizer must return an optimizer of {keras.NAME} that is not joint, for "
            f"the model in standard form. It returned {standard!r}."
        )
    standard = _scaled_like(optimizer, standard)
    lines = [
        Outcome.OPTIMIZER(what=f"{_name(optimizer)} replaced by {_name(standard)}{_in_common(inner, standard)}"),
        _left_behind(inner, standard),
        Outcome.ITERATIONS_KEPT(count=keras.iterations_of(inner)),
    ]
    if inner.weight_decay:
        rows = "" if inner.decay_bias else "; a split leaves the biases out of it, which an exported file cannot say"
        lines.append(Outcome.SETTING(name="weight_decay", value=_shown(inner.weight_decay), how=f"kept{rows}"))
    return OptimizerChoice(standard, None, tuple(lines))


def _in_common(inner: Any, standard: Any) -> str:
    """Name the settings that the joint optimizer and its standard replacement share, as words to append."""
    rates = [keras.learning_rate_of(keras.inner_optimizer(each)) for each in (inner, standard)]
    same = ["learning rate"] if rates[0] is rates[1] or rates[0] == rates[1] else []
    own, momentum = (getattr(keras.inner_optimizer(each), "momentum", None) for each in (inner, standard))
    same += ["momentum"] if isinstance(own, int | float) and own == momentum else []
    return f" of the same {' and '.join(same)}" if same else ""


def _left_behind(inner: Any, standard: Any) -> Message:
    if isinstance(inner, JointMomentum):
        return Outcome.VELOCITY(what=f"reset, {_name(standard)} starts without")
    names = f"{', '.join(inner.slots)} left behind" if inner.slots else "none"
    how = f"{type(inner).__name__}.standard_optimizer says which optimizer goes on, and how"
    return Outcome.SLOTS(what=f"{names}; {how}")


def _kept(model: Any, optimizer: Any) -> OptimizerChoice:
    slots.require_own(optimizer, list(filter(keras.is_variable, model.variables)), elementwise=not is_joint(optimizer))
    replaced = () if optimizer is keras.optimizer_of(model) else _lost_state(model)
    head = Outcome.OPTIMIZER(what=f"{_name(optimizer)} kept")
    return OptimizerChoice(optimizer, optimizer, (head, *_kept_state(optimizer), *replaced))


def _joint(model: Any, given: dict[str, Any], centers: bool) -> OptimizerChoice:
    """Choose the joint momentum of a model: with the settings given, else those of its SGD, else the defaults."""
    current = keras.optimizer_of(model)
    if is_joint(current) and not warm_start.can_start_from(current):
        raise OptimizerError(
            f"this model trains under {_name(current)}, a rule of your own, and {' and '.join(given)} would be for "
            "joint momentum. Leave out what you gave, and your rule is kept; change its settings in Python, on "
            "model.optimizer."
        )
    if not warm_start.can_start_from(current):
        joint = JointMomentum(**given)
        rate = joint.get_config()["learning_rate"]
        what = f"{_called(centers)}, new, learning rate {_shown(rate)}, momentum {_shown(joint.momentum)}"
        if current is None:
            what += ", for compile(optimizer=model.optimizer, ...)"
            return OptimizerChoice(joint, None, (Outcome.OPTIMIZER(what=what),), centers)
        optimizer = _scaled_like(current, joint)
        lines = (Outcome.OPTIMIZER(what=what), *_lost_settings(current), *_lost_state(model))
        return OptimizerChoice(optimizer, None, lines, centers)
    settings = {**warm_start.settings_from(current), **given}
    optimizer = _scaled_like(current, JointMomentum(**settings))
    return OptimizerChoice(optimizer, current, tuple(_warm_lines(current, settings, given, centers)), centers)


def _called(centers: bool) -> str:
    return f"{'centered ' if centers else ''}{JOINT}"


def _warm_lines(current: Any, settings: dict[str, Any], given: dict[str, Any], centers: bool) -> Iterator[Message]:
    inner = keras.inner_optimizer(current)
    goes_on = isinstance(inner, JointMomentum)
    yield Outcome.OPTIMIZER(what=f"{_name(current)} converted to {_called(centers)}")
    if left := warm_start.left_behind(inner):
        yield Outcome.STATE_LOST(optimizer=_name(current), what=", ".join(left))
    for name, value in settings.items():
        rows = ", from now on on kernel rows only" if name == "weight_decay" and not goes_on else ""
        how = f"{'as given' if name in given else 'kept'}{rows}"
        yield Outcome.SETTING(name=name, value=_shown(value), how=how)
    count = warm_start.velocity_count(inner)
    if not count:
        what = "none yet"
    elif goes_on:
        what = f"{count} slots kept"
    elif warm_start.last_learning_rate(inner):
        what = f"{count} slots converted, divided by the learning rate, to their mean per unit where merged"
    else:
        what = f"{count} slots reset, at a learning rate of 0 they say nothing"
    yield Outcome.VELOCITY(what=what)
    yield Outcome.ITERATIONS_KEPT(count=keras.iterations_of(inner))
    yield from _loss_scale(current)


def _kept_state(optimizer: Any, split_model: Any = None) -> Iterator[Message]:
    """Yield what state is kept; for a model that is split, with the number of slots after it."""
    inner = keras.inner_optimizer(optimizer)
    count = _slot_count(inner) if split_model is None else _split_slot_count(inner, split_model)
    yield Outcome.SLOTS_KEPT(count=count)
    yield Outcome.ITERATIONS_KEPT(count=keras.iterations_of(inner))
    yield from _loss_scale(optimizer)
    if (clipnorm := getattr(inner, "clipnorm", None)) is not None:
        yield Outcome.CLIPNORM_KEPT(value=_shown(clipnorm))


def _lost_settings(current: Any) -> Iterator[Message]:
    """Yield the settings of an optimizer, beside its learning rate, that a new joint momentum does not take over."""
    inner = keras.inner_optimizer(current)
    rate = keras.learning_rate_of(inner)
    left = [_shown(rate)] if isinstance(rate, keras.Schedule) else []
    left += [f"{name} {_shown(value)}" for name in (*BOUNDS, "use_ema") if (value := getattr(inner, name, None))]
    if left:
        yield Outcome.SETTINGS_LOST(optimizer=_name(current), what=", ".join(left))


def _can_keep(model: Any, current: Any) -> bool:
    try:
        choose_optimizer(model, KEEP)
    except OptimizerError:
        return False
    return keras.optimizer_of(model) is current


def _lost_state(model: Any, chosen: bool = False) -> Iterator[Message]:
    """Yield what state of an optimizer is lost, with what would keep it unless the user chose another optimizer."""
    current = keras.optimizer_of(model)
    if current is None:
        return
    inner = keras.inner_optimizer(current)
    count, iterations = _slot_count(inner), keras.iterations_of(inner)
    if count or iterations:
        lost = {"optimizer": _name(current), "what": f"{count} slots and {iterations} iterations"}
        if not chosen and _can_keep(model, current):
            yield Outcome.STATE_LOST_BUT_KEPT_BY(**lost, keep=hints.KEEP_OPTIMIZER)
        else:
            yield Outcome.STATE_LOST(**lost)
    yield from _loss_scale(current)


def _loss_scale(optimizer: Any) -> Iterator[Message]:
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


def _shown(value: Any) -> str:
    if isinstance(value, keras.Schedule):
        return type(value).__name__
    return str(value) if isinstance(value, bool) or not isinstance(value, int | float) else f"{value:.6g}"


def _name(optimizer: Any) -> str:
    inner = keras.inner_optimizer(optimizer)
    is_legacy = keras.legacy is not None and keras.legacy.is_legacy(inner)
    return f"{'legacy ' if is_legacy else 'centered ' if is_centered(inner) else ''}{type(inner).__name__}"


def _scaled_like(wrapper: Any, optimizer: Any) -> Any:
    """Return an optimizer, in a loss scale where another one is in one."""
    return optimizer if keras.loss_scale is None else keras.loss_scale.wrap_like(wrapper, optimizer)
