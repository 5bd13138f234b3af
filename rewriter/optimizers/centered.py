"""Centered coordinates: any elementwise optimizer, as if the inputs of each layer had no mean.

With ``m`` the mean of a layer's inputs, ``x W + b = (x - m) W + b'`` where ``b' = b + mᵀ W``. The function is the same.
The gradient of ``(W, b')`` is ``(G_W - m ⊗ G_b, G_b)``, and a step ``(ΔW, Δb')`` found there is ``(ΔW, Δb' - mᵀ ΔW)``
here. It mixes kernel and bias, so only an optimizer that sees both can take it. The change takes away the largest
eigenvalue of the inputs' second moment, which after ReLU or with raw features is most of the ill-conditioning.

``m = S / n``: each call in training adds the sum of its inputs to ``S`` and their number to ``n``, and after each step
both are multiplied by ``decay``. With batches of one size that is the bias-corrected running mean.

Sources: LeCun, Bottou, Orr, Müller, *Efficient BackProp* (1998); Schraudolph, *Centering neural network gradient
factors* (1998); Wiesler, Richard, Schlüter, Ney, *Mean-normalized stochastic gradient for large-scale deep learning*
(2014).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rewriter.adapters import CenteredBase, keras
from rewriter.core.derived_classes import derived_class, original_class, without
from rewriter.core.errors import OptimizerError
from rewriter.core.layout import layout_of
from rewriter.model.input_observation import Observer, Observers
from rewriter.optimizers.hyperparameters import require_number
from rewriter.optimizers.state.slots import ELEMENTWISE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_STATE = "_rewriter_observers"
_DECAY = "_rewriter_centered_decay"
# What cannot be taken in other coordinates, and why.
_REFUSED = {
    "Ftrl": "it sets weights absolutely, and would undo each correction of a bias",
    "Adafactor": "it is not elementwise: its slots are means over rows and columns",
}


class Centered(CenteredBase):
    """An optimizer that takes its steps in centered coordinates: the mixin of each such class."""

    def _rewriter_build_statistics(self, variables: Sequence[Any]) -> None:
        """Make the sums and numbers of the layers whose kernels are trained, each once."""
        observers: Observers = vars(self)[_STATE]
        for variable in variables:
            layout, key = layout_of(variable), keras.variable_key(self, variable)
            if layout is None or layout.flow is None or key in observers.of:
                continue
            seen = keras.statistic_like(variable, "inputs", (layout.flow.features + 1,))
            observers.add(variable, key, Observer(layout, seen, keras.twin_of(variable)))

    def _rewriter_begin_step(self) -> None:
        """Share the sums over the replicas, so that all take the same step."""
        observers: Observers = vars(self)[_STATE]
        keras.share_over_replicas([observer.seen for observer in observers.of.values()])

    def _rewriter_observer(self, variable: Any) -> Observer | None:
        observers: Observers = vars(self)[_STATE]
        return observers.of.get(keras.variable_key(self, variable))

    def _rewriter_twin_of(self, variable: Any) -> Any:
        """Return the scalar whose gradient is ``[x - m, 1]ᵀ dy``, ``None`` unless all calls of the layer used it."""
        observer = self._rewriter_observer(variable)
        return None if observer is None or observer.untwinned else observer.twin

    def _rewriter_changed_gradient(self, gradient: Any, variable: Any) -> Any:
        """Return ``(G_W - m ⊗ G_b, G_b)`` for an augmented kernel whose input is known, any other gradient as it is."""
        observer = self._rewriter_observer(variable)
        if observer is None:
            return gradient
        layout, mean = observer.layout, _spread(observer, gradient.dtype)
        kernel, bias = gradient[layout.kernel_rows], gradient[layout.bias_rows]
        beside = mean if _is_of_units(observer) else keras.ops.transpose(mean)
        return keras.ops.concatenate([kernel - beside * bias, bias], axis=0)

    def _rewriter_change_step(self, variable: Any, step: Callable[[], None]) -> None:
        """Take the step, and subtract ``mᵀ ΔW`` from the bias of an augmented kernel whose input is known."""
        observer = self._rewriter_observer(variable)
        if observer is None:
            step()
            return
        layout, mean = observer.layout, _spread(observer, variable.dtype)
        nothing = keras.ops.zeros((1, layout.shape[0] - layout.kernel_rows.stop), variable.dtype)

        def correction(moved: Any) -> Any:
            moved = keras.ops.convert_to_tensor(moved)
            if _is_of_units(observer):
                return mean * keras.ops.sum(moved[layout.kernel_rows], axis=0, keepdims=True)
            # With zeros beside the bias, as XLA would copy a slice before it multiplies.
            return keras.ops.matmul(keras.ops.concatenate([mean, nothing], axis=1), moved)

        if self._rewriter_adds_its_steps:
            with keras.corrected_additions(variable, layout.bias_rows, correction):
                step()
        else:
            # In one product with the difference: as that of two products it would be a thousand times less exact.
            before = keras.ops.convert_to_tensor(variable)
            step()
            moved = keras.ops.convert_to_tensor(variable) - before
            keras.subtract_from_rows(variable, layout.bias_rows, correction(moved))

    @property
    def _rewriter_adds_its_steps(self) -> bool:
        """Whether the optimizer only adds to a variable or subtracts from it, as tf-keras's elementwise ones do."""
        return original_class(type(self)) in ELEMENTWISE

    def _rewriter_end_step(self) -> None:
        """Let what was seen before weigh less."""
        observers: Observers = vars(self)[_STATE]
        for observer in observers.of.values():
            observer.untwinned = False
            observer.seen.assign(vars(self)[_DECAY] * keras.ops.convert_to_tensor(observer.seen), read_value=False)


def _spread(observer: Observer, dtype: Any) -> Any:
    """Return the mean of a layer's inputs as a row, one number for each kernel row, or for each unit."""
    assert observer.layout.flow is not None, "only a layer whose input is known is observed"  # noqa: S101
    return observer.layout.flow.spread(observer.mean(dtype))


def _is_of_units(observer: Observer) -> bool:
    return bool(observer.layout.flow and observer.layout.flow.copies)


def center(optimizer: Any, decay: float = 0.99) -> Any:
    """Make an optimizer take its steps in centered coordinates. In place; :func:`uncenter` is the inverse.

    Args:
        optimizer: An elementwise optimizer, or a joint one.
        decay: How much of what was seen before counts at the next step, in [0, 1].

    Returns:
        The same optimizer, of a class derived from its own and :class:`Centered`.

    Raises:
        OptimizerError: The optimizer cannot be centered.
        ValueError: ``decay`` is not in its range.
    """
    require_number("decay", decay, 0, 1)
    if keras.inner_optimizer(optimizer) is not optimizer:
        raise OptimizerError(
            "a LossScaleOptimizer goes around a centered optimizer, and not inside it: "
            "LossScaleOptimizer(rewriter.Centered(optimizer))."
        )
    for name, why in _REFUSED.items():
        if isinstance(optimizer, keras.optimizer_classes(name)):
            raise OptimizerError(f"{name} cannot be centered: {why}. Take Adam, for example.")
    object.__setattr__(optimizer, _STATE, Observers())
    object.__setattr__(optimizer, _DECAY, decay)
    keras.set_class(optimizer, derived_class(Centered, type(optimizer)))
    return optimizer


def uncenter(optimizer: Any) -> Any:
    """Give an optimizer back the class that it had before :func:`center`, in place; returns it."""
    if isinstance(optimizer, Centered):
        keras.set_class(optimizer, without(type(optimizer), Centered))
        del vars(optimizer)[_STATE], vars(optimizer)[_DECAY]
    return optimizer
