"""Sums that a layer keeps of what it sees: its calls tell them with the gradient, and its optimizer adds them up.

On JAX a step sees the variables that are trained, and those of the optimizer, and no others. So a sum is a trained
variable of the layer, one with ``overwrite_with_gradient``: what flows back to it is what the calls have seen, and the
optimizer adds that to it. Nothing is added where no gradient is taken, whatever a call is told of training.
"""

from __future__ import annotations

import contextlib
import weakref
from typing import TYPE_CHECKING, Any

import keras

from ...instances import instances_alive
from ..distribution import strategy_scope
from ..loss_scale import scale_for
from ..torch_holders import list_torch_parameters

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# On a statistic: how much of it still counts one step later, the kernel that it is of, and the optimizer it is for.
_DECAY, _KERNEL, _OPTIMIZER = "_rewriter_decay", "_rewriter_kernel", "_rewriter_optimizer"
# On a moment of what flows back: what it is told by, and whether it squares gradients. On what tells: how often.
TOLD, EVERY = "_rewriter_told", "_rewriter_every"
# On a kernel: the statistics of it, and the layer that holds it.
_STATISTICS, _LAYER = "_rewriter_statistics", "_rewriter_layer"


def statistic_like(variable: Any, name: str, shape: Sequence[int], decay: float | None = None) -> Any:
    """Make a variable of zeros for a statistic of an augmented kernel.

    It has float32, or float64 if the kernel has, under mixed precision too.

    Args:
        variable: The augmented kernel.
        name: Its name, in the scope of the kernel's.
        shape: Its shape.
        decay: How much of it still counts one step later, if it is one of those to which the calls of a layer add, and
            that the layer is to keep; ``None`` for one that the optimizer alone sets.
    """
    scope, slash, _ = variable.path.rpartition("/")
    dtype = "float64" if keras.backend.standardize_dtype(variable._dtype) == "float64" else "float32"
    told = decay is not None
    with strategy_scope(variable):
        statistic = keras.Variable(
            "zeros", shape=tuple(shape), dtype=dtype, trainable=told, autocast=False, aggregation="only_first_replica"
        )
    statistic._name, statistic._path = name, f"{scope}{slash}{name}"
    if told:
        statistic.overwrite_with_gradient = True
        for each in (statistic, statistic._value):
            object.__setattr__(each, _DECAY, decay)
        object.__setattr__(statistic, _KERNEL, weakref.ref(variable))
    return statistic


def hold_while_kept(statistic: Any, observers: Any) -> None:
    """Let those who observe live as long as a statistic, which a layer may keep for longer than its optimizer lives.

    Keras warns of each trained variable to which nothing flows back.
    """
    object.__setattr__(statistic, "_rewriter_observers", observers)


def is_kept_by_layer(variable: Any) -> bool:
    """Tell whether a variable is a statistic that a layer keeps."""
    return hasattr(variable, _DECAY)


def without_statistics(variables: Iterable[Any]) -> list[Any]:
    """List variables without the statistics among them."""
    return [each for each in variables if not is_kept_by_layer(each)]


def with_statistics(variables: Iterable[Any]) -> list[Any]:
    """List variables with the statistics of each behind it, in the order in which a model trains them."""
    return [each for of in without_statistics(variables) for each in (of, *statistics_of(of))]


def statistics_of(kernel: Any) -> list[Any]:
    """List the statistics of an augmented kernel."""
    return list(getattr(kernel, _STATISTICS, ()))


def note_layer(kernel: Any, layer: Any) -> None:
    """Note which layer holds a kernel, and have it hold the kernel's statistics, behind the kernel."""
    object.__setattr__(kernel, _LAYER, weakref.ref(layer))
    forget_statistics(layer, kernel)
    trained = layer._trainable_variables
    place = next((place for place, each in enumerate(trained, 1) if each is kernel), None)
    if place is not None:
        trained[place:place] = statistics_of(kernel)


@contextlib.contextmanager
def hidden_statistics(layer: Any) -> Iterator[None]:
    """Inside, a layer does not list its statistics among its weights."""
    held = list(layer._trainable_variables)
    layer._trainable_variables[:] = without_statistics(held)
    try:
        yield
    finally:
        layer._trainable_variables[:] = held


def forget_statistics(layer: Any, kernel: Any) -> None:
    """Have a layer hold the statistics of a kernel no more."""
    known = {id(each) for each in statistics_of(kernel)}
    layer._trainable_variables[:] = [each for each in layer._trainable_variables if id(each) not in known]


def optimizer_of_statistic(statistic: Any) -> Any:
    """Return the optimizer that asked for a statistic, ``None`` if it is gone."""
    return getattr(statistic, _OPTIMIZER, lambda: None)()


def kept_by_layers(optimizer: Any) -> list[Any]:
    """List the statistics that layers keep for an optimizer, in the order of the variables that it trains."""
    known = [each for of in optimizer._trainable_variables for each in statistics_of(of)]
    return [each for each in known if optimizer_of_statistic(each) is optimizer]


def attach(optimizer: Any, statistics: Sequence[Any]) -> None:
    """Have the layers of kernels keep statistics of these for an optimizer; those for one that is gone go too."""
    for statistic in statistics:
        object.__setattr__(statistic, _OPTIMIZER, weakref.ref(optimizer))
        for other in statistics_of(getattr(statistic, _KERNEL)()):
            if optimizer_of_statistic(other) is None:
                detach(other)
    new = [each for each in statistics if not any(each is known for known in statistics_of(getattr(each, _KERNEL)()))]
    for statistic in new:
        _change(statistic, lambda known, statistic=statistic: [*known, statistic])
    if new and keras.config.backend() == "torch":
        kernels = frozenset(id(getattr(each, _KERNEL)().value) for each in new)
        list_torch_parameters(instances_alive(keras.Layer), kernels)  # whatever holds a layer lists its variables too


def detach(statistic: Any) -> None:
    """Have the layer of a kernel keep a statistic no more."""
    _change(statistic, lambda known: known)


def _change(statistic: Any, changed: Any) -> None:
    kernel = getattr(statistic, _KERNEL)()
    layer = getattr(kernel, _LAYER, lambda: None)()
    if kernel is None:
        return
    if layer is not None:
        forget_statistics(layer, kernel)
    object.__setattr__(kernel, _STATISTICS, changed([each for each in statistics_of(kernel) if each is not statistic]))
    if layer is not None:
        note_layer(kernel, layer)


def tell(statistic: Any, sums: Any, tensors: Any, now: bool = False) -> Any:
    """Tell a statistic what a call has seen.

    Args:
        statistic: The statistic.
        sums: What the call has seen.
        tensors: Tensors that the call computes with. If several flow on, it is told several times: of what it keeps
            only the ratio counts.
        now: Add it at once; else it is what flows back to the statistic when a gradient flows back to the tensors.

    Returns:
        The tensors, with which the call goes on.
    """
    if now:
        statistic.assign(statistic + sums)
        return tensors
    told = _told_in_torch if keras.config.backend() == "torch" else _told
    seen = keras.ops.stop_gradient(sums)
    return keras.tree.map_structure(lambda tensor: told(tensor, keras.ops.convert_to_tensor(statistic), seen), tensors)


@keras.ops.custom_gradient  # type: ignore[untyped-decorator]
def _told(tensor: Any, statistic: Any, seen: Any) -> Any:
    del statistic

    def gradients(flowing: Any) -> Any:
        return flowing, seen, keras.ops.zeros_like(seen)

    return tensor, gradients


def _told_in_torch(tensor: Any, statistic: Any, seen: Any) -> Any:
    from ..fused.torch_steps import Told  # noqa: PLC0415  of this backend alone

    return Told.apply(tensor, statistic, seen)


def add_step(optimizer: Any, told: Sequence[tuple[Any, Any]], sums: Sequence[Any]) -> None:
    """Add to statistics what their layers have seen, at a step.

    Args:
        optimizer: The optimizer that takes it.
        told: Each statistic, and what flowed back to it.
        sums: That, over all replicas.
    """
    accumulated = optimizer.gradient_accumulation_steps
    # Whether it has moved the weights since sums were added the last time: then what is there counts less.
    is_first = keras.ops.equal(optimizer._iterations % accumulated, 0) if accumulated else True
    tellers = [statistic for statistic, _ in told if hasattr(statistic, EVERY)]
    for (statistic, _), seen in zip(told, sums, strict=True):
        if hasattr(statistic, TOLD):
            _add_moment(statistic, seen, is_first, optimizer)
        elif not hasattr(statistic, EVERY):
            _add(statistic, seen, is_first)
    for teller in tellers:
        after = (optimizer._iterations + 1) // (accumulated or 1)
        count, due = teller[0], teller[1]
        next_due = keras.ops.cast(keras.ops.equal(after % getattr(teller, EVERY), 0), teller.dtype)
        teller.assign(keras.ops.stack([_weight(teller, is_first) * count + due, next_due]))


def _weight(teller: Any, is_first: Any) -> Any:
    """Return how much of what was measured before counts: less where this step is one that measures."""
    ops = keras.ops
    counts_less = ops.logical_and(is_first, teller[1] > 0)
    return ops.cast(ops.where(counts_less, getattr(teller, _DECAY), 1.0), teller.dtype)


def _add_moment(moment: Any, seen: Any, is_first: Any, optimizer: Any) -> None:
    teller, squares_gradients = getattr(moment, TOLD)
    scale = scale_for(optimizer) if squares_gradients else None
    seen = seen if scale is None else seen / keras.ops.square(keras.ops.cast(scale, seen.dtype))
    moment.assign(_weight(teller, is_first) * moment + seen)


def _add(statistic: Any, sums: Any, is_first: Any) -> None:
    """Add to a statistic what its layer has seen, at a step.

    Args:
        statistic: The statistic.
        sums: What flowed back to it.
        is_first: Whether the optimizer has moved the weights since sums were added the last time: then what is there
            counts less.
    """
    if is_first is True and keras.config.backend() == "torch":
        statistic._value.data.mul_(getattr(statistic, _DECAY)).add_(sums)
        return
    decay = keras.ops.where(is_first, getattr(statistic, _DECAY), 1.0)
    statistic.assign(keras.ops.cast(decay, statistic.dtype) * statistic + sums)
