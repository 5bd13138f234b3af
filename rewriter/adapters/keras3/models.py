"""Models: what was compiled and traced, and what they take."""

from __future__ import annotations

import contextlib
import functools
import random
import threading
import weakref
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras.src.backend.common import global_state
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR

from ..instances import instances_alive
from ..tensorflow_functions import function_class
from .classes import Spec, dtype_of
from .layers import is_graph_network, value_now
from .observation.layer_statistics import without_statistics
from .slots import build_slots
from .torch_holders import kept_torch_state, list_torch_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Each function that is traced and kept, by what makes it.
_MADE_BY = {
    "train_function": "make_train_function",
    "test_function": "make_test_function",
    "predict_function": "make_predict_function",
}


def traced_functions(model: Any) -> dict[str, Any]:
    """Read the functions that ``fit``, ``evaluate`` and ``predict`` have traced on a model."""
    return {name: getattr(model, name, None) for name in _MADE_BY} if isinstance(model, keras.Model) else {}


def restore_traced_functions(model: Any, functions: dict[str, Any]) -> None:
    """Put traced functions back, valid again because the variables they hold are the model's again."""
    list_torch_parameters(model._flatten_layers())
    for name, function in functions.items():
        object.__setattr__(model, name, function)


def reset_traced_functions(model: Any) -> None:
    """Make a model trace its functions again: a ``fit`` that is under way calls them at its next step."""
    list_torch_parameters(model._flatten_layers())
    if not isinstance(model, keras.Model):
        return
    if getattr(model, "_jax_state_synced", False):
        # Keras would assign what its last step returned again, by position, if the next step fails.
        model._jax_state = None
    optimizer = optimizer_of(model)
    if keras.config.backend() == "jax" and optimizer is not None and model.train_function is not None:
        # A training step is made for variables that are there already, those of the optimizer too.
        build_slots(optimizer, model.trainable_variables)
    for name, make in _MADE_BY.items():
        if getattr(model, name, None) is not None:
            getattr(model, make)(force=True)


def trained_variables(model: Any) -> list[Any]:
    """List the variables that ``fit`` trains."""
    return without_statistics(model.trainable_variables)


def holders_alive() -> list[Any]:
    """List every model, optimizer and, on TensorFlow, ``tf.function`` alive: each may hold variables of any model."""
    for model in instances_alive(keras.Model) if keras.config.backend() == "jax" else ():
        put_values_in_place(model)
    functions = [function_class()] if keras.config.backend() == "tensorflow" else []
    return instances_alive(keras.Model, keras.optimizers.Optimizer, *functions)


def current_graph() -> Any:
    """Return what is being traced, ``None`` outside: of JAX its trace, of TensorFlow its graph."""
    backend = keras.backend.backend()
    if backend == "jax":
        from jax.core import trace_ctx  # noqa: PLC0415  of this backend alone

        trace = trace_ctx.trace
        return None if type(trace).__name__ == "EvalTrace" else trace
    if backend == "tensorflow":
        import tensorflow as tf  # noqa: PLC0415  of this backend alone

        return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    return None


def notes_of_graph() -> Any:
    """Return notes that stay as long as what they are of, on torch, which traces nothing; else nothing that stays."""
    return _NOTES if keras.backend.backend() == "torch" else {}


_NOTES: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def is_usable_here(made_in: Any) -> bool:
    """Tell whether a tensor made in some trace can be used now: in that trace."""
    return current_graph() is made_in


@contextlib.contextmanager
def changed_calls(change: Callable[[Any, Any], Any], failed: Callable[[Any], None] | None = None) -> Iterator[None]:
    """Inside, each call of a layer in this thread returns ``change(layer, outputs)``.

    ``failed(layer)`` is called for any layer whose call raises, the innermost first.

    This replaces ``Layer.__call__`` for the whole process, and calls of other threads pass through.
    """
    thread, original = threading.get_ident(), keras.Layer.__call__

    @functools.wraps(original)
    def changed(layer: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            outputs = original(layer, *args, **kwargs)
        except Exception:
            if failed is not None:
                failed(layer)
            raise
        return change(layer, outputs) if threading.get_ident() == thread else outputs

    keras.Layer.__call__ = changed
    try:
        yield
    finally:
        keras.Layer.__call__ = original


@contextlib.contextmanager
def kept_call_state(holder: Any) -> Iterator[None]:
    """Put back afterwards what a layer, and those below it, keep of their last call: its losses and random seeds.

    The random states of the process are put back too.
    """
    layers = list(holder._flatten_layers())
    before = [(each, list(each._losses), set(each._loss_ids)) for each in layers]
    states = [generator.state for each in layers for generator in each._seed_generators]
    shared = global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)  # from which draws what is given no seed
    states += [] if shared is None else [shared.state]
    seeds = [(state, value_now(state)) for state in states]
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  a user's code may draw from it
    try:
        with kept_torch_state(layers):
            yield
    finally:
        global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, shared)
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        for each, losses, ids in before:
            each._losses[:] = losses
            each._loss_ids.clear()
            each._loss_ids.update(ids)
        for state, value in seeds:
            state.assign(value)


def input_names(model: Any) -> list[str]:
    """Name the inputs of a model in the order in which it takes them; none where it does not say."""
    return [tensor.name for tensor in getattr(model, "inputs", None) or []]


def put_values_in_place(model: Any) -> None:
    """Have the variables of a model hold their values in a ``fit`` that is under way; on JAX they are elsewhere."""
    if keras.config.backend() == "jax":
        model.jax_state_sync()


def input_specs(model: Any) -> Any:
    """Read the structure of specs of a model's inputs; ``None`` if it has none."""
    inner = getattr(model, "_functional", None) or model
    if not is_graph_network(inner) or not hasattr(inner, "_inputs_struct"):
        return None
    return keras.tree.map_structure(_spec_of, inner._inputs_struct)


def _spec_of(tensor: Any) -> Spec:
    node = tensor._keras_history.operation
    consumers = [each.operation for each in node._outbound_nodes]
    embedded = any(isinstance(each, keras.layers.Embedding) for each in consumers)
    return Spec(tuple(tensor.shape), dtype_of("int32" if embedded else tensor.dtype))


def built_specs(model: Any) -> Any:
    """Read the structure of specs with which a model was built: shapes, which are taken for floats."""
    shapes = model._build_shapes_dict
    if not shapes:
        return None
    (shape, *others) = shapes.values()
    return None if others else _specs_of(shape)


def _specs_of(shapes: Any) -> Any:
    if isinstance(shapes, dict):
        return {name: _specs_of(shape) for name, shape in shapes.items()}
    if not all(size is None or isinstance(size, int) for size in shapes):
        return [_specs_of(shape) for shape in shapes]
    return Spec((None, *tuple(shapes)[1:]) if shapes else (), dtype_of(keras.config.floatx()))


def kept_input_specs(model: Any) -> Any:
    """Do nothing: a model of Keras 3 learns nothing of its inputs when it is called."""
    del model
    return contextlib.nullcontext()


def further_specs(model: Any) -> dict[str, Any]:
    """Return nothing: what a model was called with besides its inputs is not remembered."""
    del model
    return {}


def is_compiled(model: Any) -> bool:
    """Tell whether ``compile`` was called on the model."""
    return bool(getattr(model, "compiled", False))


def compilation(model: Any) -> Any:
    """Return an object that each ``compile`` makes anew, to tell whether there was one in between."""
    return getattr(model, "_compile_config", None)


def optimizer_of(model: Any) -> Any:
    """Read the optimizer of a model, ``None`` where it has none, or several; a layer that is no model never has one."""
    optimizer = getattr(model, "optimizer", None) if isinstance(model, keras.Model) else None
    return None if isinstance(optimizer, list | tuple) else optimizer


def training_argument(model: Any, training: bool) -> dict[str, bool]:
    """Return the ``training=`` argument for a call of a model or layer, or nothing if the call takes none."""
    asks = isinstance(model, keras.Model) or model._call_has_training_arg
    return {"training": training} if asks else {}


def set_optimizer(model: Any, optimizer: Any) -> None:
    """Give a model another optimizer, or none, leaving loss, metrics and all else that was compiled as it is.

    A layer that is no model has no place for one: its optimizer belongs to the user's training loop.
    """
    if not isinstance(model, keras.Model):
        return
    if is_compiled(model):
        # Saving reads the optimizer from what compile() was called with.
        model._compile_config.config["optimizer"] = optimizer
    model.optimizer = optimizer
