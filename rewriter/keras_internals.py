"""The one module that names private attributes of tf-keras, so that another Keras can be served by another such module.

Every function says which private part of tf-keras it stands for. Tried with tf-keras 2.18 to 2.21.
"""

from __future__ import annotations

import contextlib
import functools
import gc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tf_keras
from tensorflow.python.util.tf_export import get_canonical_name_for_symbol
from tf_keras.src.mixed_precision.autocast_variable import (
    AutoCastVariable,
    create_autocast_variable,
    enable_auto_cast_variables,
)
from tf_keras.src.saving.object_registration import _GLOBAL_CUSTOM_NAMES
from tf_keras.src.saving.saving_lib import _walk_trackable
from tf_keras.src.saving.serialization_lib import _retrieve_class_or_fn, serialize_with_public_class

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# --- layers and what they hold -------------------------------------------------------------------------------


def is_graph_network(layer: Any) -> bool:
    """Tell whether the layer is a Sequential or Functional model, whose layers go by their names."""
    return isinstance(layer, tf_keras.Sequential) or bool(getattr(layer, "_is_graph_network", False))


def tracked_children(layer: Any) -> list[Any]:
    """List the layers, modules and containers of them that Keras tracks in a layer, in Keras's order."""
    return list(getattr(layer, "_self_tracked_trackables", ()))


def layers_below(layer: Any) -> list[Any]:
    """List all layers that Keras finds inside a layer, in any depth."""
    return list(layer._flatten_layers(include_self=False))


def own_weights(layer: Any) -> list[Any]:
    """List the variables that belong to the layer itself, not to a layer inside it, in Keras's order."""
    return [*getattr(layer, "_trainable_weights", ()), *getattr(layer, "_non_trainable_weights", ())]


def is_bookkeeping(attribute: str) -> bool:
    """Tell whether an attribute is one in which Keras itself lists what a layer holds."""
    return attribute.startswith(("_self_", "_trainable_weights", "_non_trainable_weights", "_undeduplicated"))


def attribute_of(holder: Any, value: Any) -> str | None:
    """Name the attribute under which ``holder`` keeps ``value`` (by identity), ``None`` if it does not."""
    return next((name for name, held in vars(holder).items() if held is value), None)


def set_class(layer: Any, cls: type) -> None:
    """Give a layer another class, past Keras's attribute tracking.

    Saving as a SavedModel leaves ``call``, bound to the class of that moment, among the layer's own attributes, where
    it would hide the ``call`` of the new class; that leftover goes.
    """
    if getattr(vars(layer).get("call"), "__func__", None) is type(layer).call:
        del vars(layer)["call"]
    object.__setattr__(layer, "__class__", cls)


# --- variables -----------------------------------------------------------------------------------------------


def reads_as_stored(variable: Any) -> bool:
    """Tell whether a variable is one of TensorFlow's or Keras's own, whose value is what it stores.

    A library that quantizes, say, has variables of its own kind, which a layer reads otherwise than they are stored.
    """
    return type(variable).__module__.startswith(("tensorflow.", "tf_keras."))


def stored_dtype(variable: Any) -> Any:
    """Read the dtype in which a variable is stored, which under mixed precision is not the one it is read in."""
    return getattr(variable, "true_dtype", variable.dtype)


def variable_and_wrapped(variable: Any) -> list[Any]:
    """List a variable and the ones it wraps: autocast wrapper, distributed container, per-device components."""
    inner = variable._variable if isinstance(variable, AutoCastVariable) else variable
    chain = [variable] if inner is variable else [variable, inner]
    return [*chain, *getattr(inner, "values", ())] if isinstance(inner, tf.distribute.DistributedValues) else chain


def new_variable_like(reference: Any, name: str, value: Any, *, constraint: Any = None) -> Any:
    """Create a variable that differs from ``reference`` in name, value and constraint alone.

    It is created in the distribution strategy of the reference and, under mixed precision, wrapped as it is.
    """
    inner = reference._variable if isinstance(reference, AutoCastVariable) else reference
    strategy = getattr(inner, "distribute_strategy", None) or tf.distribute.get_strategy()
    # A name scope that is open when a layer is built would go before the name, which has its scope already.
    with tf.init_scope(), strategy.scope(), tf.compat.v1.name_scope(None):
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


def drop_weight(layer: Any, attribute: str) -> None:
    """Take a variable off a layer and out of every list in which Keras keeps it."""
    variable = vars(layer).pop(attribute)
    layer._obj_reference_counts.pop(variable, None)
    for weights in (layer._trainable_weights, layer._non_trainable_weights):
        weights[:] = [weight for weight in weights if weight is not variable]
    _untrack(layer, attribute)


def _untrack(holder: Any, name: str) -> None:
    """Take an attribute out of what is saved in checkpoints."""
    dependencies = holder._self_unconditional_checkpoint_dependencies
    dependencies[:] = [reference for reference in dependencies if reference.name != name]
    holder._self_unconditional_dependency_names.pop(name, None)


def add_weight_at(layer: Any, attribute: str, variable: Any, position: int) -> None:
    """Put a variable on a layer as Keras's ``add_weight`` would, at a given place among the layer's own weights."""
    object.__setattr__(layer, attribute, variable)
    layer._obj_reference_counts[variable] = 1
    trainable = layer._trainable_weights
    if variable.trainable:
        trainable.insert(position, variable)
    else:
        layer._non_trainable_weights.insert(position - len(trainable), variable)
    # Also hands the variable its value from a checkpoint that was restored before the layer was built.
    layer._track_trackable(variable, name=attribute, overwrite=True)


# --- weight regularizers -------------------------------------------------------------------------------------


def replace_weight_losses(layer: Any, replacement: Callable[[Any], Any]) -> None:
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


# --- classes and configs -------------------------------------------------------------------------------------


def register_class(cls: type, public_name: str, registered_name: str) -> None:
    """Make a class serialize as ``public_name`` in the current format and ``registered_name`` in the legacy ones.

    ``public_name`` is dotted, ``module.attribute``; Keras imports the module when it loads the class, so the
    reader needs no import of its own.
    """
    cls._keras_api_names = (public_name,)  # type: ignore[attr-defined]
    cls._keras_api_names_v1 = ()  # type: ignore[attr-defined]
    _GLOBAL_CUSTOM_NAMES[cls] = registered_name


def has_public_name(cls: type) -> bool:
    """Tell whether a class is part of Keras's public interface (a user's class is not)."""
    return get_canonical_name_for_symbol(cls, api_name="keras") is not None


def class_to_config(cls: type) -> dict[str, Any]:
    """Describe a layer class as Keras describes it in a config: module, class name, registered name."""
    described = serialize_with_public_class(cls)
    return {key: described[key] for key in ("module", "class_name", "registered_name")}


def class_from_config(config: dict[str, Any]) -> Any:
    """Find the class that :func:`class_to_config` described; ``TypeError`` where it cannot be found."""
    return _retrieve_class_or_fn(
        config["class_name"],
        config["registered_name"],
        config["module"],
        obj_type="class",
        full_config=config,
    )


def layers_saved_in_keras_format(model: Any) -> set[int]:
    """Tell which layers Keras's ``.keras`` and ``.weights.h5`` formats reach, by ``id``.

    The same walk as ``saving_lib._save_state``: over all attributes, and into lists, tuples, dicts and sets of layers,
    but not into containers inside those.
    """
    reached: set[int] = set()
    waiting = [model]
    while waiting:
        layer = waiting.pop()
        if id(layer) in reached:
            continue
        reached.add(id(layer))
        for _, value in _walk_trackable(layer):
            held = (
                value.values()
                if isinstance(value, dict)
                else value
                if isinstance(value, list | tuple | set)
                else [value]
            )
            waiting += [each for each in held if isinstance(each, tf_keras.layers.Layer)]
    return reached


# --- models --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def autocast_of(layer: Any) -> Iterator[None]:
    """Inside, mixed-precision variables read in the layer's compute dtype, as they do in its ``__call__``."""
    with enable_auto_cast_variables(layer._compute_dtype_object):
        yield


_FUNCTIONS = ("train_function", "test_function", "predict_function", "train_tf_function")


def traced_functions(model: Any) -> dict[str, Any]:
    """Read the functions that ``fit``, ``evaluate`` and ``predict`` have traced on a model."""
    return {name: getattr(model, name) for name in _FUNCTIONS}


def restore_traced_functions(model: Any, functions: dict[str, Any]) -> None:
    """Put traced functions back, valid again because the variables they hold are the model's again."""
    for name, function in functions.items():
        object.__setattr__(model, name, function)


def reset_traced_functions(model: Any) -> None:
    """Forget the functions that ``fit``, ``evaluate`` and ``predict`` traced: they hold the old variables."""
    model._reset_compile_cache()


def forget_traced_methods(layer: Any) -> None:
    """Forget what ``tf.function`` methods of a layer have traced: it holds the old variables, silently."""
    for cls in type(layer).__mro__:
        for method in vars(cls).values():
            if isinstance(method, tf.types.experimental.PolymorphicFunction):
                method._descriptor_cache.pop(layer, None)


def models_alive() -> list[Any]:
    """List every model there is, also one over the same layers that nothing in a given model leads to."""
    # The type first: a dead weak proxy raises when it is asked for its class.
    return [each for each in gc.get_objects() if issubclass(type(each), tf_keras.Model)]


def input_specs(model: Any) -> Any:
    """Read the structure of ``TensorSpec`` of a model's inputs, ``None`` where it was never told or called."""
    if getattr(model, "inputs", None) and is_graph_network(model):
        return tf.nest.map_structure(lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype), model.input)
    return model._saved_model_inputs_spec


def is_compiled(model: Any) -> bool:
    """Tell whether ``compile`` was called on the model."""
    return bool(getattr(model, "_is_compiled", False))


def set_optimizer(model: Any, optimizer: Any) -> None:
    """Give a model another optimizer, leaving loss, metrics and all else that was compiled as it is."""
    if is_compiled(model):
        # Saving reads the optimizer from what compile() was called with.
        model._compile_config.config["optimizer"] = optimizer
    model.optimizer = optimizer


def take_over(model: Any, optimizer: Any) -> None:
    """Give a model a fresh optimizer in the place of its own, counting on where that stopped.

    A model that is not compiled gets none. The fresh one is built, so that what is saved of it is whole.
    """
    if not is_compiled(model):
        model.optimizer = None
        _untrack(model, "optimizer")
        return
    optimizer.build(model.trainable_variables)
    optimizer.iterations.assign(model.optimizer.iterations)
    set_optimizer(model, optimizer)


def with_loss_scale_of(wrapper: Any, optimizer: Any) -> Any:
    """Wrap an optimizer in a ``LossScaleOptimizer`` where another one is wrapped in it, with the scale that has now."""
    if not isinstance(wrapper, tf_keras.mixed_precision.LossScaleOptimizer):
        return optimizer
    if isinstance(optimizer, tf_keras.mixed_precision.LossScaleOptimizer):
        return optimizer
    return tf_keras.mixed_precision.LossScaleOptimizer(
        optimizer,
        dynamic=wrapper.dynamic,
        initial_scale=float(wrapper.loss_scale),
        dynamic_growth_steps=wrapper.dynamic_growth_steps,
    )


# --- optimizers ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Slots:
    """The slots of an optimizer.

    Attributes:
        index: The place of each variable's slot in every list, by :func:`variable_key`.
        lists: The lists of slots, by the optimizer's attribute, each in the order of ``index``.
        variables: All variables of the optimizer, in the order in which they are saved.
    """

    index: dict[Any, int]
    lists: dict[str, list[Any]]
    variables: list[Any]


def optimizer_slots(optimizer: Any) -> Slots | None:
    """Read the slots of an optimizer, ``None`` where it is not built."""
    if not getattr(optimizer, "_built", False):
        return None
    index = dict(optimizer._index_dict)
    lists = {
        name: list(value)
        for name, value in vars(optimizer).items()
        if name != "_variables" and isinstance(value, list) and len(value) == len(index)
        if all(isinstance(slot, tf.Variable) for slot in value)
    }
    return Slots(index, lists, list(optimizer._variables))


def rebuild_slots(optimizer: Any, variables: Sequence[Any]) -> None:
    """Build an optimizer anew for other variables, all but its slots kept as they are.

    The optimizer's own ``build`` makes the slots, so that their names and order are those of a loaded optimizer.
    """
    slots = optimizer_slots(optimizer)
    kept = dict(vars(optimizer))
    replaced = {id(slot) for slots_of_one in slots.lists.values() for slot in slots_of_one} if slots else set()
    optimizer._variables = [variable for variable in optimizer._variables if id(variable) not in replaced]
    optimizer._built = False
    optimizer.build(variables)
    # Nadam's build also starts its running product anew.
    for name, value in kept.items():
        if isinstance(value, tf.Variable | int) and name != "_built":
            object.__setattr__(optimizer, name, value)
    _forget_checkpoint_children(optimizer)


def put_slots(optimizer: Any, slots: Slots) -> None:
    """Give an optimizer slots it had before, the very same variables."""
    for name, variables in slots.lists.items():
        setattr(optimizer, name, variables)
    optimizer._variables = slots.variables
    optimizer._index_dict = dict(slots.index)
    _forget_checkpoint_children(optimizer)


def set_slot_place(optimizer: Any, variable: Any, place: int) -> None:
    """Make an optimizer find the slots of a variable at a place in its lists."""
    optimizer._index_dict[optimizer._var_key(variable)] = place


def _forget_checkpoint_children(optimizer: Any) -> None:
    # Made once, at the first checkpoint, and never looked at again.
    vars(optimizer).pop("_coalesced_children", None)


def variable_key(optimizer: Any, variable: Any) -> Any:
    """Read the key by which an optimizer knows a variable."""
    return optimizer._var_key(variable)


def learning_rate_of(optimizer: Any) -> Any:
    """Read the learning rate as given: a float, or the schedule itself."""
    rate = optimizer._learning_rate
    return rate if isinstance(rate, tf_keras.optimizers.schedules.LearningRateSchedule) else float(rate.numpy())
