"""The steps of an optimizer, corrected: something is subtracted from the last rows of a variable."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

import keras

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class _Correction(NamedTuple):
    """What is corrected: whatever is added to this variable while its step is taken."""

    variable: Any
    rows: slice
    of: Callable[[Any], Any]


_UNDER_WAY: ContextVar[_Correction | None] = ContextVar("correction", default=None)


@contextlib.contextmanager
def corrected_step(
    variable: Any, rows: slice, correction: Callable[[Any], Any], only_adds: bool = False
) -> Iterator[None]:
    """Inside, a step of a variable is taken; something is subtracted from some rows for it.

    Args:
        variable: The variable, that of Keras or the one of TensorFlow inside it.
        rows: Its last rows.
        correction: Given how far all rows move, returns what is to be subtracted from these; linear.
        only_adds: The step does nothing but add to the variable or subtract from it. Then it is corrected on its way:
            what an optimizer adds is a tensor that it has made anyway.
    """
    if only_adds and keras.config.backend() != "torch":  # there an optimizer moves all variables at once
        token = _UNDER_WAY.set(_Correction(variable, rows, correction))
        try:
            yield
        finally:
            _UNDER_WAY.reset(token)
        return
    # In one product with the difference: as that of two products it would be a thousand times less exact.
    if keras.config.backend() == "torch":
        held = variable._value.data  # Keras's own way to it takes longer than to copy a small one
        before = held.clone()
        yield
        held[rows] -= correction(before.neg_().add_(held))  # in place: to make room takes as long as to subtract
        return
    before = keras.ops.copy(keras.ops.convert_to_tensor(variable))
    yield
    subtract_from_rows(variable, rows, correction(keras.ops.convert_to_tensor(variable) - before))


def add_corrected(variable: Any, value: Any, sign: int, add: Callable[[Any, Any], None]) -> None:
    """Add to a variable, or subtract from it, and correct that if a step of the variable is under way.

    Args:
        variable: The variable.
        value: What is added, or subtracted.
        sign: 1 if it is added, -1 if it is subtracted.
        add: Does it.
    """
    correction = _UNDER_WAY.get()
    if correction is None or correction.variable is not variable:
        add(variable, value)
    elif keras.config.backend() == "tensorflow":
        # Done to the variable itself, TensorFlow would copy it in each later read.
        subtracted = keras.ops.pad(correction.of(value), [[correction.rows.start, 0], [0, 0]])
        add(variable, value - subtracted)
    else:
        add(variable, value)
        subtract_from_rows(variable, correction.rows, sign * correction.of(value))


def subtract_from_rows(variable: Any, rows: slice, value: Any) -> None:
    """Subtract from the last rows of a variable."""
    if keras.config.backend() == "tensorflow":
        variable.assign_sub(keras.ops.pad(value, [[rows.start, 0], [0, 0]]))
    elif keras.config.backend() == "torch":
        variable.value.data[rows] -= value
    else:
        tensor = keras.ops.convert_to_tensor(variable)
        variable.assign(keras.ops.slice_update(tensor, (rows.start, 0), tensor[rows] - value))
