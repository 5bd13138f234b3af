"""``Augmented<Class>``: a layer class whose kernel and bias are views of one augmented kernel.

A rewritten layer keeps its own ``call``; what changes is that ``layer.kernel`` and ``layer.bias`` are no longer
variables but slices of ``layer.augmented_kernel``. A layer that runs a loop over rewritten cells gets such a class as
well, with nothing merged of its own, so that the cells' kernels are sliced before the loop and not in every step of it.

The class is a subclass of the layer's own class, so everything
else about the layer, isinstance checks included, stays as it was.

The class shows itself as ``AugmentedDense`` (its ``__qualname__``) but keeps the ``__name__`` of the class it
stands for: Keras derives from that name the path of a weight inside ``.keras`` and ``.weights.h5`` files, and files
of the original model must load into the rewritten one.
"""

from __future__ import annotations

import contextlib
import contextvars
import copyreg
import functools
import inspect
from typing import TYPE_CHECKING, Any, ClassVar

from rewriter.core.derived_classes import base_of, derived_class
from rewriter.core.errors import ModelError
from rewriter.core.layout import (
    augmented_kernels,
    is_merged,
    layouts_in,
    places_among_weights,
)

from ..adapters import LayerBase, keras
from . import surgery
from .layer_views import HOW_TO_SET, is_exact, shared_views, view_property
from .observation.flowing_back import before_activation, measured_calls
from .observation.inputs import seen_by, tell_of_loop, twinned
from .pairs import DENSE, Pair, layouts_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from rewriter.core.layout import Layout

    from ..adapters.capabilities import Fused

# Files of users name this module and the classes in it: these are names, not places, and stay when the module moves.
MODULE_IN_FILES = f"{keras.LIBRARY}.augmented"
REGISTERED_NAME = "rewriter>Augmented"
# The class name in files. Where the library is missing, Keras's error quotes it, so it says what to install.
_LOADER = "AugmentedByKerasRewriter"
_STANDARD_CLASS = "standard_class"
_EXACT = "exact_gradients"
_PAIRS = "augmented_pairs"

# The key under which a config says of which layer it is, where that is asked for.
CONFIGURED = "configured_layer"
_ASKED: contextvars.ContextVar[bool] = contextvars.ContextVar("asked for the form", default=False)
_SIGNED: contextvars.ContextVar[bool] = contextvars.ContextVar("signed", default=False)


@contextlib.contextmanager
def _true_inside(variable: contextvars.ContextVar[bool]) -> Iterator[None]:
    token = variable.set(True)
    try:
        yield
    finally:
        variable.reset(token)


def signed_configs() -> AbstractContextManager[None]:
    """Inside, the config of an augmented layer has the layer's ``id`` under the key ``CONFIGURED``."""
    return _true_inside(_SIGNED)


class Augmented(LayerBase):
    """Mixin of every augmented layer class.

    Keras also loads every augmented class through this one: the config names the standard class, so no augmented class
    has to be registered before a file is read.
    """

    augmented_kernel: Any
    exact_gradients: ClassVar[bool]
    augmented_pairs: ClassVar[tuple[Pair, ...]]

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Make an unbuilt augmented layer from the config of :meth:`get_config`; it merges when it is built."""
        standard = keras.class_from_config(config[_STANDARD_CLASS])
        own = {key: value for key, value in config.items() if key not in {_STANDARD_CLASS, _EXACT, _PAIRS}}
        layer = standard.from_config(own)
        pairs = tuple(map(Pair.from_config, config[_PAIRS])) if _PAIRS in config else (DENSE,)
        keras.set_class(layer, augmented_class(standard, bool(config.get(_EXACT, True)), pairs))
        return layer

    def get_config(self) -> dict[str, Any]:
        """Return the layer's own config, the standard class it is for, what is merged, and whether it is exact."""
        config: dict[str, Any] = super().get_config()  # type: ignore[misc]
        return {
            **config,
            **({CONFIGURED: id(self)} if _SIGNED.get() else {}),
            _STANDARD_CLASS: keras.class_to_config(standard_class(self)),
            _EXACT: is_exact(self),
            **({} if pairs_in(self) == (DENSE,) else {_PAIRS: [pair.to_config() for pair in pairs_in(self)]}),
        }

    def build(self, input_shape: Any) -> None:
        """Build the layer as its own class does, then merge what it made."""
        # In its own class, so that Keras's own build and a user's see variables, as they expect.
        cls = type(self)
        if is_merged(self):
            surgery.discard(self)  # to be built again
        keras.set_class(self, standard_class(self))
        self.build(input_shape)
        keras.note_built(self, input_shape)
        if pairs := _pairs_of(cls):
            surgery.merge(self, cls, layouts_for(self, pairs))
        else:
            keras.set_class(self, cls)

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the weights, as they are merged; ``ModelError`` for those of the standard form."""
        layer: Any = self
        if is_merged(layer) and len(weights) != len(layer.weights):
            raise ModelError(
                f"{layer.name} is merged and has {len(layer.weights)} weights, and was given {len(weights)}. "
                + HOW_TO_SET
            )
        super().set_weights(weights)  # type: ignore[misc]

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Load the weights of an augmented layer, or of the standard layer it stands for, stacked here."""
        weights = keras.own_weights(self)
        layouts = layouts_in(self)
        in_standard_form = len(store) == len(weights) + sum(len(layout.parts) - 1 for layout in layouts)
        if layouts and _ASKED.get():
            raise FormNoticed(in_standard_form)
        if in_standard_form and layouts:
            store = _stack_store(store, layouts)
        super().load_own_variables(store)  # type: ignore[misc]

    def _rewriter_require_whole(self, name: str) -> None:
        """Raise ``ModelError`` if a checkpoint has a merged weight by itself, given the name that it has there."""
        if any(name in layout.attributes for layout in layouts_in(self)):
            raise ModelError(
                f"the checkpoint has {name} of {self.name} by itself, as the standard form has it, and the layer is "  # type: ignore[attr-defined]
                "merged. Load it inside `with rewriter.standard_form(model):`. Nothing was loaded."
            )

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Tell pickle what the class is made of: no module has it."""
        cls = type(self)
        reduced: Any = super().__reduce_ex__(protocol)
        make, given, *state = reduced
        made_of = (standard_class(self), is_exact(self), pairs_in(self))
        if make is vars(copyreg)["__newobj__"]:
            return _new_of, (made_of, "__new__", ()), *state
        if getattr(make, "__self__", None) is cls:
            return _new_of, (made_of, make.__name__, given), *state
        return make, given, *state

    def _rewriter_mark_copy(self) -> None:
        """Mark the variables of a copied layer: they have lost their marks, and the layer has kept its own."""
        if is_merged(self):
            surgery.mark(self, augmented_kernels(self), layouts_in(self))

    def _rewriter_standard_class(self) -> type:
        """Return the class that the layer had before it was merged."""
        return standard_class(self)


class FormNoticed(BaseException):
    """In which form a merged layer was to load its weights. Keras skips layers that raise an ``Exception``, if asked.

    Attributes:
        is_standard: Whether it is the standard form.
    """

    def __init__(self, is_standard: bool) -> None:
        super().__init__()
        self.is_standard = is_standard


def asked_for_form() -> AbstractContextManager[None]:
    """Inside, the first merged layer that is to load weights loads none, and raises :class:`FormNoticed`."""
    return _true_inside(_ASKED)


def _stack_store(store: Mapping[str, Any], layouts: Sequence[Layout]) -> dict[str, Any]:
    """Turn the stored weights of a standard layer, numbered in order, into those of its augmented layer."""
    stacked = {part.position for layout in layouts for part in layout.parts}
    values = [store[str(index)] for index in range(len(store)) if index not in stacked]
    for part in (part for layout in layouts for part in layout.parts):
        if (stored := tuple(store[str(part.position)].shape)) != part.shape:
            raise ValueError(f"{part.name} has shape {part.shape}, and the file has one of shape {stored}.")
    for place, layout in sorted(zip(places_among_weights(layouts), layouts, strict=True), key=lambda each: each[0]):
        values.insert(place, layout.stack([store[str(part.position)][()] for part in layout.parts]))
    return {str(index): value for index, value in enumerate(values)}


def standard_class(layer: Any) -> type:
    """Return the class of a layer before it was rewritten; the class it has if it is not rewritten."""
    return base_of(type(layer), Augmented) or type(layer)


def pairs_in(layer: Any) -> tuple[Pair, ...]:
    """Tell which weights of a rewritten layer are merged, or will be when it is built."""
    return _pairs_of(type(layer))


def _pairs_of(cls: Any) -> tuple[Pair, ...]:
    pairs: tuple[Pair, ...] = cls.augmented_pairs
    return pairs


def augmented_class(standard: type, exact: bool, pairs: tuple[Pair, ...]) -> type:
    """Return the augmented class of a standard layer class: one class for each, as long as layers have it.

    Args:
        standard: The standard class.
        exact: Whether gradients must be those of the standard layer bit for bit, as an optimizer needs that goes on
            with the state of the unmerged model. If not, a layer that calls itself as Keras's ``Dense`` does trains
            faster, with gradients equal to rounding; its outputs without XLA are the same bit for bit all the same.
        pairs: What is merged; none for a layer that loops over rewritten cells.
    """
    cls = derived_class(Augmented, standard, (exact, pairs), lambda: _body(standard, exact, pairs))
    keras.register_class(cls, f"{MODULE_IN_FILES}.{_LOADER}", REGISTERED_NAME)
    return cls


def _new_of(made_of: tuple[type, bool, tuple[Pair, ...]], method: str, given: Sequence[Any]) -> Any:
    """Call a method of an augmented class, given what the class is made of."""
    cls: Any = augmented_class(*made_of)
    return cls.__new__(cls) if method == "__new__" else getattr(cls, method)(*given)


def _body(standard: Any, exact: bool, pairs: tuple[Pair, ...]) -> dict[str, Any]:
    attributes = [attribute for pair in pairs for attribute in pair.attributes]
    call = _call_with_shared_views(standard)
    fused = keras.fused
    calls_as_dense = standard.call is keras.layer_classes("Dense")[0].call
    if fused is not None and calls_as_dense and (not exact or fused.product_is_exact()):
        call = _call_by_product(call, fused)
    # Wrappers and the saving code look at the parameters of call to decide what to pass.
    call.__signature__ = inspect.signature(standard.call)  # type: ignore[attr-defined]
    call.__doc__ = standard.call.__doc__
    return {
        "__module__": MODULE_IN_FILES,
        "__qualname__": f"Augmented{standard.__name__}",
        "__doc__": f"{standard.__name__} whose {' and '.join(attributes)} are views of augmented kernels.",
        _EXACT: exact,
        _PAIRS: pairs,
        "call": call,
        **{attribute: view_property(attribute) for attribute in attributes},
    }


def _call_with_shared_views(standard: Any) -> Callable[..., Any]:
    parameters = [*inspect.signature(standard.call).parameters][1:]

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        inputs = args[0] if args else kwargs.get(parameters[0]) if parameters else None
        seen, measured = ((), ()) if inputs is None else (seen_by(self, inputs), measured_calls(self, inputs))
        with shared_views(self, seen, measured), before_activation(self, measured):
            # Bound, so that where it is a tf.function the traces of this layer are its own, and can be forgotten.
            outputs = standard.call.__get__(self, standard)(*args, **kwargs)
        if inputs is None:
            return outputs
        given = dict(zip(parameters, args, strict=False)) | kwargs
        return tell_of_loop(self, inputs, given.get("mask"), outputs)

    return call


def _call_by_product(otherwise: Callable[..., Any], fused: Fused) -> Callable[..., Any]:
    def call(self: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if not fused.takes_product(inputs):
            return otherwise(self, inputs, *args, **kwargs)
        seen, measured, dtype = seen_by(self, inputs), measured_calls(self, inputs), self.compute_dtype
        observer = twinned(self, seen)
        inputs = keras.ops.cast(inputs, dtype)
        kernel, layout = keras.ops.convert_to_tensor(self.augmented_kernel), layouts_in(self)[0]
        for each in seen:
            kernel = each.tell(kernel)
        for each_call in measured:
            kernel = each_call.tie(kernel)
        twin = None if observer is None else keras.ops.cast(observer.twin, dtype)
        mean = None if observer is None else functools.partial(observer.padded_mean, dtype, keep=True)
        made = None if observer is None else observer.products.append
        outputs = fused.product(inputs, kernel, layout, twin, mean, made)
        for each_call in measured:
            outputs = each_call.through(outputs)
        return outputs if self.activation is None else self.activation(outputs)

    return call


# The current format imports this module by the class's public name. The legacy formats (.h5, SavedModel) look up the
# registered name, and wrappers such as TimeDistributed look up the bare last part of the public name.
globals()[_LOADER] = Augmented
keras.register(Augmented, REGISTERED_NAME, _LOADER)
