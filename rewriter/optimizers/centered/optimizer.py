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

import functools
import math
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from rewriter.core import hints
from rewriter.core.derived_classes import derived_class, original_class, without
from rewriter.core.errors import OptimizerError, SelectorError
from rewriter.core.layout import layout_of

from ...adapters import CenteredBase, keras
from ...model.selectors import several
from ..hyperparameters import require_number
from ..layer_statistics import LayerStatistics
from ..rule_statistics import ObservingRule, observe_for_rule
from ..state.slots import ELEMENTWISE, require_slots_for
from ..wrong_optimizers import meant
from . import coordinates
from .bias_scale import PERIOD, bias_scale_of, refresh_bias_scales, scales_bias_steps
from .retracing import go_on_centered, trained_models
from .state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...model.observation.inputs import Observer
    from ...model.selectors import Selectors

_STATE = "_rewriter_centered"
# Files of users name this module and the class in it: these are names, not places, and stay when the module moves.
MODULE_IN_FILES = f"{keras.LIBRARY}.centered"
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
    slots. Give it to ``compile`` or to :func:`rewriter.rewrite`; a ``LossScaleOptimizer`` goes around it. A merged
    model that trains with the optimizer already takes its next step in centered coordinates. Variables that are no
    augmented kernels, and layers whose input cannot be known, are trained by the optimizer as it is.
    :func:`rewriter.split` and :func:`rewriter.export` give the plain optimizer back.

    Beside the slots it keeps one number for each feature of a layer's input, and one for the layer; where steps do not
    grow with gradients, as Adam's, two more.

    Args:
        optimizer: An elementwise optimizer of Keras: SGD, Adam and its kin, RMSprop, Adagrad, Lion and others; or a
            :class:`rewriter.JointOptimizer`.
        decay: How much of what was seen before still counts at the next step, in [0, 1].
        include: Selectors of the layers to center, as in :func:`rewriter.plan`; ``None`` means all merged layers.
        exclude: Selectors of the layers to leave out.

    Raises:
        OptimizerError: The optimizer cannot be centered.
        SelectorError: A selector matches no merged layer of a model that trains with the optimizer already, which stays
            as it was. Of a model that is compiled with it later the first step says so.
        ValueError: ``decay`` is not in its range.
    """

    def __new__(
        cls, optimizer: Any = None, decay: float = 0.99, include: Selectors = None, exclude: Selectors = None
    ) -> Any:
        """Center an optimizer; of a class that is derived from this one, make an instance as Python does."""
        if cls is Centered:
            centered = center(optimizer, decay, include, exclude)
            try:
                go_on_centered(centered, _observe_model)
            except SelectorError:
                uncenter(centered)
                raise
            return centered
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        """Do nothing: Python calls it on the optimizer, which is made already."""

    def __repr__(self) -> str:
        """Name the optimizer that is centered, as its own class has the name of that."""
        return f"<centered {original_class(type(self)).__name__} at {id(self):#x}>"

    # By which every format finds this class again, whatever optimizer a class is derived from.
    _rewriter_names_in_files = (f"{MODULE_IN_FILES}.{REGISTERED_NAME}", REGISTERED_NAME)

    def get_config(self) -> dict[str, Any]:
        """Return the settings: the optimizer's class and its own, and those of centering.

        Raises:
            TypeError: A selector is a function, which no file holds.
        """
        settings: State = vars(self)[_STATE]
        for option in ("include", "exclude"):
            if not all(isinstance(each, str) for each in several(getattr(settings, option))):
                raise TypeError(f"{option}= of Centered is a function, which no file holds; give paths instead.")
        optimizer = {
            **keras.class_to_config(original_class(type(self))),
            "config": super().get_config(),  # type: ignore[misc]
        }
        return {
            "optimizer": optimizer,
            "decay": settings.statistics.decay,
            "include": settings.include,
            "exclude": settings.exclude,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """Make a centered optimizer of the settings of :meth:`get_config`."""
        # Not as Keras reads an optimizer: outside of eager mode that would make a legacy one.
        optimizer = keras.class_from_config(config["optimizer"], custom_objects)
        inner = optimizer.from_config(config["optimizer"]["config"])
        uncenter(inner)  # one that centers itself does it its own way
        return center(inner, config["decay"], config["include"], config["exclude"])

    def _rewriter_build_statistics(self, variables: Sequence[Any]) -> None:
        """Make the sums and numbers of the layers whose kernels are trained, each once."""
        _tell_of_nothing(self, variables)
        observe(self, variables)

    def _rewriter_begin_step(self, variables: Sequence[Any]) -> None:
        """Share the sums over the replicas, so that all take the same step."""
        state: State = vars(self)[_STATE]
        _tell_of_nothing(self, variables)  # where it trained already, it is not built anew
        if keras.optimizer_slots(self) is not None:
            require_slots_for(self, variables)
        if not state.is_resolved:
            for model in trained_models(self):
                state.resolve(self, model)
            if not state.is_resolved:
                raise OptimizerError(
                    f"this centered {original_class(type(self)).__name__} has include= or exclude=, and no model is "
                    "compiled with it whose layers these could choose. Compile the model with it, or give it to "
                    "rewriter.rewrite(model, optimizer=...)."
                )
        state.statistics.observers.warn_of_uncalled(self, variables, state.left_out or ())
        state.statistics.share()

    def _rewriter_twin_of(self, variable: Any) -> Any:
        """Return the scalar whose gradient is ``[x - m, 1]ᵀ dy``, ``None`` where there is none."""
        observer = observer_of(self, variable)
        return None if observer is None else observer.twin

    def _rewriter_is_whole(self, gradient: Any, variable: Any) -> bool:
        """Tell whether a gradient has come through the calls of the layer alone: not from a penalty of the weights."""
        observer = observer_of(self, variable)
        graphs = keras.graphs
        return observer is not None and graphs is not None and graphs.is_sum_of(gradient, observer.products)

    def _rewriter_changed_gradient(self, gradient: Any, variable: Any) -> Any:
        """Return ``(G_W - m ⊗ G_b, G_b)`` for an augmented kernel whose input is known, any other gradient as it is."""
        observer = observer_of(self, variable)
        return gradient if observer is None else coordinates.changed_gradient(observer, gradient)

    def _rewriter_change_step(self, gradient: Any, variable: Any, step: Callable[[], None]) -> None:
        """Take the step, and subtract ``mᵀ ΔW`` from the bias of an augmented kernel whose input is known."""
        observer = observer_of(self, variable)
        if observer is None or self._rewriter_corrects_step(variable):
            step()
            return
        rows = observer.layout.bias_rows
        correction = functools.partial(self._rewriter_to_subtract, observer)
        fused = None if gradient is None else keras.fused
        if fused is not None and fused.velocity_step(self, gradient, variable, rows, correction):
            return
        with keras.corrected_step(variable, rows, correction, only_adds=self._rewriter_adds_its_steps):
            step()

    def _rewriter_to_subtract(self, observer: Observer, moved: Any) -> Any:
        moved = keras.ops.convert_to_tensor(moved)
        return coordinates.to_subtract(observer, moved, bias_scale_of(self, observer, moved.dtype))

    def _rewriter_corrects_step(self, variable: Any) -> bool:
        """Tell whether the optimizer moves the bias of a variable for these coordinates by itself."""
        corrects = getattr(super(), "_rewriter_corrects_step", None)
        return corrects is not None and bool(corrects(variable))

    @property
    def _rewriter_period(self) -> int:
        return math.lcm(getattr(super(), "_rewriter_period", 1), PERIOD if scales_bias_steps(self) else 1)

    @property
    def _rewriter_adds_its_steps(self) -> bool:
        """Whether the optimizer only adds to a variable or subtracts from it, as Keras's elementwise ones do."""
        return original_class(type(self)) in ELEMENTWISE

    def _rewriter_end_step(self, variables: Sequence[Any], steps: Any) -> None:
        """Compute anew what scales the bias steps, now and then, and let what was seen before weigh less."""
        observers = [observer_of(self, variable) for variable in variables]
        pairs = zip(variables, observers, strict=True)
        refresh_bias_scales(self, [(variable, observer) for variable, observer in pairs if observer is not None], steps)
        vars(self)[_STATE].statistics.forget()


def observe(optimizer: Any, variables: Sequence[Any]) -> None:
    """Have a centered optimizer add up what the layers of some variables see, and save that after all else.

    What a rule asks for itself comes before, always: files and layers know these by their order.
    """
    if isinstance(optimizer, ObservingRule):
        observe_for_rule(optimizer, variables)
    statistics: LayerStatistics = vars(optimizer)[_STATE].statistics
    keras.put_last(optimizer, statistics.build(optimizer, variables, True, scales_bias_steps(optimizer)))


def _tell_of_nothing(optimizer: Any, variables: Sequence[Any]) -> None:
    """Warn, once, where a centered optimizer trains no merged layer; a joint optimizer says so itself."""
    state: State = vars(optimizer)[_STATE]
    nothing = variables and not (state.statistics.observers.of or any(map(layout_of, variables)))
    if nothing and not (state.is_told or hasattr(optimizer, "update_layer")):
        state.is_told = True
        warnings.warn(
            f"this centered {original_class(type(optimizer)).__name__} was given {len(variables)} variables and none "
            "of them is an augmented kernel, so it centers nothing. Call rewriter.rewrite(model, optimizer=...) "
            f"before training; where that merged nothing, {hints.PLAN} says why.",
            stacklevel=4,
        )


def _observe_model(optimizer: Any, model: Any) -> None:
    variables = keras.trained_variables(model)
    if any(map(layout_of, variables)):
        vars(optimizer)[_STATE].resolve(optimizer, model)
        observe(optimizer, variables)


def state_of(optimizer: Any) -> State | None:
    """Return what a centered optimizer has beside its slots, ``None`` for any other optimizer."""
    return vars(optimizer)[_STATE] if isinstance(optimizer, Centered) else None


def observer_of(optimizer: Any, variable: Any) -> Observer | None:
    """Return what a centered optimizer keeps of an augmented kernel that it centers, ``None`` for all others."""
    state = state_of(optimizer)
    if state is None or (state.left_out and keras.variable_key(optimizer, variable) in state.left_out):
        return None
    return state.statistics.of(optimizer, variable)


def mean_input(optimizer: Any, variable: Any) -> Any:
    """Return the mean of what each kernel row of a centered variable reads, and a zero, of shape ``(1, rows + 1)``.

    ``None`` where that is no row: no layer's input is known, or units read different features, or there are more bias
    rows than one.
    """
    observer = observer_of(optimizer, variable)
    if observer is None or observer.flow.by_unit or observer.biases > 1:
        return None
    if observer.reads_features:
        return observer.padded_mean(variable.dtype)
    above = observer.flow.above_biases(observer.mean(variable.dtype), 1)
    return keras.ops.concatenate([above, keras.ops.zeros((1, 1), variable.dtype)], axis=1)


def center(optimizer: Any, decay: float = 0.99, include: Selectors = None, exclude: Selectors = None) -> Any:
    """Make an optimizer take its steps in centered coordinates, in place, as :class:`Centered` does; returns it."""
    require_number("decay", decay, 0, 1)
    require_centerable(optimizer)
    if isinstance(optimizer, Centered):
        raise OptimizerError(
            f"this {type(optimizer).__name__} is centered already, and its settings stay. Center a new one."
        )
    _attach(optimizer, State(LayerStatistics(decay), include, exclude))
    return optimizer


def require_centerable(optimizer: Any) -> None:
    """Raise ``OptimizerError`` unless an optimizer can take its steps in centered coordinates."""
    if not keras.is_optimizer(optimizer) or (keras.legacy is not None and keras.legacy.is_legacy(optimizer)):
        raise OptimizerError(
            f"Centered takes a current optimizer of {keras.NAME}, got {optimizer!r}.{meant(optimizer, by='Centered')}"
        )
    if keras.inner_optimizer(optimizer) is not optimizer:
        raise OptimizerError(
            "a LossScaleOptimizer goes around a centered optimizer, and not inside it: "
            f"LossScaleOptimizer({keras.LIBRARY}.Centered(optimizer))."
        )
    if why := getattr(optimizer, "uncentered", ""):
        raise OptimizerError(f"{type(optimizer).__name__} is not to be centered: {why}. Give it as it is.")
    for name, why in _REFUSED.items():
        if isinstance(optimizer, keras.optimizer_classes(name)):
            raise OptimizerError(f"{name} cannot be centered: {why}. Take Adam, for example.")


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
    keras.drop_variables(inner, state.statistics.variables)
    keras.set_class(inner, without(type(inner), Centered))
    del vars(inner)[_STATE]
    return Suspended(inner, state)


def center_again(suspended: Suspended | None) -> None:
    """Make an optimizer centered as it was before :func:`uncenter`, with what it had kept of inputs."""
    if suspended is not None:
        _attach(*suspended)
        keras.put_last(suspended.optimizer, suspended.state.statistics.variables)


def is_centered(optimizer: Any) -> bool:
    """Tell whether an optimizer takes its steps in centered coordinates, also inside a ``LossScaleOptimizer``."""
    return isinstance(keras.inner_optimizer(optimizer), Centered)


def kept_of_inputs(optimizer: Any, variable: Any) -> list[Any]:
    """List the variables in which a centered optimizer keeps what it needs of the inputs of an augmented kernel."""
    observer = observer_of(optimizer, variable)
    return [] if observer is None else observer.variables


def settings_of(optimizer: Any) -> dict[str, Any]:
    """Return what :func:`center` was given for an optimizer; nothing for one that is not centered."""
    state = state_of(keras.inner_optimizer(optimizer))
    if state is None:
        return {}
    return {"decay": state.statistics.decay, "include": state.include, "exclude": state.exclude}


def copy_means(optimizer: Any, other: Any, variables: Sequence[Any]) -> None:
    """Let a centered optimizer go on with what another one has kept of the inputs of some variables."""
    for variable in variables:
        pairs = zip(kept_of_inputs(optimizer, variable), kept_of_inputs(other, variable), strict=False)
        for kept, of_other in pairs:
            kept.assign(of_other)


class Suspended(NamedTuple):
    """An optimizer that was centered, with what it had beside its slots."""

    optimizer: Any
    state: State


def _attach(optimizer: Any, state: State) -> None:
    object.__setattr__(optimizer, _STATE, state)
    keras.set_class(optimizer, derived_class(Centered, type(optimizer)))


# The current format imports this module by the public name, and the legacy ones look up the registered name. A loss
# scale looks up the last part of the public name, so that is the same, and not one that a user's class may have.
globals()[REGISTERED_NAME] = Centered
keras.register(Centered, REGISTERED_NAME)
