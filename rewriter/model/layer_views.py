"""The views of a merged layer: its kernel and its bias, slices of the augmented kernel, to read.

All reads of a call share one split of it, so that a call has one concatenation of gradients. A layer that loops over
merged cells makes the views of those before the loop.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from rewriter.core.errors import ModelError
from rewriter.core.layout import ViewKey, is_merged, layouts_in, standard_weights

from ..adapters import keras

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .observation.flowing_back import Measured
    from .observation.inputs import Seen

# The views of the calls under way, by layer, and the graph that each were made in. A context variable, because replicas
# of a layer run in threads.
_VIEWS: contextvars.ContextVar[Mapping[int, tuple[Any, dict[str, Any]]]] = contextvars.ContextVar(
    "views", default=MappingProxyType({})
)

# What the error says where a merged weight is given a value.
HOW_TO_SET = "Set weights inside `with rewriter.standard_form(model):`, or assign to the layer's augmented_kernel."


def is_exact(layer: Any) -> bool:
    """Tell whether the gradients of a rewritten layer are those of its standard class bit for bit."""
    # Of the class: a layer may have an attribute of its own of any name.
    exact: bool = type(layer).exact_gradients
    return exact


def view_property(attribute: str) -> property:
    """Make the property of a merged layer's class that a weight becomes: a slice to read, which refuses to be set.

    Args:
        attribute: The weight's attribute.
    """

    def view(self: Any) -> Any:
        shared = _views_of(self)
        for layout in layouts_in(self):
            if attribute in layout.attributes:
                kernel = getattr(self, layout.attribute)
                view = (shared or _fresh_views(self))[attribute]
                view = view if view.dtype == kernel.dtype else keras.ops.cast(view, kernel.dtype)
                if shared is None and keras.current_graph() is None:
                    # exclude_from_weight_decay asks each variable that it is given for its key.
                    keras.set_key(view, ViewKey(keras.variable_key(None, kernel), attribute))
                    _refuse_to_assign(view, f"{attribute} of {self.name}")
                return view
        raise AttributeError(f"{self.name} is not built, so it has no {attribute} yet")

    def assign(self: Any, _: Any) -> None:
        # Not an AttributeError: Keras would replace it by one that says the name conflicts with a property.
        _refuse(f"{attribute} of {self.name}")

    return property(view, assign, doc=f"The {attribute}: a slice of an augmented kernel, in its own shape.")


def _refuse(what: str, *_: Any, **__: Any) -> None:
    raise ModelError(f"{what} is a view of a merged variable, to read. {HOW_TO_SET}")


def _refuse_to_assign(view: Any, what: str) -> None:
    """Have a view that is a tensor say why it is not to be assigned to, where the tensor can hold that."""
    for method in ("assign", "assign_add", "assign_sub"):
        with contextlib.suppress(AttributeError):  # an array of JAX
            setattr(view, method, functools.partial(_refuse, what))


def _views_of(layer: Any) -> dict[str, Any] | None:
    """Find the views of a layer that a call under way has made, if they can be used in what is traced now."""
    graph, views = _VIEWS.get().get(id(layer), (None, None))
    return views if views is not None and keras.is_usable_here(graph) else None


def _fresh_views(layer: Any) -> dict[str, Any]:
    """Take a layer's augmented kernels apart, so that graphs compute with the parts as they do unmerged.

    TensorFlow would fold the transposition of a view into the product that reads it, and on some processors that
    product rounds otherwise. It does not look behind an operation that states the shape.
    """
    views = standard_weights(layer)
    if not views or not is_exact(layer) or keras.graphs is None:
        return views
    transposed = [part for layout in layouts_in(layer) for part in layout.parts if part.transposed]
    stated = {part.attribute: keras.graphs.with_shape(views[part.attribute], part.shape) for part in transposed}
    return {**views, **stated}


@contextlib.contextmanager
def shared_views(layer: Any, seen: Sequence[Seen] = (), measured: Sequence[Measured] = ()) -> Iterator[None]:
    """Inside, all reads of the layer's views share one split, so that a call has one gradient concatenation.

    What the call has seen is told with the views of the kernels that it reads.
    """
    if is_merged(layer):
        # A cell that is called in a loop goes on with the views made before the loop.
        made = _views_of(layer)
        views = _fresh_views(layer) if made is None else made
        for each in seen:
            views = {**views, each.kernel: each.tell(views[each.kernel])}
        for call in measured:
            views = {**views, call.kernel: call.tie(views[call.kernel])}
        fresh = {} if views is made else {id(layer): views}
    else:
        # As stored, so that what flows back is summed over the steps in that dtype, as it is without a merge: where
        # precision is mixed, each read inside the loop casts.
        with keras.autocast(None):
            fresh = {id(each): _fresh_views(each) for each in keras.layers_below(layer)}
    graph = keras.current_graph()
    token = _VIEWS.set({**_VIEWS.get(), **{layer: (graph, views) for layer, views in fresh.items()}})
    try:
        yield
    finally:
        _VIEWS.reset(token)
