"""Which of some tensors the results of a function depend on, asked of each backend in its own way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    from collections.abc import Callable


def reaching(run: Callable[[Callable[[Any], Any]], Any]) -> set[int]:
    """Run a function, and tell on which of some tensors its results depend.

    Args:
        run: The function. It is given ``cut``, and calls it with each of these tensors: it returns one with the same
            numbers, to go on with. What depends on a tensor by way of another that is cut does not count.

    Returns:
        The numbers of the calls of ``cut``, from 0, on which a result depends.
    """
    backend = keras.config.backend()
    if backend == "tensorflow":
        from ...dataflow.reaching import reaching as in_tensorflow  # noqa: PLC0415  of this backend alone

        return in_tensorflow(run)
    return _in_torch(run) if backend == "torch" else _in_jax(run)


def _in_torch(run: Callable[[Callable[[Any], Any]], Any]) -> set[int]:
    import torch  # noqa: PLC0415  of this backend alone

    cut_off: list[Any] = []

    def cut(tensor: Any) -> Any:
        cut_off.append(tensor.detach().requires_grad_())
        return cut_off[-1]

    results = [each for each in keras.tree.flatten(run(cut)) if getattr(each, "requires_grad", False)]
    if not results or not cut_off:
        return set()
    gradients = torch.autograd.grad([each.sum() for each in results], cut_off, allow_unused=True)
    return {number for number, gradient in enumerate(gradients) if gradient is not None}


def _in_jax(run: Callable[[Callable[[Any], Any]], Any]) -> set[int]:
    """Trace twice: for the shapes of what is cut, and as a function of that; then leave out what no result needs."""
    import jax  # noqa: PLC0415  of this backend alone
    from jax.interpreters.partial_eval import dce_jaxpr  # noqa: PLC0415  of this backend alone

    shapes: list[Any] = []

    def traced(cut: Callable[[Any], Any]) -> list[Any]:
        with keras.StatelessScope():
            return [each for each in keras.tree.flatten(run(cut)) if isinstance(each, jax.Array)]

    def noted(tensor: Any) -> Any:
        shapes.append(jax.ShapeDtypeStruct(tensor.shape, tensor.dtype))
        return tensor

    def of_cut(values: list[Any]) -> list[Any]:
        left = iter(values)
        return traced(lambda _: next(left))

    jax.eval_shape(lambda: traced(noted))
    jaxpr = jax.make_jaxpr(of_cut)(shapes).jaxpr
    _, used = dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return {number for number, each in enumerate(used) if each}
