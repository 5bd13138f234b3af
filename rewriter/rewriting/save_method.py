"""What ``model.save`` of a rewritten model does, so that what callbacks save of it is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_ORIGIN = "_rewriter_origin"
_WRITERS: list[Callable[..., None]] = []


def save_with(writer: Callable[..., None]) -> None:
    """Set the function that saves a rewritten model: ``writer(model, filepath, overwrite, save_format, **options)``.

    The package that writes files is above this one, so it passes its function down.
    """
    _WRITERS[:] = [writer]


def take_over_saving(model: Any, origin: dict[str, Any] | None = None) -> None:
    """Make ``model.save``, which ``ModelCheckpoint`` calls, write the rewritten form with its manifest.

    Keras's own ``save`` writes a file that cannot be read if the model's config does not name its merged layers.

    Args:
        model: A rewritten model.
        origin: What its manifest is to say of where it comes from; ``None`` leaves what there is.
    """
    if not hasattr(model, "save"):  # a layer that is no model
        return
    if origin is not None:
        object.__setattr__(model, _ORIGIN, {**origin_of(model), **origin})

    def save(filepath: Any, overwrite: bool = True, save_format: str | None = None, **options: Any) -> None:
        _WRITERS[0](model, filepath, overwrite, save_format, **options)

    save.__doc__ = type(model).save.__doc__
    # Past Keras's attribute tracking.
    object.__setattr__(model, "save", save)


def origin_of(model: Any) -> dict[str, Any]:
    """Return what is known of a rewritten model's origin: ``source_sha256`` and ``settings``, if any."""
    return dict(vars(model).get(_ORIGIN, {}))


def give_back_saving(model: Any) -> None:
    """Give ``model.save`` back to Keras, and forget the model's origin."""
    vars(model).pop("save", None)
    vars(model).pop(_ORIGIN, None)
