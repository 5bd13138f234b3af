"""Weight decay row by row: the kernel and the bias in one augmented kernel need not decay alike."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

from rewriter.core import hints
from rewriter.core.derived_classes import base_of, derived_class
from rewriter.core.errors import OptimizerError
from rewriter.core.layout import ViewKey, is_merged, layout_of, layouts_in

from ..adapters import DecayBase, keras

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from rewriter.core.layout import Layout

# A layer, one of the layouts of its augmented kernels, and which parts of that weight decay leaves out.
Excluded = tuple[Any, "Layout", tuple[str, ...]]

_EXCLUDED = "_rewriter_excluded_parts"


class RowwiseWeightDecay(DecayBase):
    """Mixin of an optimizer whose weight decay leaves out parts of augmented kernels."""

    learning_rate: Any

    def _rewriter_decay_rate(self, variable: Any) -> Any:
        """Return the weight decay as a scalar of a variable's dtype, rounded to float32 first, as in tf-keras."""
        return keras.ops.cast(self.weight_decay, variable.dtype)

    def _rewriter_decay_whole(self, variables: Sequence[Any]) -> None:
        """Decay variables that are no augmented kernels, as the optimizer's own class does."""
        self._rewriter_decay_as_keras(variables)

    def _rewriter_decayed_parts(self, variable: Any, layout: Layout) -> tuple[str, ...]:
        """Name the parts of an augmented kernel that weight decay acts on."""
        return decayed_parts(self, variable, layout)

    def _rewriter_decay(self, variables: Sequence[Any]) -> None:
        """Decay some variables by one step, augmented kernels row by row."""
        self._rewriter_decay_whole([variable for variable in variables if layout_of(variable) is None])
        for variable in variables:
            layout = layout_of(variable)
            if layout is None:
                continue
            parts = self._rewriter_decayed_parts(variable, layout)
            if parts:
                decay = functools.partial(self._rewriter_decay_rows, layout=layout, parts=parts)
                keras.update_on_every_replica(self, variable, decay)

    def _rewriter_decay_rows(self, variable: Any, layout: Layout, parts: tuple[str, ...]) -> None:
        # In the order of operations of tf-keras, so that each row comes out as its variable would.
        weight_decay, rate = self._rewriter_decay_rate(variable), keras.ops.cast(self.learning_rate, variable.dtype)
        steps = [
            value * weight_decay * rate if attribute in parts else keras.ops.zeros_like(value)
            for attribute, value in layout.views(variable).items()
        ]
        variable.assign_sub(layout.stack(steps))


def decayed_parts(optimizer: Any, variable: Any, layout: Layout) -> tuple[str, ...]:
    """Name the parts of an augmented kernel that an optimizer's weight decay acts on.

    As in the standard form, a part is left out whose variable was excluded, or whose variable's name matches a pattern
    of ``exclude_from_weight_decay``. So are all if the augmented kernel itself was excluded.
    """
    excluded = vars(optimizer).get(_EXCLUDED, {}).get(keras.variable_key(optimizer, variable), ())
    if keras.variable_key(optimizer, variable) in keras.decay_exclusions(optimizer).keys:
        return ()
    left_out = {*excluded, *_parts_excluded(optimizer, variable, layout)}
    return tuple(part.attribute for part in layout.parts if part.attribute not in left_out)


def _parts_excluded(optimizer: Any, variable: Any, layout: Layout) -> tuple[str, ...]:
    """Name the parts of an augmented kernel that ``exclude_from_weight_decay`` was given, as views or by name."""
    # A pattern was written for the names of the standard form, so it is searched in those first; one that is in none of
    # them and in the name of the augmented kernel was written for that.
    keys, patterns = keras.decay_exclusions(optimizer)
    kernel, whole = keras.variable_key(optimizer, variable), keras.name_of(variable)
    names = [keras.name_for_patterns(name) for name in layout.part_names(whole)]
    of_parts = [pattern for pattern in patterns if any(re.search(pattern, name) for name in names)]
    if any(re.search(pattern, keras.name_for_patterns(whole)) for pattern in patterns if pattern not in of_parts):
        return tuple(part.attribute for part in layout.parts)
    return tuple(
        part.attribute
        for part, name in zip(layout.parts, names, strict=True)
        if ViewKey(kernel, part.attribute) in keys or any(re.search(pattern, name) for pattern in of_parts)
    )


def require_rows_known(optimizer: Any, variables: Sequence[Any]) -> None:
    """Raise ``OptimizerError`` if weight decay would act on rows that the user excluded.

    Keras's own optimizers know whole variables only, and would match patterns with the name of the augmented kernel.

    Args:
        optimizer: The optimizer, about to be built.
        variables: The variables it is built for.
    """
    keys, patterns = keras.decay_exclusions(optimizer)
    if isinstance(optimizer, RowwiseWeightDecay) or not getattr(optimizer, "weight_decay", None):
        return
    for variable in variables:
        layout = layout_of(variable)
        excluded = () if layout is None else _parts_excluded(optimizer, variable, layout)
        whole = any(re.search(pattern, variable.name) for pattern in patterns)
        whole = whole or keras.variable_key(optimizer, variable) in keys
        if layout is not None and excluded and not (whole and len(excluded) == len(layout.parts)):
            raise OptimizerError(
                f"weight decay of this {type(optimizer).__name__} leaves out {' and '.join(excluded)}. These are now "
                f"rows of {keras.name_of(variable)}, and this optimizer only knows whole variables. Give it to "
                f"the model: rewriter.rewrite(model, optimizer=...), or {hints.KEEP_OPTIMIZER} if it is compiled "
                "with it. Nothing was trained yet."
            )


def has_exclusions(optimizer: Any) -> bool:
    """Tell whether weight decay leaves out some variables of an optimizer."""
    exclusions = keras.decay_exclusions(optimizer)
    if getattr(optimizer, "weight_decay", None) and isinstance(optimizer, RowwiseWeightDecay):
        return True
    return bool(exclusions.keys or exclusions.patterns or vars(optimizer).get(_EXCLUDED))


def leaves_out_any(optimizer: Any, variables: Iterable[Any]) -> bool:
    """Tell whether any of some variables, or a part of it, was excluded from the weight decay of an optimizer."""
    excluded = {*keras.decay_exclusions(optimizer).keys, *vars(optimizer).get(_EXCLUDED, {})}
    return bool(excluded) and any(keras.variable_key(optimizer, variable) in excluded for variable in variables)


def excluded_parts(optimizer: Any, layer: Any, layout: Layout) -> tuple[str, ...]:
    """Name the parts of a layer, merged or not, that were excluded as variables, whatever they are called.

    If the optimizer's own rule leaves out rows, these are named too.
    """
    if is_merged(layer):
        kernel = getattr(layer, layout.attribute)
        if isinstance(optimizer, RowwiseWeightDecay) and base_of(type(optimizer), RowwiseWeightDecay) is None:
            rule: Any = optimizer  # a joint one, whose decayed_parts may be a user's
            decayed = rule.decayed_parts(kernel, layout)
            return tuple(part.attribute for part in layout.parts if part.attribute not in decayed)
        key = keras.variable_key(optimizer, kernel)
        known: dict[Any, tuple[str, ...]] = vars(optimizer).get(_EXCLUDED, {})
        keys = keras.decay_exclusions(optimizer).keys
        views = [each for each in layout.attributes if key in keys or ViewKey(key, each) in keys]
        return tuple(dict.fromkeys([*known.get(key, ()), *views]))
    keys = keras.decay_exclusions(optimizer).keys
    return tuple(
        part.attribute for part in layout.parts if keras.variable_key(optimizer, getattr(layer, part.attribute)) in keys
    )


def copy_exclusions(stopped: Any, optimizer: Any, excluded: Sequence[Excluded]) -> None:
    """Copy the weight-decay exclusions of an optimizer to a new one.

    Args:
        stopped: The other optimizer.
        optimizer: The new one.
        excluded: As for :func:`exclude_parts`.
    """
    keys, patterns = keras.decay_exclusions(stopped)
    keras.exclude_from_decay(optimizer, keys, patterns)
    exclude_parts(optimizer, excluded)


def exclude_rows(optimizer: Any, layers: Iterable[Any]) -> bool:
    """Translate an optimizer's weight-decay exclusions to rows of the layers that are merged.

    Args:
        optimizer: An optimizer of which nothing is known: one that was given, or compiled, for merged layers.
        layers: Layers; those that are not merged are passed over.

    Returns:
        Whether that makes another one of it.
    """
    if optimizer is None or isinstance(optimizer, RowwiseWeightDecay) or not has_exclusions(optimizer):
        return False
    # Read while the optimizer still goes by variables; exclude_parts then writes rows.
    merged = [(layer, layout) for layer in layers for layout in layouts_in(layer)]
    exclude_parts(optimizer, [(*each, excluded_parts(optimizer, *each)) for each in merged])
    return isinstance(optimizer, RowwiseWeightDecay)


def exclude_parts(optimizer: Any, excluded: Sequence[Excluded], gone: Collection[Any] = ()) -> None:
    """Make weight decay leave out parts of layers, in the form they have now.

    Args:
        optimizer: An optimizer that :func:`has_exclusions`. While any layer is merged it has a class that knows rows.
        excluded: Layers that were all merged, or all separated, each with a layout and what :func:`excluded_parts`
            said of it before.
        gone: The keys of augmented kernels that are no more. Those of other layers stay.
    """
    keys = list(keras.decay_exclusions(optimizer).keys)
    merged = {}
    for layer, layout, attributes in excluded:
        if is_merged(layer):
            merged[keras.variable_key(optimizer, getattr(layer, layout.attribute))] = attributes
        else:
            keys += [keras.variable_key(optimizer, getattr(layer, attribute)) for attribute in attributes]
    keras.exclude_from_decay(optimizer, keys)
    known = vars(optimizer).get(_EXCLUDED, {})
    merged = {**{key: parts for key, parts in known.items() if key not in gone}, **merged}
    object.__setattr__(optimizer, _EXCLUDED, merged)
    # The class tells whether rows are known, so it changes with the form of the model, there and back.
    standard = base_of(type(optimizer), RowwiseWeightDecay)
    if merged and not isinstance(optimizer, RowwiseWeightDecay):
        keras.set_class(optimizer, derived_class(RowwiseWeightDecay, type(optimizer)))
    elif not merged and standard is not None:
        keras.set_class(optimizer, standard)
