"""Layers: what they hold, and their weights put on and taken off."""

from __future__ import annotations

import contextlib
import functools
import math
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras.src.backend.common.variables import AutocastScope

from ..failed_changes import unchanged_on_failure
from ..tensorflow_names import BOOKKEEPING, untrack
from .classes import Dtype
from .configs import set_class
from .distribution import layout_for, strategy_scope
from .observation.layer_statistics import forget_statistics, note_layer, without_statistics
from .torch_holders import list_torch_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..records import NewWeight

# Where a layer keeps what it shows under a public name: a property adds LoRA or quantization to it.
_STORED = {"kernel": "_kernel", "embeddings": "_embeddings"}


def stored_attribute(layer: Any, attribute: str) -> str:
    """Name the attribute that holds what a layer shows under a public one."""
    stored = _STORED.get(attribute, attribute)
    return stored if stored in vars(layer) else attribute


def name_of(variable: Any) -> str:
    """Return the name of a variable with its scope, ``"dense/kernel"``."""
    return str(variable.path if isinstance(variable, keras.Variable) else variable.name.partition(":")[0])


def is_graph_network(layer: Any) -> bool:
    """Tell whether the layer is a Sequential or Functional model, whose layers go by their names."""
    return isinstance(layer, keras.Sequential) or hasattr(layer, "_inputs_struct")


def tracked_children(layer: Any) -> list[Any]:
    """List the layers, and the containers of them, that a layer holds, in the order in which it was given them."""
    if is_graph_network(layer):
        return [each for each in layer.layers if not isinstance(each, keras.layers.InputLayer)]
    return [
        value
        for name, value in attributes_of(layer).items()
        if isinstance(value, keras.Layer | list | tuple | dict) and not is_bookkeeping(name)
    ]


def layers_below(layer: Any) -> list[Any]:
    """List all layers that Keras finds inside a layer, in any depth."""
    return list(layer._flatten_layers(include_self=False))


def is_opaque(layer: Any) -> bool:
    """Tell whether Keras made a layer from a SavedModel without its class, so that its call is a restored graph."""
    return isinstance(layer, keras.layers.TFSMLayer)


def computes_otherwise(layer: Any) -> str:
    """Return in words what a layer adds to its kernel, or computes with in its place; ``""`` if there is nothing."""
    if getattr(layer, "lora_enabled", False):
        return "LoRA is enabled on it"
    quantized = getattr(layer, "quantization_mode", None)
    return f"it is quantized to {quantized}" if quantized else ""


def note_built(layer: Any, _: Any) -> None:
    """Mark a layer as built."""
    layer.built = True


def own_weights(layer: Any) -> list[Any]:
    """List the variables that belong to the layer itself, not to a layer inside it, in Keras's order."""
    trained = without_statistics(getattr(layer, "_trainable_variables", ()))
    return [*trained, *getattr(layer, "_non_trainable_variables", ())]


def states_of(layer: Any) -> list[Any]:
    """List the variables of the layer itself that its call changes: statistics, states, and random generators'."""
    return [*layer._non_trainable_variables, *(generator.state for generator in layer._seed_generators)]


def is_bookkeeping(attribute: str) -> bool:
    """Tell whether an attribute is one in which Keras itself lists what a layer holds."""
    return attribute in _LISTS | BOOKKEEPING or attribute.startswith(("_obj_reference", "_unconditional"))


_LISTS = {
    *("_tracker", "_layers", "_metrics", "_losses", "_loss_ids", "_losses_override", "_seed_generators"),
    *("_trainable_variables", "_non_trainable_variables", "_torch_params", "_inbound_nodes", "_outbound_nodes"),
    *("_functional", "_operations", "_operations_by_depth", "_nodes", "_nodes_by_depth", "_inputs", "_outputs"),
    *("_inputs_struct", "_outputs_struct", "_compile_config", "_auto_config", "_build_shapes_dict"),
    *("_call_context_args", "_call_has_context_arg", "call_signature_parameters", "input_spec", "_input_spec"),
    *("_modules", "_parameters", "_buffers", "_backward_hooks", "_forward_hooks", "_state_dict_hooks"),
}


def attributes_of(holder: Any) -> dict[str, Any]:
    """Return the attributes of a layer, by name: torch keeps the layers among them apart."""
    return {**vars(holder), **vars(holder).get("_modules", {})}


def attribute_of(holder: Any, value: Any) -> str | None:
    """Name the attribute under which ``holder`` keeps ``value`` (by identity), ``None`` if it does not."""
    found = next((name for name, held in attributes_of(holder).items() if held is value), None)
    return None if found is None else public_attribute(found)


def public_attribute(stored: str) -> str:
    """Name the attribute under which a layer shows what it holds under another one."""
    return next((public for public, each in _STORED.items() if each == stored), stored)


def reads_as_stored(variable: Any) -> bool:
    """Tell whether a variable reads as what it stores, as Keras's own do."""
    return type(variable).__module__.startswith("keras.")


def stored_dtype(variable: Any) -> Any:
    """Read the dtype in which a variable is stored, which under mixed precision is not the one it is read in."""
    return Dtype(keras.backend.standardize_dtype(variable._dtype))


def autocast(layer: Any) -> Any:
    """Inside, mixed-precision variables read in a layer's compute dtype, as they do in its ``__call__``.

    For ``None`` they read in the dtype that they are stored in, even in a layer's ``__call__``.
    """
    return AutocastScope(None if layer is None else layer.compute_dtype)


def value_now(variable: Any) -> Any:
    """Return the value that a variable has now, whatever is assigned later.

    A variable is a tensor to ``keras.ops`` on TensorFlow and torch, which give it back as it is.
    """
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf  # noqa: PLC0415  of this backend alone

        return tf.convert_to_tensor(getattr(variable, "_value", variable))
    value = keras.ops.convert_to_tensor(variable)
    return value.detach().clone() if keras.config.backend() == "torch" else value


def assign_rows(variable: Any, rows: slice, value: Any) -> None:
    """Assign some rows of a matrix."""
    variable.assign(keras.ops.slice_update(keras.ops.convert_to_tensor(variable), (rows.start, 0), value))


def has_known_shape(variable: Any) -> bool:
    """Tell whether all sizes of a variable are known, as they always are."""
    del variable
    return True


def count_of_numbers(variable: Any) -> int:
    """Return how many numbers a variable has, 0 where its shape is not known."""
    return math.prod(variable.shape)


def bytes_of(variable: Any) -> int:
    """Return how many bytes a variable takes."""
    size: int = np.dtype(stored_dtype(variable).as_numpy_dtype).itemsize
    return count_of_numbers(variable) * size


def single_variables(variable: Any) -> list[Any]:
    """List the variables that a variable is made of: itself."""
    return [variable]


def variable_and_wrapped(variable: Any) -> list[Any]:
    """List a variable and those that TensorFlow's optimizers work with: what it wraps, and that on each device."""
    if keras.config.backend() != "tensorflow":
        return [variable]
    inner = variable._value
    return [variable, inner, *getattr(inner, "values", ())]


def handles_of(variable: Any) -> frozenset[int]:
    """Return the ``id`` of what holds the value of a variable: of torch its parameter, of TensorFlow its resource."""
    backend = keras.config.backend()
    if backend == "torch":
        return frozenset({id(variable.value)})
    if backend == "tensorflow":
        inner = variable._value
        return frozenset(id(each.handle) for each in getattr(inner, "values", (inner,)))
    return frozenset()


def shorten(values: Any, length: int) -> None:
    """Cut a list to its former length."""
    del values[length:]


def new_variable_like(reference: Any, name: str, value: Any, *, constraint: Any = None) -> Any:
    """Create a variable that differs from ``reference`` in name, value and constraint alone."""
    scope, _, own = name.rpartition("/")
    layout = layout_for(name, value.shape)
    with strategy_scope(reference):
        variable = keras.Variable(
            initializer=value,
            dtype=reference._dtype,
            # A tape of TensorFlow does not watch what was made as not trainable, whatever Keras says of it later.
            trainable=getattr(reference._value, "trainable", reference.trainable),
            autocast=reference._autocast,
            aggregation=reference.aggregation,
            name=own,
            **({} if layout is None else {"layout": layout}),
        )
    variable.trainable = reference.trainable
    variable._path = name if scope else own
    variable.constraint = constraint
    return variable


def exchange_weights(
    layer: Any, cls: type, old: Iterable[str], new: Iterable[NewWeight], loss: Callable[[Any], Any]
) -> None:
    """Exchange some weights of a layer for others, and its class for another, in one step.

    Args:
        layer: The layer.
        cls: The class it gets.
        old: The attributes of the weights that go.
        new: The weights that come, in the order of their positions.
        loss: Gets each weight regularization loss of the layer, ``partial(loss, variable)``, and returns the one that
            takes its place.
    """
    with unchanged_on_failure(layer), _unlocked(layer):
        losses = []
        # Those of a frozen layer are listed there too: what thaws it goes through that list.
        listed = {id(each) for each in layer._trainable_variables}
        for attribute in old:
            stored = stored_attribute(layer, attribute)
            variable = vars(layer).pop(stored)
            is_weight, trained = id(variable) in listed, variable.trainable
            losses += _losses_of(variable, loss)
            forget_statistics(layer, variable)
            layer._tracker.untrack(variable)
            untrack(layer, stored)
        set_class(layer, cls)
        for weight in new:
            _add_weight(layer, is_weight, *weight)
            weight.variable.trainable = trained
        for weight in new:
            note_layer(weight.variable, layer)
        _attach_losses(own_weights(layer), losses)
    list_torch_parameters([layer])


@contextlib.contextmanager
def _unlocked(layer: Any) -> Iterator[None]:
    locked = layer._tracker.locked
    stored = {name: set(ids) for name, ids in layer._tracker.stored_ids.items()}
    layer._tracker.unlock()
    try:
        yield
    except BaseException:
        layer._tracker.stored_ids.update(stored)
        raise
    finally:
        if locked:
            layer._tracker.lock()


class _Losses:
    """A regularizer that adds up losses, each of some rows of the variable."""

    def __init__(self, losses: list[Any]) -> None:
        self.losses = losses

    def __call__(self, _: Any) -> Any:
        """Return the loss of the variable that it was made for."""
        return sum(loss() for loss in self.losses)


def _losses_of(variable: Any, loss: Callable[[Any], Any]) -> list[Any]:
    """Return what takes the place of the regularization losses of a variable that goes."""
    regularizer = variable.regularizer
    if isinstance(regularizer, _Losses):
        return [loss(each) for each in regularizer.losses]
    return [] if regularizer is None else [loss(functools.partial(regularizer, variable))]


def _attach_losses(variables: Iterable[Any], losses: Iterable[Any]) -> None:
    by_variable: dict[int, list[Any]] = {}
    for each in losses:
        of = each.args[0] if isinstance(each, functools.partial) else each.augmented
        by_variable.setdefault(id(of), []).append(each)
    for variable in variables:
        found = by_variable.get(id(variable), [])
        if len(found) == 1 and isinstance(found[0], functools.partial):
            variable.regularizer = found[0].func
        elif found:
            variable.regularizer = _Losses(found)


def _add_weight(layer: Any, is_weight: bool, attribute: str, variable: Any, position: int) -> None:
    """Put a variable on a layer as Keras's ``add_weight`` would, at a given place among the layer's own weights.

    Args:
        layer: The layer.
        is_weight: Whether it is trained unless the layer is frozen.
        attribute: The attribute.
        variable: The variable.
        position: The place.
    """
    stored = _STORED.get(attribute, attribute)
    stored = stored if isinstance(getattr(type(layer), attribute, None), property) else attribute
    variable.trainable = is_weight
    setattr(layer, stored, variable)  # tracked, last of its list
    trainable, others = layer._trainable_variables, layer._non_trainable_variables
    weights, place = (trainable, position) if is_weight else (others, position - len(trainable))
    weights.pop()
    weights.insert(place, variable)


def called_in_training(layer: Any) -> list[tuple[str, Any]]:
    """List what a user gave Keras to call or to pass on when a layer is trained, each with a name for it."""
    config = getattr(layer, "_compile_config", None)
    compiled = dict(config.config) if config is not None else {}
    nodes = getattr(layer, "_inbound_nodes", ())
    return [("compile", compiled), ("a call of it", [(each.arguments.args, each.arguments.kwargs) for each in nodes])]


def may_hold_users_code(value: Any) -> bool:
    """Tell whether Keras calls an object in training, or what it was given, so that a user's code may be behind it."""
    kinds = (
        keras.Loss,
        keras.Metric,
        keras.regularizers.Regularizer,
        keras.constraints.Constraint,
        keras.optimizers.Optimizer,
        keras.optimizers.schedules.LearningRateSchedule,
    )
    return isinstance(value, kinds)
