"""Optimizer state from a checkpoint that Keras defers until the optimizer is built.

Keras hands it out by position then. So the optimizer has to be built while the model has the form that the checkpoint
was written in: :func:`restore_now` builds it before layers are merged or separated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rewriter.core import hints
from rewriter.core.errors import ModelError, OptimizerError
from rewriter.core.layout import AUGMENTED_KERNEL, is_merged, layout_of

from ...adapters import keras
from ...model.walk import locate_layers
from ..centered.optimizer import is_centered
from ..joint_optimizer import is_joint
from ..layer_statistics import SUMS

if TYPE_CHECKING:
    from collections.abc import Sequence


def restore_now(model: Any, *others: Any) -> None:
    """Build the optimizer of a model, and others that are to train it, if a checkpoint has state for them.

    Args:
        model: The model, in the form that the checkpoint was written in.
        *others: Further optimizers; what is no optimizer is passed over.
    """
    for optimizer in (getattr(model, "optimizer", None), *others):
        inner = keras.inner_optimizer(optimizer)
        if keras.is_optimizer(inner) and _awaited_values(inner):
            keras.build_slots(inner, keras.trained_variables(model))


def _awaited_values(optimizer: Any) -> list[str]:
    return [] if keras.checkpoints is None else keras.checkpoints.awaited_values(optimizer)


def require_same_form(optimizer: Any, variables: Sequence[Any]) -> None:
    """Raise ``OptimizerError`` if an optimizer would get state that was saved for the other form of a model.

    Args:
        optimizer: The optimizer, about to be built.
        variables: The variables it is built for.
    """
    awaited = _awaited_values(optimizer)
    if not awaited:
        return
    sums = [name for name in awaited if name.startswith(f"{SUMS}/")]
    if sums and not (is_centered(optimizer) or is_joint(optimizer)):
        raise OptimizerError(
            f"a checkpoint has state for this {type(optimizer).__name__} that it had while it was centered, in other "
            "coordinates than the weights. Restore it into a model that was rewritten with "
            f"{hints.CENTERED}; rewriter.split(model) makes it a plain one's then."
        )
    saved, now = any(AUGMENTED_KERNEL in name for name in awaited), any(map(layout_of, variables))
    if saved is now:
        return
    forms = ("rewritten", "in standard form")
    was, is_now = forms if saved else forms[::-1]
    raise OptimizerError(
        f"a checkpoint has state for this {type(optimizer).__name__}, which Keras gives it by position when it is "
        f"built. It was saved while the model was {was}, and the model is {is_now}, so it would get to the wrong "
        "weights. Call optimizer.build(model.trainable_variables) right after the checkpoint is restored, before the "
        "model is rewritten or split; or restore the checkpoint while the model has the form that it was saved in."
    )


def require_loaded_in_its_form(model: Any) -> None:
    """Raise ``ModelError`` if a checkpoint of the rewritten form was loaded while a layer was plain.

    Nothing of the layer's kernel and bias was loaded then, and a merge would get the values of the checkpoint.
    """
    for found in locate_layers(model):
        names = [] if keras.checkpoints is None else keras.checkpoints.awaited_names(found.layer)
        if not is_merged(found.layer) and any(name.startswith(AUGMENTED_KERNEL) for name in names):
            raise ModelError(
                f"{found.paths[0]}: a checkpoint of the rewritten form was loaded while the layer was plain, so "
                "nothing of it is in the layer. Make the model again, rewrite it first, and load the checkpoint then."
            )
