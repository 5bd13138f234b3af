"""What torch keeps of variables: lists in layers, and optimizers and wrappers of its own that hold parameters."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import keras

from rewriter.core.errors import OptimizerError

from ..instances import instances_alive

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


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


@contextlib.contextmanager
def kept_torch_state(layers: Iterable[Any]) -> Iterator[None]:
    """Put back afterwards the random states of torch, and the buffers and tensors that layers hold as attributes.

    Args:
        layers: The layers; modules of torch in them are looked into. On other backends nothing is done.
    """
    if keras.config.backend() != "torch":
        yield
        return
    import torch  # noqa: PLC0415  of this backend alone

    modules = {id(module): module for layer in layers for module in layer.modules()}.values()
    tensors = [
        (held, name, tensor, tensor.detach().clone())
        for module in modules
        for held in (module._buffers, vars(module))
        for name, tensor in held.items()
        if isinstance(tensor, torch.Tensor) and not isinstance(tensor, torch.nn.Parameter)
    ]
    on_devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    drawn = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(drawn)
        if on_devices:
            torch.cuda.set_rng_state_all(on_devices)
        with torch.no_grad():
            for held, name, tensor, value in tensors:
                if not torch.equal(tensor, value):
                    tensor.copy_(value)
                held[name] = tensor


def refuse_in_other_libraries(handles: frozenset[int]) -> None:
    """Have torch's optimizers and ``DistributedDataParallel`` that hold replaced parameters say so when they are used.

    They would go on with these, and what the model has in their place would not be trained, or not be the same in each
    process.

    Args:
        handles: Those of the parameters that were replaced.
    """
    if not handles or keras.config.backend() != "torch":
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
