"""What a merged layer sees in training is added up for those who ask: sums of its features, and their number.

Who asks leaves an observer with the augmented kernel. A call of the layer in training adds to it; inference adds
nothing, nor does a call that is only a check.
"""

from __future__ import annotations

import contextlib
import contextvars
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from rewriter.core.derived_classes import original_class
from rewriter.core.errors import ModelError
from rewriter.core.layout import is_merged, layouts_in
from rewriter.core.log import log
from rewriter.core.messages import listed

from ...adapters import keras

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from contextlib import AbstractContextManager

    from rewriter.core.input_flow import InputFlow
    from rewriter.core.layout import Layout

_MARK = "_rewriter_observers"
_NAMED = 4  # variables that a warning names
_OBSERVED: contextvars.ContextVar[Literal["never", "training", "always"]] = contextvars.ContextVar(
    "observed", default="training"
)


@dataclass(eq=False)
class Observer:
    """Variables to which the calls of a layer add.

    Attributes:
        layout: The layout of the layer's augmented kernel.
        seen: A vector: the sum of each feature, in the order of the layout's
            :class:`~rewriter.core.input_flow.InputFlow`, and the number of positions.
        twin: A scalar whose gradient is that of the kernel in centered coordinates; ``None`` if nobody asks for that.
        bias_scale: By how much more than 1 the step of the bias is multiplied, and how far it may go; ``None`` if it
            is not scaled.
        optimizer: Returns the optimizer that asks.
    """

    layout: Layout
    seen: Any
    twin: Any
    bias_scale: Any
    optimizer: Callable[[], Any]
    _changes: int = 0

    @property
    def flow(self) -> InputFlow:
        """How the input flows into the kernel; known of every layer that is observed."""
        assert self.layout.flow is not None, "only a layer whose input is known is observed"  # noqa: S101
        return self.layout.flow

    @property
    def biases(self) -> int:
        """How many bias rows there are."""
        rows = self.layout.bias_rows
        count: int = rows.stop - rows.start
        return count

    @property
    def reads_features(self) -> bool:
        """Whether each kernel row reads a feature of its own, in their order, and there is one bias row."""
        flow = self.flow
        return not flow.by_unit and flow.taps == 1 and self.biases == 1

    @property
    def variables(self) -> list[Any]:
        """The variables that are saved."""
        return [self.seen, *([] if self.bias_scale is None else [self.bias_scale])]

    @property
    def products(self) -> list[Any]:
        """The gradients of the kernel that calls with the twin have made in this graph since the last step.

        If that of the whole loss is no sum of these alone, the kernel is used in another way too, and the twin knows a
        part only.
        """
        return self._in_graph().products

    def tell(self, sums: Any, tensors: Any) -> Any:
        """Add the sums of a call.

        Args:
            sums: The sums.
            tensors: A tensor that the call computes its result with, or a structure of them.

        Returns:
            The same, with which the call goes on: a Keras may add when the gradient flows back through them.
        """
        self._changes += 1
        return keras.tell(self.seen, sums, tensors, now=_OBSERVED.get() == "always")

    def forget(self, decay: float) -> None:
        """Let what was seen up to now weigh less, after a step."""
        keras.decay_statistic(self.seen, decay, self._read_once().seen)
        self._changes += 1
        self.products.clear()

    def mean(self, dtype: Any) -> Any:
        """Return the mean of the features in some dtype, of shape ``(features,)``; zeros before the first call."""
        return keras.ops.cast(self._read_once().means[:-1], dtype)

    def padded_mean(self, dtype: Any, keep: bool = False) -> Any:
        """Return the mean of the features and a zero, as a row: what lies beside ``[x, 1]``.

        Args:
            dtype: The dtype to return.
            keep: Whether what is read is kept for the step, so that the graph reads it once; only where there is one
                replica, as they share an observer.
        """
        read = self._read_once()
        if keep:
            self._in_graph().read = read
        return keras.ops.cast(read.padded, dtype)

    def last(self, dtype: Any) -> Any:
        """Return the row of :meth:`padded_mean` that has a one at the end and else zeros."""
        noted = self._in_graph()
        if noted.last is None or noted.last.dtype != dtype:
            features = self.flow.features
            noted.last = keras.ops.convert_to_tensor(np.eye(1, features + 1, features), dtype)
        return noted.last

    def _read_once(self) -> _Read:
        kept = self._in_graph().read
        if kept is not None and kept.changes == self._changes:
            return kept
        seen = keras.ops.convert_to_tensor(self.seen)
        means = keras.ops.divide_no_nan(seen, seen[-1])
        read = _Read(self._changes, seen, means, means * (1 - self.last(seen.dtype)))
        if keras.graphs is None:
            self._in_graph().read = read  # of Keras 3, notes stay where nothing is traced, on torch
        return read

    def _in_graph(self) -> _InGraph:
        noted: _InGraph = keras.notes_of_graph().setdefault(self, _InGraph())
        return noted


@dataclass
class _InGraph:
    """What is known of an observer in the graph that is being traced."""

    products: list[Any] = field(default_factory=list)
    read: _Read | None = None
    last: Any = None


class _Read(NamedTuple):
    """What was seen, after some changes: the sums, the means with a one behind, and as a row with a zero behind."""

    changes: int
    seen: Any
    means: Any
    padded: Any


class Observers:
    """The observers of an optimizer, which keeps them; augmented kernels only know them as long as it does.

    Attributes:
        of: The observers, by the key of each augmented kernel.
        called: The keys of those that calls have been told to, and of those of which it was said that none were.
    """

    def __init__(self) -> None:
        self.of: dict[Any, Any] = {}
        self.called: set[Any] = set()

    def add(self, kernel: Any, key: Any, observer: Any) -> None:
        """Have the calls of a layer add to an observer from now on.

        Args:
            kernel: The layer's augmented kernel.
            key: The kernel's key.
            observer: The observer.
        """
        self.of[key] = observer
        for each in keras.variable_and_wrapped(kernel):
            known = [held for held in getattr(each, _MARK, ()) if held[0]() not in (None, self)]
            object.__setattr__(each, _MARK, (*known, (weakref.ref(self), key)))

    def warn_of_uncalled(self, optimizer: Any, variables: Iterable[Any], left_out: Collection[Any] = ()) -> None:
        """Warn, once, of variables that are to move, while no call of their layers was one of training.

        Args:
            optimizer: The optimizer.
            variables: The variables.
            left_out: The keys of those of which nobody needs to know.
        """
        if self.called >= self.of.keys():
            return
        moved = {keras.variable_key(optimizer, each): keras.name_of(each) for each in variables}
        uncalled = self.of.keys() - self.called - set(left_out)
        names = [name for key, name in moved.items() if key in uncalled]
        if names:
            self.called.update(moved)
            log.warning(
                "%s moves %s, and has seen no call in training of the layers that they are of, so it knows nothing of "
                "what these read. A model that is called with training=False, or where no gradient is taken, is not "
                "seen; nor are calls before the optimizer is built, as optimizer.build(model.trainable_variables) "
                "does, or in a function that was traced before.",
                original_class(type(optimizer)).__name__,
                listed(names if len(names) <= _NAMED else [*names[:_NAMED], f"{len(names) - _NAMED} more"]),
            )


def unobserved() -> AbstractContextManager[None]:
    """Inside, calls of layers add to no observer."""
    return _observing("never")


def observing_all() -> AbstractContextManager[None]:
    """Inside, calls of layers add to observers in inference too."""
    return _observing("always")


@contextlib.contextmanager
def _observing(which: Literal["never", "always"]) -> Iterator[None]:
    token = _OBSERVED.set(which)
    try:
        yield
    finally:
        _OBSERVED.reset(token)


class Seen(NamedTuple):
    """What a call of a layer has seen for one observer, not told yet."""

    observer: Observer
    sums: Any

    def tell(self, tensor: Any) -> Any:
        """Tell it, with a tensor as in :meth:`Observer.tell`."""
        return self.observer.tell(self.sums, tensor)

    @property
    def kernel(self) -> str:
        """The layer's attribute that is its kernel, a view that every call reads."""
        return self.observer.layout.attributes[0]


def seen_by(layer: Any, inputs: Any) -> list[Seen]:
    """Return what a layer is called with, for each observer of its augmented kernels, if the call is one of training.

    Args:
        layer: A merged layer. One that reads a state too is called in a loop, where it cannot be observed.
        inputs: The first argument of its call.
    """
    seen = []
    for layout in layouts_in(layer):
        known = _told_inputs(layer, layout) if layout.flow is not None and not layout.flow.states else []
        if known and layout.flow is not None and layout.flow.told:
            _require_features(layer, inputs, layout.flow.inputs)
        seen += [Seen(observer, _sums(layer, observer, inputs, keras.mask_of(inputs))) for observer in known]
    return seen


def twinned(layer: Any, seen: Iterable[Seen]) -> Observer | None:
    """Return the observer whose twin a call that can make use of one is to use, ``None`` for a call as ever."""
    with_twin = [each.observer for each in seen if each.observer.twin is not None]
    one = with_twin[0] if len(with_twin) == 1 else None
    return one if one is not None and keras.can_have_twin(getattr(layer, one.layout.attribute)) else None


def tell_of_loop(layer: Any, inputs: Any, mask: Any, outputs: Any) -> Any:
    """Add what a layer has given to its merged cell in a loop to the observers of the cell's augmented kernels.

    Of its states the layer tells no more than it returns: all, or the last ones. The mean of these stands for the mean
    of the states.

    Args:
        layer: A layer that calls a cell in a loop; of several cells in one loop nothing is known.
        inputs: The first argument of its call.
        mask: The mask that the call was given, ``None`` if it was given none.
        outputs: What the call returned.

    Returns:
        What it returns now.
    """
    cell = getattr(layer, "cell", None)
    for layout in layouts_in(cell) if cell is not None and is_merged(cell) else ():
        for observer in _told_inputs(cell, layout) if layout.flow is not None and layout.flow.states else []:
            first, returned = (each[0] if isinstance(each, list | tuple) else each for each in (inputs, outputs))
            of_outputs = None if mask is None else keras.mask_of_outputs(layer, mask)
            of_inputs, of_states = _sums(cell, observer, first, mask), _sums(cell, observer, returned, of_outputs)
            scaled = keras.ops.divide_no_nan(of_states[:-1], of_states[-1]) * of_inputs[-1]
            seen = keras.ops.concatenate([of_inputs[:-1], scaled, of_inputs[-1:]], axis=0)
            outputs = observer.tell(seen, outputs)
    return outputs


def observers_of(layer: Any, layout: Layout) -> list[Any]:
    """List those to whom a call that is under way tells what it sees, of every kind."""
    held = getattr(getattr(layer, layout.attribute), _MARK, ())
    if not held or not _is_observed():
        return []
    found = []
    for reference, key in held:
        observers = reference()
        if observers is not None:
            observers.called.add(key)
            found.append(observers.of[key])
    return found


def _told_inputs(layer: Any, layout: Layout) -> list[Observer]:
    return [each for each in observers_of(layer, layout) if isinstance(each, Observer)]


def _require_features(layer: Any, inputs: Any, features: int) -> None:
    shape = tuple(getattr(inputs, "shape", ()))
    if not shape or shape[-1] != features:
        raise ModelError(
            f"{layer.name}: rewriter.pair said reads_input=True, and the layer was called with an input of shape "
            f"{shape}, where the kernel has {features} rows. Split the model, and declare the pair without it."
        )


def may_skip_steps(layer: Any, optimizer: Any) -> bool:
    """Tell whether a batch whose numbers are not finite may be skipped by a loss scale: it is not to be added up."""
    scaled = keras.loss_scale is not None and keras.loss_scale.surrounds(optimizer)
    return scaled or layer.compute_dtype == "float16"


def _sums(layer: Any, observer: Observer, values: Any, mask: Any) -> Any:
    guarded = may_skip_steps(layer, observer.optimizer())
    return keras.sum_of_features(values, observer.flow.axes, observer.seen.dtype, guarded, mask)


def _is_observed() -> bool:
    which = _OBSERVED.get()
    return which == "always" or (which == "training" and keras.is_training_call())
