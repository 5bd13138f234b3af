"""Sets biases to other numbers while a model is checked: biases near zero do not show how they are used."""

from __future__ import annotations

import contextlib
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rewriter.core.layout import is_merged

from ..adapters import keras

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rewriter.core.layout import Layout, Part


class ProbeBiases:
    """The biases of some layers, and the numbers that stand for them inside :meth:`in_place`.

    Args:
        layers: Layers with the layouts of their weights, each merged or not.
    """

    def __init__(self, layers: Sequence[tuple[Any, Sequence[Layout]]]) -> None:
        self._biases = [
            (layer, layout, part)
            for layer, layouts in layers
            for layout in layouts
            for part in layout.parts[-layout.biases :]
        ]

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the biases have other numbers, with which the layers may be merged or separated meanwhile.

        Variables that are replaced meanwhile get their numbers back too: a function of the user may go on with them.
        """
        kept = [[target.value() for target in _targets(*each)] for each in self._biases]
        # By weak references, so that those that nobody holds are gone as soon as their layer is merged.
        alone = [
            (weakref.ref(target.variable), value)
            for each, of_devices in zip(self._biases, kept, strict=True)
            for target, value in zip(_targets(*each), of_devices, strict=True)
            if target.rows is None
        ]
        probes = [[_numbers(place, each[-1].shape)] * len(kept[place]) for place, each in enumerate(self._biases)]
        try:
            self._assign(probes)
            yield
        finally:
            for reference, value in alone:
                variable = reference()
                if variable is not None:
                    variable.assign(keras.ops.cast(value, variable.dtype))
            self._assign(kept)

    # Not in place: the variables of its loop would live on while the layers are merged.
    def _assign(self, values: Sequence[Sequence[Any]]) -> None:
        """Give each bias values, one for each device."""
        for each, of_devices in zip(self._biases, values, strict=True):
            for target, value in zip(_targets(*each), of_devices, strict=True):
                target.assign(value)


def _numbers(place: int, shape: tuple[int, ...]) -> Any:
    return 0.2 + 0.1 * np.cos(place + np.arange(np.prod(shape))).reshape(shape)


@dataclass(frozen=True)
class _Target:
    """A bias, as a variable of one device or rows of one: they are assigned in place, and no kernel is copied."""

    variable: Any
    part: Part
    rows: slice | None

    def value(self) -> Any:
        """Return a copy, an array of the shape that the bias has by itself."""
        found = self.variable if self.rows is None else self.part.from_rows(self.variable[self.rows])
        return keras.ops.convert_to_numpy(found).copy()

    def assign(self, value: Any) -> None:
        new = keras.ops.cast(value, self.variable.dtype)
        if self.rows is None:
            self.variable.assign(new)
        else:
            keras.assign_rows(self.variable, self.rows, self.part.to_rows(new))


def _targets(layer: Any, layout: Layout, part: Part) -> list[_Target]:
    merged = is_merged(layer)
    variable = getattr(layer, layout.attribute if merged else part.attribute)
    rows = _rows(layout, part) if merged else None
    return [_Target(single, part, rows) for single in keras.single_variables(variable)]


def _rows(layout: Layout, part: Part) -> slice:
    above = sum(each.rows for each in layout.parts[: layout.parts.index(part)])
    return slice(above, above + part.rows)
