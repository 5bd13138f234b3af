"""Optional: what a model computes, for discovery; by the graph of TensorFlow, or the jaxpr of JAX."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import keras
from keras.src.backend.common.variables import Variable

from ...records import NewVariableError
from ..classes import Spec, dtype_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ...records import Dataflow


def specs_like(nest: Any) -> Any:
    """Return the spec of each array or tensor in a structure; ``AttributeError`` for what is none."""
    return keras.tree.map_structure(lambda each: Spec(tuple(each.shape), dtype_of(each.dtype)), nest)


def dataflow(function: Callable[..., Any], specs: Sequence[Any], variables: Sequence[Any]) -> Dataflow:
    """Trace a function, and read from that what it does with some variables.

    Args:
        function: The function.
        specs: Its arguments, as structures of specs.
        variables: The variables; the dataflow has their places in this list.

    Raises:
        NewVariableError: The function would make a variable.
    """
    with _no_new_variables():
        if keras.config.backend() == "jax":
            from .with_jax import trace  # noqa: PLC0415  of this backend alone
        else:
            from .with_tensorflow import trace  # noqa: PLC0415  of this backend alone
        return trace(function, specs, variables)


@contextlib.contextmanager
def _no_new_variables() -> Iterator[None]:
    """Inside, :class:`~rewriter.adapters.records.NewVariableError` is raised where a variable would be made."""
    made = Variable.__init__

    def refuse(*args: Any, **kwargs: Any) -> None:
        del args, kwargs
        raise NewVariableError

    Variable.__init__ = refuse
    try:
        yield
    finally:
        Variable.__init__ = made
