"""Models: what was compiled and traced, and what they take."""

from __future__ import annotations

import contextlib
import functools
import threading
from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tf_keras
from tf_keras.src.engine.training_utils import RespectCompiledTrainableState
from tf_keras.src.mixed_precision.autocast_variable import enable_auto_cast_variables

from ..instances import instances_alive
from ..tensorflow_functions import function_class, is_traced_function
from ..tensorflow_names import untrack
from .distribution import strategy_scope
from .layers import is_graph_network
from .legacy import OPTIMIZERS
from .randomness import kept_random_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def autocast(layer: Any) -> Any:
    """Inside, mixed-precision variables read in a layer's compute dtype, as they do in its ``__call__``.

    For ``None`` they read in the dtype that they are stored in, even in a layer's ``__call__``.
    """
    return enable_auto_cast_variables(None if layer is None else layer._compute_dtype_object)


_FUNCTIONS = ("train_function", "test_function", "predict_function", "train_tf_function")


def traced_functions(model: Any) -> dict[str, Any]:
    """Read the functions that ``fit``, ``evaluate`` and ``predict`` have traced on a model."""
    return {name: getattr(model, name) for name in _FUNCTIONS} if isinstance(model, tf_keras.Model) else {}


def restore_traced_functions(model: Any, functions: dict[str, Any]) -> None:
    """Put traced functions back, valid again because the variables they hold are the model's again."""
    for name, function in functions.items():
        object.__setattr__(model, name, function)


# Each function that is traced and kept, by what makes it.
_MADE_BY = {
    "train_function": "make_train_function",
    "test_function": "make_test_function",
    "predict_function": "make_predict_function",
}


def reset_traced_functions(model: Any) -> None:
    """Make a model or layer trace its functions again: their graphs read replaced variables, and nothing says so.

    These are its own methods that are a ``tf.function``, and the functions of ``fit``, ``evaluate`` and ``predict``.
    The new ones trace when they are called. A ``fit`` that is under way calls them at its next step, so there must be
    some. Keras's own ``_reset_compile_cache`` would also record again which layers are trainable now.
    """
    for cls in type(model).__mro__:
        for method in vars(cls).values():
            if is_traced_function(method):
                method._descriptor_cache.pop(model, None)
    if not isinstance(model, tf_keras.Model):
        return
    vars(model).pop("_shard_test_function", None)  # of a parameter server
    model.train_tf_function = None
    for name, make in _MADE_BY.items():
        if getattr(model, name, None) is not None:
            setattr(model, name, None)
            with strategy_scope(model):
                getattr(model, make)()


def trained_variables(model: Any) -> list[Any]:
    """List the variables that ``fit`` trains: those that were trainable when the model was compiled."""
    # compile() records what is trainable, and training goes by that record until the next compile().
    if not is_compiled(model):
        return list(model.trainable_variables)
    with RespectCompiledTrainableState(model):
        return list(model.trainable_variables)


def holders_alive() -> list[Any]:
    """List every model, optimizer and ``tf.function`` alive: each may hold variables of any model.

    Neither Keras nor TensorFlow knows who holds a variable. A registry would miss what was made before this library was
    imported, and then another model over the same layers would train weights that are no longer used. The look at all
    objects takes 43 ms with 386,000 of them, as after importing TensorFlow; a rewrite of 20 compiled layers, 235 ms.
    """
    return instances_alive(tf_keras.Model, *OPTIMIZERS, function_class())


@contextlib.contextmanager
def changed_calls(change: Callable[[Any, Any], Any], failed: Callable[[Any], None] | None = None) -> Iterator[None]:
    """Inside, each call of a layer in this thread returns ``change(layer, outputs)``.

    ``failed(layer)`` is called for any layer whose call raises, the innermost first.

    This replaces ``Layer.__call__`` for the whole process, and calls of other threads pass through. Two narrower ways
    were tried, and each hides from the check what it is to find. With a class of its own, a layer is no more what a
    user's code may ask for, ``type(layer) is Dense``. With a ``call`` of its own, it is not known which layer refused
    its input, since Keras looks at the input before ``call``.
    """
    thread, original = threading.get_ident(), tf_keras.layers.Layer.__call__

    @functools.wraps(original)
    def changed(layer: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            outputs = original(layer, *args, **kwargs)
        except Exception:
            if failed is not None:
                failed(layer)
            raise
        return change(layer, outputs) if threading.get_ident() == thread else outputs

    tf_keras.layers.Layer.__call__ = changed
    try:
        yield
    finally:
        tf_keras.layers.Layer.__call__ = original


@contextlib.contextmanager
def kept_call_state(holder: Any) -> Iterator[None]:
    """Put back afterwards what a layer, and those below it, keep of their last call: its losses and random seeds.

    The random states of the process are put back too.
    """
    layers = [each for each in holder._flatten_layers() if hasattr(each, "_losses")]
    before = [(each, list(each._losses), list(each._eager_losses)) for each in layers]
    generators = [vars(each)["_random_generator"] for each in layers if "_random_generator" in vars(each)]
    seeds = [(each, each._seed) for each in generators if hasattr(each, "_seed")]
    try:
        with kept_random_state():
            yield
    finally:
        for each, symbolic, eager in before:
            each._losses[:] = symbolic
            each._eager_losses = eager
        for generator, seed in seeds:
            generator._seed = seed


def input_names(model: Any) -> list[str]:
    """Name the inputs of a model in the order in which it takes them; none where it does not say."""
    return list(getattr(model, "input_names", None) or [])


def put_values_in_place(model: Any) -> None:
    """Have the variables of a model hold their values in a ``fit`` that is under way, as they always do here."""
    del model


def input_specs(model: Any) -> Any:
    """Read the structure of ``TensorSpec`` of a model's inputs; ``None`` if it has none and was never called."""
    # A subclassed model has no inputs; it remembers the spec of its first call, which Keras writes into a SavedModel.
    if getattr(model, "inputs", None) and is_graph_network(model):
        return tf.nest.map_structure(lambda tensor: tf.TensorSpec(tensor.shape, _dtype_taken(tensor)), model.input)
    return model._saved_model_inputs_spec


def built_specs(model: Any) -> Any:
    """Read the structure of ``TensorSpec`` with which a model was built, as a ``.keras`` file says it.

    This is all that is known of a subclassed model that was read from a file and not called: shapes, which Keras takes
    for floats. ``None`` if the model was not built so.
    """
    try:
        return None if model._build_input_shape is None else _specs_of(model._build_input_shape)
    except ValueError:  # of an input of unknown rank, or one that there need not be
        return None


def _specs_of(shapes: Any) -> Any:
    if isinstance(shapes, dict):
        return {name: _specs_of(shape) for name, shape in shapes.items()}
    if isinstance(shapes, list | tuple) and not all(isinstance(size, int | None) for size in shapes):
        return [_specs_of(shape) for shape in shapes]
    shape = tf.TensorShape(shapes).as_list()
    return tf.TensorSpec([None, *shape[1:]] if shape else [], tf_keras.backend.floatx())


@contextlib.contextmanager
def kept_input_specs(model: Any) -> Iterator[None]:
    """Put back afterwards what a model says of its inputs, which it learns when it is called first."""
    before = (model._saved_model_inputs_spec, model._saved_model_arg_spec)
    try:
        yield
    finally:
        model._saved_model_inputs_spec, model._saved_model_arg_spec = before


def _dtype_taken(tensor: Any) -> Any:
    """Return the dtype that an input should have: integers for an embedding, where Keras may say floats."""
    consumers = [node.layer for node in tensor._keras_history.layer._outbound_nodes]
    return tf.int32 if any(isinstance(each, tf_keras.layers.Embedding) for each in consumers) else tensor.dtype


def further_specs(model: Any) -> dict[str, Any]:
    """Read the structures of ``TensorSpec`` of what a model was called with besides its inputs, by argument."""
    if is_graph_network(model) or model._saved_model_arg_spec is None:
        return {}
    places, names = model._saved_model_arg_spec
    given = {**dict(zip(model._call_spec.arg_names, places, strict=False)), **names}
    first, *_ = model._call_spec.arg_names
    return {name: spec for name, spec in given.items() if spec is not None and name not in (first, "training")}


def is_compiled(model: Any) -> bool:
    """Tell whether ``compile`` was called on the model."""
    return bool(getattr(model, "_is_compiled", False))


def compilation(model: Any) -> Any:
    """Return an object that each ``compile`` makes anew, to tell whether there was one in between."""
    return getattr(model, "compiled_loss", None)


def optimizer_of(model: Any) -> Any:
    """Read the optimizer of a model, ``None`` where it has none, or several; a layer that is no model never has one."""
    optimizer = getattr(model, "optimizer", None) if isinstance(model, tf_keras.Model) else None
    return None if isinstance(optimizer, list | tuple) else optimizer


def training_argument(model: Any, training: bool) -> dict[str, bool]:
    """Return the ``training=`` argument for a call of a model or layer, or nothing if the call takes none."""
    asks = isinstance(model, tf_keras.Model) or model._expects_training_arg
    return {"training": training} if asks else {}


def set_optimizer(model: Any, optimizer: Any) -> None:
    """Give a model another optimizer, or none, leaving loss, metrics and all else that was compiled as it is.

    A layer that is no model has no place for one: its optimizer belongs to the user's training loop.
    """
    if not isinstance(model, tf_keras.Model):
        return
    if is_compiled(model):
        # Saving reads the optimizer from what compile() was called with.
        model._compile_config.config["optimizer"] = optimizer
    model.optimizer = optimizer
    if optimizer is None:
        untrack(model, "optimizer")
