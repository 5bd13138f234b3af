"""Decides which optimizer a model gets, and what becomes of the state of its present one."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rewriter.core import hints
from rewriter.core.errors import ModelError, OptimizerError

from ..adapters import keras
from .centered.optimizer import is_centered, require_centerable
from .joint_momentum import JointMomentum
from .joint_optimizer import is_joint
from .rules.by_name import RULES
from .state import slots, warm_start
from .state.other_optimizers import optimizers_held_by
from .state.outcomes import LOST, Outcome
from .state.replaced_weights import require_up_to_date
from .state.state_outcomes import kept_state, loss_scale_kept, lost_settings, lost_state, name_of, shown
from .wrong_optimizers import meant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rewriter.core.messages import Message

KEEP = "keep"
CENTERED = "centered"  # center the compiled optimizer, with its state
JOINT = JointMomentum.__name__  # whatever the model has, as far as it can start from that


def is_word(optimizer: Any) -> bool:
    """Tell whether something stands for an optimizer and is none: ``None``, or a word."""
    return optimizer is None or _word(optimizer) is not None


def _word(optimizer: Any) -> str | None:
    """Return the word that stands for an optimizer, which may be written in upper or lower case, as Keras's names."""
    by_lower = {word.lower(): word for word in (KEEP, CENTERED, *RULES)}
    return by_lower.get(optimizer.lower()) if isinstance(optimizer, str) else None


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


# Of a model in a file, which keeps the optimizer of a compiled model alone.
NOT_COMPILED = OptimizerChoice(
    None, None, (Outcome.OPTIMIZER(what="none, the model is not compiled: no file of it holds one"),)
)


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
    word = _word(optimizer)
    if word != KEEP:
        _require_at_most_one(model)
    if optimizer is None:
        return _choose_default(model, given)
    if word is not None:
        return _choose_by_name(model, word, given)
    current = keras.optimizer_of(model)
    if not keras.is_optimizer(optimizer):
        raise OptimizerError(
            f"optimizer must be None, 'keep', 'centered', {', '.join(map(repr, RULES))} or an optimizer of "
            f"{keras.NAME}, got {optimizer!r} of type {type(optimizer).__module__}.{type(optimizer).__name__}."
            f"{meant(optimizer, [KEEP, CENTERED, *RULES])}"
        )
    if keras.strategy_of(model) is not keras.strategy_of(optimizer):
        raise OptimizerError(
            f"optimizer= is a {name_of(optimizer)} that was made outside the tf.distribute strategy of this model; "
            "make it inside: with strategy.scope(): ..."
        )
    require_up_to_date(optimizer, model)
    # As compile does under mixed_float16, where gradients would vanish without.
    bare, optimizer = optimizer, _scaled_like(current, optimizer)
    if optimizer is current or slots.has_slots_of(optimizer, _variables_of(model)):
        return _kept(model, optimizer)
    state = keras.optimizer_slots(keras.inner_optimizer(optimizer))
    if state is not None and state.index:
        raise OptimizerError(
            f"optimizer= is a {name_of(optimizer)} that is built for other variables than those of this model; "
            "give it one that is new, or the one that trained this model."
        )
    scaled = ", in a LossScaleOptimizer" if optimizer is not bare else ""
    head = Outcome.OPTIMIZER(what=f"{name_of(optimizer)}, as given{scaled}")
    return OptimizerChoice(optimizer, optimizer, (head, *lost_state(model)))


def several_optimizers_of(model: Any) -> list[Any]:
    """List the optimizers of a model that is compiled with several, as ``WideDeepModel`` is."""
    return [each for name, each in optimizers_held_by(model) if name.startswith("optimizer[")]


def _require_at_most_one(model: Any) -> None:
    """Raise ``OptimizerError`` if a model is compiled with several optimizers, which only ``"keep"`` can go on with."""
    if several := several_optimizers_of(model):
        raise OptimizerError(
            f"{model.name} is compiled with several optimizers: {', '.join(map(name_of, several))}. "
            f"{hints.Argument('optimizer', KEEP)} keeps each with its state; for another, compile it with one first."
        )


def _variables_of(model: Any) -> list[Any]:
    try:
        return list(filter(keras.is_variable, model.variables))
    except ValueError as error:  # a Sequential without inputs
        raise ModelError(
            f"{model.name} has not been built, so it does not list its variables for an optimizer, though its layers "
            f"are: call it once, as in {model.name}(batch), and begin again."
        ) from error


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
        what = "each kept" if several_optimizers_of(model) else "none to keep, the model is not compiled"
        return OptimizerChoice(None, None, (Outcome.OPTIMIZER(what=what),))
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
            "compile it before it is rewritten or saved, or leave this out and compile it afterwards with "
            f"{keras.LIBRARY}.Centered(optimizer)."
        )
    require_centerable(keras.inner_optimizer(current))
    kept = _choose_own(model)
    what = f"{name_of(current)} kept"
    if not is_centered(current):
        what += ", in centered coordinates"
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
        return _choose_rule(model, name, given)
    return _choose_own(model) if name == KEEP else _choose_centered(model)


def _choose_rule(model: Any, name: str, given: dict[str, Any]) -> OptimizerChoice:
    """Choose a rule on whole layers by its name: the one that a model has, or a new one."""
    rule = RULES[name]
    current = keras.inner_optimizer(keras.optimizer_of(model))
    if type(current) is rule and not given:
        return _kept(model, keras.optimizer_of(model))
    with keras.strategy_scope(model):
        settings = rule().get_config()
        if unknown := [f"{hints.Argument(each)}" for each in given if each not in settings]:
            raise OptimizerError(f"{name} takes no {' and no '.join(unknown)}.")
        new = rule(**given)
    choice = choose_optimizer(model, new)
    rate = keras.learning_rate_of(new)
    what = f"{name}, new, learning rate {shown(rate)}{_not_taken_over(current, rate, given)}"
    lost = () if current is None else lost_settings(current, name)
    return replace(choice, lines=(Outcome.OPTIMIZER(what=what), *lost, *choice.lines[1:]))


def _not_taken_over(current: Any, rate: Any, given: dict[str, Any]) -> str:
    """Say of the learning rate of the present optimizer that the new one has another, unless that was asked for.

    A schedule is among the settings that are lost.
    """
    old = None if current is None else keras.learning_rate_of(keras.inner_optimizer(current))
    if current is None or "learning_rate" in given or isinstance(old, keras.Schedule) or shown(old) == shown(rate):
        return ""
    return f"; that of {name_of(current)}, {shown(old)}, is not taken over"


def choose_standard_optimizer(model: Any) -> OptimizerChoice:
    """Decide which plain Keras optimizer the standard form of a model gets: an SGD for a joint one, else its own."""
    optimizer = keras.optimizer_of(model)
    if optimizer is None:
        what = "each kept" if several_optimizers_of(model) else "none, the model is not compiled"
        return OptimizerChoice(None, None, (Outcome.OPTIMIZER(what=what),))
    if not is_joint(optimizer):
        plainly = "; in standard form it is not centered" if is_centered(optimizer) else ""
        head = Outcome.OPTIMIZER(what=f"{name_of(optimizer)} kept{plainly}")
        return OptimizerChoice(optimizer, optimizer, (head, *kept_state(optimizer, model)))
    inner = keras.inner_optimizer(optimizer)
    standard = inner.standard_optimizer()
    if not keras.is_optimizer(standard) or is_joint(standard):
        raise OptimizerError(
            f"{name_of(optimizer)}.standard_optimizer must return an optimizer of {keras.NAME} that is not joint, for "
            f"the model in standard form. It returned {standard!r}."
        )
    standard = _scaled_like(optimizer, standard)
    lines = [
        Outcome.OPTIMIZER(what=f"{name_of(optimizer)} replaced by {name_of(standard)}{_in_common(inner, standard)}"),
        _left_behind(inner, standard),
        Outcome.ITERATIONS_KEPT(count=keras.iterations_of(inner)),
    ]
    if inner.weight_decay:
        rows = "" if inner.decay_bias else "; a split leaves the biases out of it, which an exported file cannot say"
        lines.append(Outcome.SETTING(name="weight_decay", value=shown(inner.weight_decay), how=f"kept{rows}"))
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
        return Outcome.VELOCITY(what=f"reset, {name_of(standard)} starts without")
    names = f"{', '.join(inner.slots)} left behind" if inner.slots else "none"
    how = f"{type(inner).__name__}.standard_optimizer says which optimizer goes on, and how"
    return Outcome.SLOTS(what=f"{names}; {how}")


def _kept(model: Any, optimizer: Any) -> OptimizerChoice:
    slots.require_own(optimizer, list(filter(keras.is_variable, model.variables)), elementwise=not is_joint(optimizer))
    own = keras.optimizer_of(model)
    lost = () if _has_taken_over(optimizer, own) else lost_state(model, functools.partial(_is_possible, model))
    head = Outcome.OPTIMIZER(what=f"{name_of(optimizer)} kept")
    return OptimizerChoice(optimizer, optimizer, (head, *kept_state(optimizer), *lost))


def _has_taken_over(optimizer: Any, own: Any) -> bool:
    """Tell whether an optimizer is a model's own, or goes on with its state: as many steps, and the same slots."""
    one, other = map(keras.inner_optimizer, (optimizer, own))
    return one is other or (type(one) is type(other) and slots.have_same_state(one, other))


def _joint(model: Any, given: dict[str, Any], centers: bool) -> OptimizerChoice:
    """Choose the joint momentum of a model: with the settings given, else those of its SGD, else the defaults."""
    current = keras.optimizer_of(model)
    if is_joint(current) and not warm_start.can_start_from(current):
        raise OptimizerError(
            f"this model trains under {name_of(current)}, a rule of your own, and {' and '.join(given)} would be for "
            "joint momentum. Leave out what you gave, and your rule is kept; change its settings in Python, on "
            "model.optimizer."
        )
    if not warm_start.can_start_from(current):
        joint = JointMomentum(**given)
        rate = joint.get_config()["learning_rate"]
        what = f"{_called(centers)}, new, learning rate {shown(rate)}, momentum {shown(joint.momentum)}"
        if current is None:
            what += ", for compile(optimizer=model.optimizer, ...)"
            return OptimizerChoice(joint, None, (Outcome.OPTIMIZER(what=what),), centers)
        optimizer = _scaled_like(current, joint)
        lines = (
            Outcome.OPTIMIZER(what=f"{what}{_not_taken_over(current, rate, given)}"),
            *lost_settings(current, JOINT),
            *lost_state(model, functools.partial(_is_possible, model)),
        )
        return OptimizerChoice(optimizer, None, lines, centers)
    settings = {**warm_start.settings_from(current), **given}
    optimizer = _scaled_like(current, JointMomentum(**settings))
    return OptimizerChoice(optimizer, current, tuple(_warm_lines(current, settings, given, centers)), centers)


def _called(centers: bool) -> str:
    return f"{'centered ' if centers else ''}{JOINT}"


def _warm_lines(current: Any, settings: dict[str, Any], given: dict[str, Any], centers: bool) -> Iterator[Message]:
    inner = keras.inner_optimizer(current)
    goes_on = isinstance(inner, JointMomentum)
    yield Outcome.OPTIMIZER(what=f"{name_of(current)} converted to {_called(centers)}")
    if left := warm_start.left_behind(inner):
        yield Outcome.STATE_LOST(optimizer=name_of(current), what=", ".join(left))
    for name, value in settings.items():
        rows = ", from now on on kernel rows only" if name == "weight_decay" and not goes_on else ""
        how = f"{'as given' if name in given else 'kept'}{rows}"
        yield Outcome.SETTING(name=name, value=shown(value), how=how)
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
    yield from loss_scale_kept(current)


def _is_possible(model: Any, chosen: hints.Argument) -> bool:
    try:
        choose_optimizer(model, chosen.value)
    except OptimizerError:
        return False
    return True


def _scaled_like(wrapper: Any, optimizer: Any) -> Any:
    """Return an optimizer, in a loss scale where another one is in one."""
    return optimizer if keras.loss_scale is None else keras.loss_scale.wrap_like(wrapper, optimizer)
