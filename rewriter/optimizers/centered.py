"""Centered coordinates: any elementwise optimizer, as if the inputs of each layer had no mean.

With ``m`` the mean of a layer's inputs, ``x W + b = (x - m) W + b'`` where ``b' = b + mᵀ W``. The function is the same.
The gradient of ``(W, b')`` is ``(G_W - m ⊗ G_b, G_b)``, and a step ``(ΔW, Δb')`` found there is ``(ΔW, Δb' - mᵀ ΔW)``
here. It mixes kernel and bias, so only an optimizer that sees both can take it. The change takes away the largest
eigenvalue of the inputs' second moment, which after ReLU or with raw features is most of the ill-conditioning.

``m = S / n``: each call in training adds the sum of its inputs to ``S`` and their number to ``n``, and after each step
both are multiplied by ``decay``. With batches of one size that is the bias-corrected running mean.

Sources: LeCun, Bottou, Orr, Müller, *Efficient BackProp* (1998); Schraudolph, *Centering neural network gradient
factors* (1998); Wiesler, Richard, Schlüter, Ney, *Mean-normalized stochastic gradient for large-scale deep learning*
(2014).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from rewriter.adapters import CenteredBase, keras
from rewriter.core.derived_classes import derived_class, original_class, without
from rewriter.core.errors import OptimizerError
from rewriter.core.layout import augmented_kernels, is_merged, layout_of
from rewriter.model.input_observation import Observer, Observers
from rewriter.model.selectors import select, several
from rewriter.model.walk import locate_layers
from rewriter.optimizers.hyperparameters import require_number
from rewriter.optimizers.state.slots import ELEMENTWISE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rewriter.model.selectors import Selectors

_STATE = "_rewriter_centered"
# Files of users name this module and the class in it: these are names, not places, and stay when the module moves.
MODULE_IN_FILES = "rewriter.centered"
REGISTERED_NAME = "rewriter>Centered"
# What cannot be taken in other coordinates, and why.
_REFUSED = {
    "Ftrl": "it sets weights absolutely, and would undo each correction of a bias",
    "Adafactor": "it is not elementwise: its slots are means over rows and columns",
}


class Centered(CenteredBase):
    """An optimizer in centered coordinates: it trains as if the inputs of each merged layer had no mean.

    ``Centered(optimizer)`` is the optimizer itself, changed in place: its class is now one derived from its own and
    from this one. So clipping, weight decay, schedules, averages and the count of steps are its own, and so are its
    slots. Give it to ``compile`` or to :func:`rewriter.rewrite`; a ``LossScaleOptimizer`` goes around it. Variables
    that are no augmented kernels, and layers whose input cannot be known, are trained by the optimizer as it is.
    :func:`rewriter.split` and :func:`rewriter.export` give the plain optimizer back.

    Beside the slots it keeps one number for each feature of a layer's input, and one for the layer.

    Args:
        optimizer: An elementwise optimizer of tf-keras: SGD, Adam and its kin, RMSprop, Adagrad, Lion and others; or a
            :class:`rewriter.JointOptimizer`.
        decay: How much of what was seen before still counts at the next step, in [0, 1].
        include: Selectors of the layers to center, as in :func:`rewriter.plan`; ``None`` means all merged layers.
        exclude: Selectors of the layers to leave out.

    Raises:
        OptimizerError: The optimizer cannot be centered.
        ValueError: ``decay`` is not in its range.
    """

    def __new__(
        cls, optimizer: Any = None, decay: float = 0.99, include: Selectors = None, exclude: Selectors = None
    ) -> Any:
        """Center an optimizer; of a class that is derived from this one, make an instance as Python does."""
        if cls is Centered:
            return center(optimizer, decay, include, exclude)
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        """Do nothing: Python calls it on the optimizer, which is made already."""

    # By which every format finds this class again, whatever optimizer a class is derived from.
    _rewriter_names_in_files = (f"{MODULE_IN_FILES}.Centered", REGISTERED_NAME)

    def get_config(self) -> dict[str, Any]:
        """Return the settings: the optimizer's class and its own, and those of centering.

        Raises:
            TypeError: A selector is a function, which no file holds.
        """
        settings = vars(self)[_STATE]
        for option in ("include", "exclude"):
            if not all(isinstance(each, str) for each in several(getattr(settings, option))):
                raise TypeError(f"{option}= of Centered is a function, which no file holds; give paths instead.")
        optimizer = {
            **keras.class_to_config(original_class(type(self))),
            "config": super().get_config(),  # type: ignore[misc]
        }
        return {
            "optimizer": optimizer,
            "decay": settings.decay,
            "include": settings.include,
            "exclude": settings.exclude,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """Make a centered optimizer of the settings of :meth:`get_config`."""
        # Not as Keras reads an optimizer: outside of eager mode that would make a legacy one.
        optimizer = keras.class_from_config(config["optimizer"], custom_objects)
        inner = optimizer.from_config(config["optimizer"]["config"])
        return center(inner, config["decay"], config["include"], config["exclude"])

    def _rewriter_build_statistics(self, variables: Sequence[Any]) -> None:
        """Make the sums and numbers of the layers whose kernels are trained, each once."""
        _observe(self, variables)

    def _rewriter_begin_step(self) -> None:
        """Share the sums over the replicas, so that all take the same step."""
        state: State = vars(self)[_STATE]
        if state.left_out is None and (state.include is not None or state.exclude is not None):
            raise OptimizerError(
                f"this centered {original_class(type(self)).__name__} has include= or exclude=, and does not know the "
                "model's layers. Give it to the model with rewriter.rewrite(model, optimizer=...)."
            )
        observers = state.observers
        keras.share_over_replicas([observer.seen for observer in observers.of.values()])

    def _rewriter_twin_of(self, variable: Any) -> Any:
        """Return the scalar whose gradient is ``[x - m, 1]ᵀ dy``, ``None`` where there is none."""
        observer = _observer_of(self, variable)
        return None if observer is None else observer.twin

    def _rewriter_is_whole(self, gradient: Any, variable: Any) -> bool:
        """Tell whether a gradient has come through the calls of the layer alone: not from a penalty of the weights."""
        observer = _observer_of(self, variable)
        graphs = keras.graphs
        return observer is not None and graphs is not None and graphs.is_sum_of(gradient, observer.products)

    def _rewriter_changed_gradient(self, gradient: Any, variable: Any) -> Any:
        """Return ``(G_W - m ⊗ G_b, G_b)`` for an augmented kernel whose input is known, any other gradient as it is."""
        observer = _observer_of(self, variable)
        if observer is None:
            return gradient
        layout, mean = observer.layout, _spread(observer, gradient.dtype)
        kernel, bias = gradient[layout.kernel_rows], gradient[layout.bias_rows]
        beside = mean if _is_of_units(observer) else keras.ops.transpose(mean)
        return keras.ops.concatenate([kernel - beside * bias, bias], axis=0)

    def _rewriter_change_step(self, variable: Any, step: Callable[[], None]) -> None:
        """Take the step, and subtract ``mᵀ ΔW`` from the bias of an augmented kernel whose input is known."""
        observer = _observer_of(self, variable)
        if observer is None:
            step()
            return
        layout, mean = observer.layout, _spread(observer, variable.dtype)
        nothing = keras.ops.zeros((1, layout.shape[0] - layout.kernel_rows.stop), variable.dtype)

        def correction(moved: Any) -> Any:
            moved = keras.ops.convert_to_tensor(moved)
            if _is_of_units(observer):
                return mean * keras.ops.sum(moved[layout.kernel_rows], axis=0, keepdims=True)
            # With zeros beside the bias, as XLA would copy a slice before it multiplies.
            return keras.ops.matmul(keras.ops.concatenate([mean, nothing], axis=1), moved)

        if self._rewriter_adds_its_steps:
            with keras.corrected_additions(variable, layout.bias_rows, correction):
                step()
        else:
            # In one product with the difference: as that of two products it would be a thousand times less exact.
            before = keras.ops.convert_to_tensor(variable)
            step()
            moved = keras.ops.convert_to_tensor(variable) - before
            keras.subtract_from_rows(variable, layout.bias_rows, correction(moved))

    @property
    def _rewriter_adds_its_steps(self) -> bool:
        """Whether the optimizer only adds to a variable or subtracts from it, as tf-keras's elementwise ones do."""
        return original_class(type(self)) in ELEMENTWISE

    def _rewriter_end_step(self) -> None:
        """Let what was seen before weigh less."""
        state: State = vars(self)[_STATE]
        for observer in state.observers.of.values():
            observer.products.clear()
            observer.seen.assign(state.decay * keras.ops.convert_to_tensor(observer.seen), read_value=False)


def _observe(optimizer: Any, variables: Sequence[Any]) -> None:
    """Have what the layers of some variables see added up, in variables that the optimizer saves after all others."""
    state: State = vars(optimizer)[_STATE]
    observers, keys = state.observers, [keras.variable_key(optimizer, variable) for variable in variables]
    for variable, key in zip(variables, keys, strict=True):
        layout = layout_of(variable)
        if layout is not None and layout.flow is not None and key not in observers.of:
            seen = keras.statistic_like(variable, "inputs", (layout.flow.features + 1,))
            observers.add(variable, key, Observer(layout, seen, keras.twin_of(variable)))
    # In the order of the variables, as files restore them by position.
    keras.put_last(optimizer, [observers.of[key].seen for key in keys if key in observers.of])


def _observer_of(optimizer: Any, variable: Any) -> Observer | None:
    if not isinstance(optimizer, Centered):
        return None
    state: State = vars(optimizer)[_STATE]
    key = keras.variable_key(optimizer, variable)
    return None if key in (state.left_out or ()) else state.observers.of.get(key)


def _spread(observer: Observer, dtype: Any) -> Any:
    """Return the mean of a layer's inputs as a row, one number for each kernel row, or for each unit."""
    assert observer.layout.flow is not None, "only a layer whose input is known is observed"  # noqa: S101
    return observer.layout.flow.spread(observer.mean(dtype))


def _is_of_units(observer: Observer) -> bool:
    return bool(observer.layout.flow and observer.layout.flow.copies)


@dataclass
class State:
    """What a centered optimizer has beside its slots.

    Attributes:
        observers: What its layers saw.
        decay: How much of that still counts at the next step.
        include: Selectors of the layers to center, or ``None``.
        exclude: Selectors of the layers to leave out, or ``None``.
        left_out: The keys of the augmented kernels that are not to be centered; ``None`` before that is resolved.
    """

    observers: Observers
    decay: float
    include: Selectors
    exclude: Selectors
    left_out: frozenset[Any] | None = None


def center(optimizer: Any, decay: float = 0.99, include: Selectors = None, exclude: Selectors = None) -> Any:
    """Make an optimizer take its steps in centered coordinates, in place, as :class:`Centered` does; returns it."""
    require_number("decay", decay, 0, 1)
    require_centerable(optimizer)
    if isinstance(optimizer, Centered):
        raise OptimizerError(f"this {type(optimizer).__name__} is centered already.")
    _attach(optimizer, State(Observers(), decay, include, exclude))
    return optimizer


def require_centerable(optimizer: Any) -> None:
    """Raise ``OptimizerError`` unless an optimizer can take its steps in centered coordinates."""
    if not keras.is_optimizer(optimizer) or (keras.legacy is not None and keras.legacy.is_legacy(optimizer)):
        raise OptimizerError(f"Centered takes a current optimizer of tf_keras, got {optimizer!r}.")
    if keras.inner_optimizer(optimizer) is not optimizer:
        raise OptimizerError(
            "a LossScaleOptimizer goes around a centered optimizer, and not inside it: "
            "LossScaleOptimizer(rewriter.Centered(optimizer))."
        )
    for name, why in _REFUSED.items():
        if isinstance(optimizer, keras.optimizer_classes(name)):
            raise OptimizerError(f"{name} cannot be centered: {why}. Take Adam, for example.")


def start_from(optimizer: Any, model: Any, look: Callable[[], None]) -> None:
    """Let a centered optimizer begin with the means of some inputs, and take its first moments there.

    Args:
        optimizer: The optimizer, just centered.
        model: The model that it trains.
        look: Calls the model on the inputs, with all its layers observed.
    """
    inner = keras.inner_optimizer(optimizer)
    look()
    slots = keras.optimizer_slots(inner)
    if slots is None:
        return
    for variable in keras.trained_variables(model):
        place = slots.index.get(keras.variable_key(inner, variable))
        for name in _FIRST_MOMENTS & slots.lists.keys():
            if place is not None and _observer_of(inner, variable) is not None:
                slot = slots.lists[name][place]
                slot.assign(centered_slot(inner, name, variable, slot))


def choose_layers(optimizer: Any, model: Any) -> None:
    """Resolve the selectors of a centered optimizer, and have the layers of a model that it centers observed.

    Args:
        optimizer: An optimizer; one that is not centered is left as it is.
        model: The model that it trains, rewritten.

    Raises:
        SelectorError: A selector matches no merged layer.
    """
    inner = keras.inner_optimizer(optimizer)
    if not isinstance(inner, Centered):
        return
    state: State = vars(inner)[_STATE]
    merged = [found for found in locate_layers(model) if is_merged(found.layer)]
    if merged:
        chosen = select(merged, state.include, state.exclude).chosen
        kernels = [
            kernel for found in merged if id(found.layer) not in chosen for kernel in augmented_kernels(found.layer)
        ]
        state.left_out = frozenset(keras.variable_key(inner, kernel) for kernel in kernels)
    _observe(inner, keras.trained_variables(model))


def uncenter(optimizer: Any) -> Suspended | None:
    """Give an optimizer back the class that it had before :func:`center`, in place, without what it kept of inputs.

    Its slots stay in centered coordinates: :func:`uncentering` and :func:`centered_slot` change these.

    Returns:
        What :func:`center_again` needs; ``None`` for an optimizer that is not centered.
    """
    inner = keras.inner_optimizer(optimizer)
    if not isinstance(inner, Centered):
        return None
    state: State = vars(inner)[_STATE]
    keras.drop_variables(inner, [observer.seen for observer in state.observers.of.values()])
    keras.set_class(inner, without(type(inner), Centered))
    del vars(inner)[_STATE]
    return Suspended(inner, state)


def center_again(suspended: Suspended | None) -> None:
    """Make an optimizer centered as it was before :func:`uncenter`, with what it had kept of inputs."""
    if suspended is not None:
        _attach(*suspended)
        seen = [observer.seen for observer in suspended.state.observers.of.values()]
        keras.put_last(suspended.optimizer, seen)


def is_centered(optimizer: Any) -> bool:
    """Tell whether an optimizer takes its steps in centered coordinates, also inside a ``LossScaleOptimizer``."""
    return isinstance(keras.inner_optimizer(optimizer), Centered)


def seen_by(optimizer: Any, variable: Any) -> list[Any]:
    """List the variable in which a centered optimizer keeps what the layer of an augmented kernel saw, if it does."""
    observer = _observer_of(optimizer, variable)
    return [] if observer is None else [observer.seen]


class Suspended(NamedTuple):
    """An optimizer that was centered, with what it had beside its slots."""

    optimizer: Any
    state: State


def _attach(optimizer: Any, state: State) -> None:
    object.__setattr__(optimizer, _STATE, state)
    keras.set_class(optimizer, derived_class(Centered, type(optimizer)))


# The slots that are sums or means of gradients, and so change with the coordinates; second moments stay as they are.
_FIRST_MOMENTS = {"momentums", "_momentums", "_m"}


def uncentering(optimizer: Any, kernel: Any) -> Callable[[str, Any], Any]:
    """Return what takes a slot of an augmented kernel into the coordinates of the weights, ``v_W + m ⊗ v_b``.

    It takes the slot's name and the slot, with the mean of this moment. Slots of an optimizer that is not centered, and
    second moments, it returns as they are.

    Args:
        optimizer: The optimizer.
        kernel: The augmented kernel.
    """
    observer = _observer_of(optimizer, kernel)
    return lambda name, slot: _moved_slot(observer, name, slot, 1)


def centered_slot(optimizer: Any, name: str, kernel: Any, slot: Any) -> Any:
    """Return a slot of an augmented kernel in the coordinates in which its optimizer takes its steps."""
    return _moved_slot(_observer_of(optimizer, kernel), name, slot, -1)


def _moved_slot(observer: Observer | None, name: str, slot: Any, sign: int) -> Any:
    if observer is None or name not in _FIRST_MOMENTS:
        return slot
    slot, layout, mean = keras.ops.convert_to_tensor(slot), observer.layout, _spread(observer, slot.dtype)
    beside = mean if _is_of_units(observer) else keras.ops.transpose(mean)
    of_kernel, of_bias = slot[layout.kernel_rows], slot[layout.bias_rows]
    return keras.ops.concatenate([of_kernel + sign * beside * of_bias, of_bias], axis=0)


# The legacy formats look up the registered name.
keras.register(Centered, REGISTERED_NAME)
