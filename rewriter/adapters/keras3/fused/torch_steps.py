"""On torch: a layer's product with one gradient for kernel and bias, and joint momentum over all layers at once."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

# Up to how many numbers a layer is stacked with those of its shape: a call costs more than to move so many.
_SMALL = 2**16


class Product(torch.autograd.Function):
    """``x W + b`` for ``W* = [W; b]``, whose gradient is written in one piece.

    The products and the sum are those of torch for a kernel and a bias by themselves, so all is equal bit for bit.
    Views of ``W*`` would have their gradients copied together.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Any, augmented: Any) -> Any:
        """Compute the outputs."""
        ctx.save_for_backward(inputs, augmented)
        return torch.matmul(inputs, augmented[:-1]) + augmented[-1]

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> Any:
        """Compute the gradients, such that they can be differentiated again where that is asked for."""
        (flowing,) = upstream
        inputs, augmented = ctx.saved_tensors
        of_inputs = torch.matmul(flowing, augmented[:-1].T) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return of_inputs, None
        rows, flat = inputs.reshape(-1, inputs.shape[-1]), flowing.reshape(-1, flowing.shape[-1])
        if torch.is_grad_enabled():
            return of_inputs, torch.cat([torch.mm(rows.T, flat), flat.sum(0, keepdim=True)])
        of_weights = torch.empty_like(augmented)
        torch.mm(rows.T, flat, out=of_weights[:-1])
        torch.sum(flat, 0, out=of_weights[-1])
        return of_inputs, of_weights


class Told(torch.autograd.Function):
    """A tensor as it is; to a statistic beside it flows back what was seen."""

    @staticmethod
    def forward(ctx: Any, tensor: Any, statistic: Any, seen: Any) -> Any:
        """Return the tensor."""
        del statistic
        ctx.save_for_backward(seen)
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> Any:
        """Return what flows to the tensor and to the statistic."""
        return upstream[0], *ctx.saved_tensors, None


class Measured(torch.autograd.Function):
    """Results as they are; to the carriers flows back what is measured."""

    @staticmethod
    def forward(ctx: Any, measure: Any, results: Any, inputs: Any, *carriers: Any) -> Any:
        """Return the results."""
        ctx.measure = measure
        ctx.save_for_backward(inputs, *carriers)
        return results.view_as(results)

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> Any:
        """Return what flows to the results and to the carriers."""
        (flowing,) = upstream
        inputs, *of_sums, told = ctx.saved_tensors
        with torch.no_grad():
            found = ctx.measure(inputs, flowing) if told[1] > 0 else [torch.zeros_like(each) for each in of_sums]
        return None, flowing, None, *found, torch.zeros_like(told)


def sum_of_rows(inputs: Any, dtype: str) -> Any:
    """Sum all rows of a tensor, and put the number of them behind; of all calls the fewest."""
    rows = inputs.detach().reshape(-1, inputs.shape[-1])
    return torch.nn.functional.pad(rows.sum(0, dtype=getattr(torch, dtype)), (0, 1), value=len(rows))


@torch.no_grad()  # type: ignore[untyped-decorator]
def update_together(steps: Sequence[tuple[Any, Any, Any, Any]], rate: float, momentum: float, nesterov: bool) -> None:
    """Take a step of joint momentum on several layers.

    Args:
        steps: For each layer the augmented kernel and its mean momentum, which are changed in place, the gradient, and
            in centered coordinates the mean of what each kernel row reads and a zero, of shape ``(1, rows)``.
        rate: The learning rate.
        momentum: The momentum.
        nesterov: Whether the step looks ahead.
    """
    variables, slots, gradients, inputs = map(list, zip(*steps, strict=True))
    means = _means(gradients)
    found = torch._foreach_mul(slots, momentum)
    torch._foreach_add_(means, found)
    moving = torch._foreach_mul(means, momentum) if nesterov else found
    torch._foreach_copy_(slots, means)
    torch._foreach_add_(variables, gradients, alpha=-rate)
    # What each unit moves by beside its gradient; its bias by more, in centered coordinates.
    by = torch._foreach_mul(moving, rate)
    for variable, gradient, beside, mean in zip(variables, gradients, by, inputs, strict=True):
        variable.sub_(beside)
        if mean is not None:
            variable[-1:].add_(rate * torch.mm(mean, gradient) + mean.sum() * beside)


def _means(gradients: Sequence[Any]) -> list[Any]:
    """Average each gradient over its rows, those of small layers of one shape in one call."""
    places = defaultdict(list)
    for place, gradient in enumerate(gradients):
        places[gradient.shape if gradient.numel() <= _SMALL else place].append(place)
    means: dict[int, Any] = {}
    for alike in places.values():
        if len(alike) == 1:
            means[alike[0]] = gradients[alike[0]].mean(0)
        else:
            stacked = torch.stack([gradients[place] for place in alike]).mean(1)
            means.update(zip(alike, stacked.unbind(0), strict=True))
    return [means[place] for place in range(len(gradients))]
