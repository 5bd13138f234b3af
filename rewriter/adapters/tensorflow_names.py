"""The attributes in which TensorFlow notes what an object tracks, whichever Keras it is of."""

from __future__ import annotations

from typing import Any

# Each by its name: a layer of a user's own may well be called `_self_attention`.
BOOKKEEPING = frozenset(
    {
        "_self_attribute_sentinel",
        "_self_external_modification",
        "_self_extra_variables",
        "_self_last_wrapped_dict_snapshot",
        "_self_name_based_restores",
        "_self_non_string_key",
        "_self_saveable_object_factories",
        "_self_setattr_tracking",
        "_self_tracked_trackables",
        "_self_trainable",
        "_self_tuple_is_constructable",
        "_self_unconditional_checkpoint_dependencies",
        "_self_unconditional_deferred_dependencies",
        "_self_unconditional_dependency_names",
        "_self_update_uid",
    }
)


def untrack(holder: Any, name: str) -> None:
    """Take an attribute out of what TensorFlow saves in checkpoints, if it does."""
    # Otherwise a checkpoint would hold the old variable too, and a restored one would ask for it.
    dependencies = getattr(holder, "_self_unconditional_checkpoint_dependencies", [])
    dependencies[:] = [reference for reference in dependencies if reference.name != name]
    getattr(holder, "_self_unconditional_dependency_names", {}).pop(name, None)
