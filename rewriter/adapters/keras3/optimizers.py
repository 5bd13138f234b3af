"""Optimizers: their settings, how many steps they have made, and what Keras saves of them."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import keras

from ..records import Replaced
from . import ops
from .classes import is_sparse
from .layers import handles_of
from .loss_scale import WRAPPER
from .observation.layer_statistics import kept_by_layers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def inner_optimizer(optimizer: Any) -> Any:
    """Return the optimizer inside a ``LossScaleOptimizer``, which has the slots; any other optimizer as it is."""
    if not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return optimizer
    inner = optimizer.inner_optimizer
    object.__setattr__(inner, WRAPPER, weakref.ref(optimizer))  # what is done to the one concerns the other
    return inner


def is_optimizer(value: Any) -> bool:
    """Tell whether a value is an optimizer of Keras 3."""
    return isinstance(value, keras.optimizers.Optimizer)


def remember(variable: Any) -> Replaced:
    """Note what tells optimizers and graphs that hold a variable, optimizers of torch too."""
    return Replaced(variable_key(None, variable), handles_of(variable))


def set_key(tensor: Any, key: Any) -> None:
    """Do nothing: a tensor of Keras 3 is known to no optimizer."""


def given_key(tensor: Any) -> Any:
    """Return ``None``: no tensor has a key."""
    del tensor


def variable_key(optimizer: Any, variable: Any) -> Any:
    """Read the key by which an optimizer knows a variable."""
    return keras.optimizers.Optimizer._var_key(optimizer, variable)


def learning_rate_of(optimizer: Any) -> Any:
    """Read the learning rate as given: a float, or the schedule itself."""
    rate = optimizer._learning_rate
    return rate if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule) else _number(rate)


def copy_iterations(optimizer: Any, other: Any) -> None:
    """Let an optimizer count on from where another one is."""
    # A number, as on JAX a step gives the memory of a variable away, and two optimizers would share it.
    optimizer._iterations.assign(int(_number(other._iterations)))


def iterations_of(optimizer: Any) -> int:
    """Read how many steps an optimizer has made."""
    return int(_number(optimizer.iterations))


def _number(value: Any) -> float:
    return float(ops.convert_to_numpy(value))


def setting_of(optimizer: Any, name: str) -> Any:
    """Read a numeric setting of an optimizer, such as its momentum, as a Python number."""
    return getattr(optimizer, name)


def saved_variables(optimizer: Any) -> list[Any]:
    """List the variables of an optimizer in the order in which Keras saves them."""
    return [*optimizer.variables, *kept_by_layers(optimizer)]


def load_variables(optimizer: Any, values: Sequence[Any]) -> None:
    """Give an optimizer, built, the values of :func:`saved_variables`; ``ValueError`` where they do not fit."""
    for variable, value in zip(saved_variables(optimizer), values, strict=True):
        variable.assign(value)


def uncounted_variables(optimizer: Any) -> dict[str, Any]:
    """Return nothing: Keras 3 saves all variables of an optimizer."""
    del optimizer
    return {}


def recount_steps(optimizer: Any) -> None:
    """Do nothing: an optimizer of Keras 3 counts its steps in a variable that is saved."""


def serialized_setting(optimizer: Any, value: Any) -> Any:
    """Return a setting of an optimizer as JSON data."""
    del optimizer
    if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
        return keras.optimizers.schedules.serialize(value)
    return _number(value) if keras.ops.is_tensor(value) or isinstance(value, keras.Variable) else value


def descend(variable: Any, gradient: Any, rate: Any) -> None:
    """Subtract ``rate * gradient`` from a variable, of a sparse gradient in the rows that it has."""
    if not is_sparse(gradient):
        variable.assign(variable - rate * gradient)
        return
    inner = variable.value if isinstance(variable, keras.Variable) else variable
    inner.scatter_sub(type(gradient)(rate * gradient.values, gradient.indices))


def is_constructed(optimizer: Any) -> bool:
    """Tell whether the ``__init__`` of this library's optimizers ran; a subclass may forget to call it."""
    return "_learning_rate" in vars(optimizer)


def variables_not_saved(optimizer: Any) -> list[str]:
    """List the attributes whose variables Keras does not save."""
    saved = {id(variable) for variable in optimizer._variables}
    return [
        name for name, value in vars(optimizer).items() if isinstance(value, keras.Variable) and id(value) not in saved
    ]


def update_on_every_replica(optimizer: Any, variable: Any, update: Callable[[Any], None]) -> None:
    """Run an update on a variable."""
    del optimizer
    update(variable)
