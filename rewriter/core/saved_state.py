"""Whether the state of an optimizer, as a file has it, is that of the variables it has now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .log import warn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


NOT_LOADED = "the saved state of the optimizer is not loaded into this"


def has_shapes_of(name: str, variables: Sequence[Any], saved: Mapping[str, Any]) -> bool:
    """Tell whether saved values have the shapes of some variables, as far as these go; warn where they do not.

    Keras compares how many there are. A centered optimizer has, by chance, as many for two merged layers as its plain
    one has for them apart.

    Args:
        name: What to call the optimizer in the warning.
        variables: The variables, in the order in which they are saved.
        saved: The values, by the place of their variable, as a word.
    """
    pairs = [(variable, saved[str(place)]) for place, variable in enumerate(variables) if str(place) in saved]
    same = all(tuple(variable.shape) == tuple(value.shape) for variable, value in pairs)
    if not same:
        warn(
            f"{NOT_LOADED} {name}: it is that of another form of the model, or of another optimizer. To load a state "
            "of the standard form, do it inside rewriter.standard_form(model)."
        )
    return same
