"""Layers: what they hold, and their weights put on and taken off."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tf_keras
from tensorflow.python.ops.resource_variable_ops import ResourceVariable
from tf_keras.src.mixed_precision.autocast_variable import AutoCastVariable, create_autocast_variable
from tf_keras.src.saving.legacy.saved_model.load import RevivedLayer

from ..failed_changes import unchanged_on_failure
from ..tensorflow_names import BOOKKEEPING, untrack
from .configs import set_class
from .distribution import has_strategy, strategy_scope
from .randomness import generator_states

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from ..records import NewWeight

_ONE_NAME = "variable"


def stored_attribute(layer: Any, attribute: str) -> str:
    """Name the attribute that holds what a layer shows under a public one: the same."""
    del layer
    return attribute


def name_of(variable: Any) -> str:
    """Return the name of a variable with its scope, without the index of an output: ``"dense/kernel"``."""
    return str(variable.name).rsplit(":", 1)[0]


def is_graph_network(layer: Any) -> bool:
    """Tell whether the layer is a Sequential or Functional model, whose layers go by their names."""
    return isinstance(layer, tf_keras.Sequential) or bool(getattr(layer, "_is_graph_network", False))


def tracked_children(layer: Any) -> list[Any]:
    """List the layers, modules and containers of them that Keras tracks in a layer, in Keras's order."""
    return list(getattr(layer, "_self_tracked_trackables", ()))


def layers_below(layer: Any) -> list[Any]:
    """List all layers that Keras finds inside a layer, in any depth."""
    return list(layer._flatten_layers(include_self=False))


def is_opaque(layer: Any) -> bool:
    """Tell whether Keras made a layer from a SavedModel without its class, so that its call is a restored graph."""
    return isinstance(layer, RevivedLayer)


def computes_otherwise(layer: Any) -> str:
    """Return nothing: every layer computes with its kernel as it is."""
    del layer
    return ""


def note_built(layer: Any, input_shape: Any) -> None:
    """Mark a layer as built. The ``build`` of a user's class may not, and Keras would build it again."""
    tf_keras.layers.Layer.build(layer, input_shape)


def own_weights(layer: Any) -> list[Any]:
    """List the variables that belong to the layer itself, not to a layer inside it, in Keras's order."""
    return only_variables([*getattr(layer, "_trainable_weights", ()), *getattr(layer, "_non_trainable_weights", ())])


def only_variables(weights: Iterable[Any]) -> list[Any]:
    """Return the variables in a list of weights. Layers with a vocabulary also list a handler of it there."""
    return [weight for weight in weights if isinstance(weight, tf.Variable)]


def states_of(layer: Any) -> list[Any]:
    """List the variables of the layer itself that its call changes: statistics, states, and random generators'."""
    states = tf.nest.flatten(getattr(layer, "states", None) if getattr(layer, "stateful", False) else None)
    return only_variables([*getattr(layer, "_non_trainable_weights", ()), *states, *generator_states(layer)])


def is_bookkeeping(attribute: str) -> bool:
    """Tell whether an attribute is one in which Keras itself lists what a layer holds."""
    lists = (
        "_trainable_weights",
        "_non_trainable_weights",
        "_undeduplicated",
        "_callable_losses",
        "_serialized_attributes",
        "keras_api",
    )
    return attribute in BOOKKEEPING or attribute.startswith(lists)


def attributes_of(holder: Any) -> dict[str, Any]:
    """Return the attributes of a layer, by name."""
    return dict(vars(holder))


def attribute_of(holder: Any, value: Any) -> str | None:
    """Name the attribute under which ``holder`` keeps ``value`` (by identity), ``None`` if it does not."""
    return next((name for name, held in vars(holder).items() if held is value), None)


def reads_as_stored(variable: Any) -> bool:
    """Tell whether a variable reads as what it stores, as TensorFlow's and Keras's own do.

    Those of a library that quantizes, for example, do not.
    """
    return type(variable).__module__.startswith(("tensorflow.", "tf_keras."))


def stored_dtype(variable: Any) -> Any:
    """Read the dtype in which a variable is stored, which under mixed precision is not the one it is read in."""
    return getattr(variable, "true_dtype", variable.dtype)


def stored_variable(variable: Any) -> Any:
    """Return the stored variable inside a mixed-precision one, which reads in another dtype."""
    return variable._variable if isinstance(variable, AutoCastVariable) else variable


def variable_and_wrapped(variable: Any) -> list[Any]:
    """List a variable and the ones it wraps: autocast wrapper, distributed container, per-device components."""
    inner = stored_variable(variable)
    chain = [variable] if inner is variable else [variable, inner]
    return [*chain, *getattr(inner, "values", ())] if isinstance(inner, tf.distribute.DistributedValues) else chain


def value_now(variable: Any) -> Any:
    """Return the value that a variable has now, whatever is assigned later; it is copied then and not before."""
    return tf.convert_to_tensor(variable)


def assign_rows(variable: Any, rows: slice, value: Any) -> None:
    """Assign some rows of a variable, in place."""
    # A twentieth of the time of variable[rows].assign(value).
    indices = tf.constant(range(rows.start, rows.stop), tf.int32)
    tf.raw_ops.ResourceScatterUpdate(resource=variable.handle, indices=indices, updates=value)


def has_known_shape(variable: Any) -> bool:
    """Tell whether all sizes of a variable are known."""
    return bool(variable.shape.is_fully_defined())


def count_of_numbers(variable: Any) -> int:
    """Return how many numbers a variable has, 0 where its shape is not known."""
    return variable.shape.num_elements() or 0


def bytes_of(variable: Any) -> int:
    """Return how many bytes a variable takes, 0 where its shape is not known."""
    return count_of_numbers(variable) * int(variable.dtype.size)


def single_variables(variable: Any) -> list[Any]:
    """List the variables that a variable is made of: its component on each device, or itself, as it is stored."""
    inner = stored_variable(variable)
    return list(inner.values) if isinstance(inner, tf.distribute.DistributedValues) else [inner]


def shorten(values: Any, length: int) -> None:
    """Cut a list to its former length, so that Keras goes on tracking it."""
    # A list that is an attribute of a layer is wrapped. The wrapper compares itself with a snapshot when it is saved,
    # and refuses if it was changed behind its back.
    storage = getattr(values, "_storage", values)
    del storage[length:]
    if storage is not values:
        values._last_wrapped_list_snapshot = list(storage)


def handles_of(variable: Any) -> list[Any]:
    """List the resources by which graphs read a variable, one for each device."""
    # A container of one for each device has no resource of its own, and raises when it is asked.
    single = [each for each in variable_and_wrapped(variable) if not isinstance(each, tf.distribute.DistributedValues)]
    return [each.handle for each in single]


def made_quickly() -> AbstractContextManager[None]:
    """Inside, variables are made in a third of the time.

    Eagerly TensorFlow makes a kernel for each name of a variable, and keeps it for ever. So all get one name, and each
    its own afterwards.
    """
    if has_strategy() or not tf.executing_eagerly():
        return contextlib.nullcontext()
    scope: AbstractContextManager[None] = tf.variable_creator_scope(_named_afterwards)
    return scope


def _named_afterwards(next_creator: Callable[..., Any], name: str | None = None, **settings: Any) -> Any:
    variable = next_creator(name=_ONE_NAME, **settings)
    if name is not None and type(variable) is ResourceVariable:
        scope, _, _ = variable.name.rpartition(_ONE_NAME)
        variable._handle_name = f"{scope}{name}:0"
    return variable


def new_variable_like(reference: Any, name: str, value: Any, *, constraint: Any = None) -> Any:
    """Create a variable that differs from ``reference`` in name, value and constraint alone.

    It is created in the distribution strategy of the reference and, under mixed precision, wrapped as it is.
    """
    inner = stored_variable(reference)
    # A name scope that is open when a layer is built would go before the name, which has its scope already.
    with tf.init_scope(), strategy_scope(inner), tf.compat.v1.name_scope(None), made_quickly():
        variable = tf.Variable(
            value,
            trainable=reference.trainable,
            name=name,
            dtype=inner.dtype,
            constraint=constraint,
            synchronization=reference.synchronization,
            aggregation=reference.aggregation,
        )
    return create_autocast_variable(variable) if inner is not reference else variable


def exchange_weights(
    layer: Any, cls: type, old: Iterable[str], new: Iterable[NewWeight], loss: Callable[[Any], Any]
) -> None:
    """Exchange some weights of a layer for others, and its class for another, in one step.

    Args:
        layer: The layer.
        cls: The class it gets.
        old: The attributes of the weights that go.
        new: The weights that come, in the order of their positions.
        loss: Gets each weight regularization loss of the layer, ``partial(loss, variable)`` where Keras made it, and
            returns the one that takes its place: itself, to leave it.
    """
    with unchanged_on_failure(layer):
        # Losses first, while the layer still has the variables that they are made of.
        _replace_weight_losses(layer, loss)
        for attribute in old:
            drop_weight(layer, attribute)
        set_class(layer, cls)
        for weight in new:
            _add_weight(layer, *weight)


def drop_weight(layer: Any, attribute: str) -> None:
    """Take a variable off a layer and out of every list in which Keras keeps it."""
    variable = vars(layer).pop(attribute)
    layer._obj_reference_counts.pop(variable, None)
    for weights in (layer._trainable_weights, layer._non_trainable_weights):
        weights[:] = [weight for weight in weights if weight is not variable]
    untrack(layer, attribute)


def _add_weight(layer: Any, attribute: str, variable: Any, position: int) -> None:
    """Put a variable on a layer as Keras's ``add_weight`` would, at a given place among the layer's own weights."""
    object.__setattr__(layer, attribute, variable)
    layer._obj_reference_counts[variable] = 1
    # Keras lists trainable weights before all others, so a place among all weights is in one of the two lists.
    trainable = layer._trainable_weights
    if variable.trainable:
        trainable.insert(position, variable)
    else:
        layer._non_trainable_weights.insert(position - len(trainable), variable)
    # Also hands the variable its value from a checkpoint that was restored before the layer was built.
    layer._track_trackable(variable, name=attribute, overwrite=True)


def _replace_weight_losses(layer: Any, replacement: Callable[[Any], Any]) -> None:
    """Replace the layer's weight regularization losses, in place.

    Keras keeps each as ``partial(tag, partial(loss, variable))``, closed over the variable, so that after a swap of
    variables it would go on regularizing a dead one, silently.

    Args:
        layer: The layer.
        replacement: Gets each loss, ``partial(loss, variable)`` where Keras made it, and returns the one that takes
            its place: itself, to leave it.
    """
    losses = layer._callable_losses
    losses[:] = [functools.partial(tagged.func, replacement(*tagged.args)) for tagged in losses]


def called_in_training(layer: Any) -> list[tuple[str, Any]]:
    """List what a user gave Keras to call or to pass on when a layer is trained, each with a name for it.

    These are functions given to ``add_loss`` (not those that Keras makes of weight regularizers), what a model was
    compiled with, and the arguments that a layer was called with in a Functional model, a variable perhaps.
    """
    losses = [each.args[0] for each in getattr(layer, "_callable_losses", ()) if isinstance(each, functools.partial)]
    own = [loss for loss in losses if not (isinstance(loss, functools.partial) and loss.args)]
    compiled = dict(layer._compile_config.config) if hasattr(layer, "_compile_config") else {}
    arguments = [given for node in getattr(layer, "_inbound_nodes", ()) for given in (node.call_args, node.call_kwargs)]
    return [("add_loss", own), ("compile", compiled), ("a call of it", arguments)]


def may_hold_users_code(value: Any) -> bool:
    """Tell whether Keras calls an object in training, or what it was given, so that a user's code may be behind it."""
    kinds = (
        tf_keras.losses.Loss,
        tf_keras.metrics.Metric,
        tf_keras.regularizers.Regularizer,
        tf_keras.constraints.Constraint,
        tf_keras.optimizers.Optimizer,
        tf_keras.optimizers.legacy.Optimizer,
        tf_keras.optimizers.schedules.LearningRateSchedule,
        tf.train.ExponentialMovingAverage,
    )
    return isinstance(value, kinds)
