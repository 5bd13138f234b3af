"""What ``save``, ``load_weights``, ``set_weights`` and ``compile`` of a rewritten model do beside what Keras does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rewriter.core.errors import ModelError

from ..optimizers.observed_model import build_if_observing

if TYPE_CHECKING:
    from collections.abc import Callable

_ORIGIN = "_rewriter_origin"
_METHODS: dict[str, Callable[..., Any]] = {}


def do_with(**functions: Callable[..., Any]) -> None:
    """Set what methods of a rewritten model do, by their names: each function takes the model, then what they take.

    The package that reads and writes files is above this one, so it passes its functions down.
    """
    _METHODS.update(functions)


def take_over_methods(model: Any, origin: dict[str, Any] | None = None) -> None:
    """Make a model save its rewritten form, load weights of both forms, and build what observes its layers.

    ``ModelCheckpoint`` calls ``save`` too, and Keras's own writes a file that cannot be read if the model's config does
    not name its merged layers.

    Args:
        model: A rewritten model.
        origin: What its manifest is to say of where it comes from; ``None`` leaves what there is.
    """
    if not hasattr(model, "save"):  # a layer that is no model
        return
    if origin is not None:
        object.__setattr__(model, _ORIGIN, {**origin_of(model), **origin})

    def save(filepath: Any, overwrite: bool = True, save_format: str | None = None, **options: Any) -> None:
        _METHODS["save"](model, filepath, overwrite, save_format, **options)

    def load_weights(filepath: Any, *args: Any, **options: Any) -> Any:
        return _METHODS["load_weights"](model, filepath, *args, **options)

    def compile(*args: Any, **options: Any) -> None:  # noqa: A001  as Keras calls it
        type(model).compile(model, *args, **options)
        build_if_observing(model)

    def set_weights(weights: Any) -> None:
        if len(weights) != len(model.weights):
            raise ModelError(
                f"{model.name} is merged and has {len(model.weights)} weights, and was given {len(weights)}: those of "
                "the standard form? Set them inside `with rewriter.standard_form(model):`."
            )
        type(model).set_weights(model, weights)

    for method in (save, load_weights, compile, set_weights):
        method.__doc__ = getattr(type(model), method.__name__).__doc__
        # Past Keras's attribute tracking.
        object.__setattr__(model, method.__name__, method)


def origin_of(model: Any) -> dict[str, Any]:
    """Return what is known of a rewritten model's origin: ``source_sha256`` and ``settings``, if any."""
    return dict(vars(model).get(_ORIGIN, {}))


def give_back_methods(model: Any) -> None:
    """Give the methods back to Keras, and forget the model's origin."""
    for name in ("save", "load_weights", "compile", "set_weights", _ORIGIN):
        vars(model).pop(name, None)
