"""What torch keeps of variables: lists in layers, and optimizers and wrappers of its own that hold parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from rewriter.core.errors import OptimizerError

from ..instances import instances_alive

if TYPE_CHECKING:
    from collections.abc import Iterable


def handles_of(variable: Any) -> frozenset[int]:
    """Return the ``id`` of the parameter of torch in a variable; of other backends nothing."""
    return frozenset({id(variable.value)} if keras.config.backend() == "torch" else ())


def list_torch_parameters(layers: Iterable[Any], holding: frozenset[int] | None = None) -> None:
    """Have layers list anew what torch knows of their variables: on torch they keep such a list, made once.

    It is a list of all variables in a layer, in any depth. State dicts, what clears gradients, and optimizers of torch
    go by it.

    Args:
        layers: The layers.
        holding: Handles of parameters; only lists with one of these are made anew. ``None`` takes all.
    """
    for layer in layers if keras.config.backend() == "torch" else ():
        known = layer._modules.get("_torch_params")
        if known is not None and (holding is None or any(id(each) in holding for each in known.values())):
            layer._track_variables()


def refuse_in_other_libraries(handles: frozenset[int]) -> None:
    """Have torch's optimizers and ``DistributedDataParallel`` that hold replaced parameters say so when they are used.

    They would go on with these, and what the model has in their place would not be trained, or not be the same in each
    process.

    Args:
        handles: Those of the parameters that were replaced.
    """
    if not handles:
        return
    import torch  # noqa: PLC0415  of this backend alone

    for optimizer in instances_alive(torch.optim.Optimizer):
        if any(id(each) in handles for group in optimizer.param_groups for each in group["params"]):
            optimizer.register_step_pre_hook(_refuse)
    for wrapper in instances_alive(torch.nn.parallel.DistributedDataParallel):
        if any(id(each) in handles for each in getattr(wrapper, "_module_parameters", ())):
            wrapper.register_forward_pre_hook(_refuse)


def _refuse(holder: Any, *args: Any) -> None:
    del args
    raise OptimizerError(
        f"this {type(holder).__name__} of torch holds weights that rewriter has replaced since, so the model's own "
        "would not be trained. Make a new one: rewrite or split the model first, then give it to torch."
    )
