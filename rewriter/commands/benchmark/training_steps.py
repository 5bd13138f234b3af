"""What ``fit`` and ``predict`` do with one batch, as a function to be timed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...adapters import keras

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..data_batches import Batch


@dataclass(frozen=True)
class TrainingStep:
    """A training step.

    Attributes:
        take: Takes it, and returns when it is done.
        period: After how many steps what one costs repeats, as a rule that decomposes matrices does so now and then.
    """

    take: Callable[[], Any]
    period: int = 1

    def __call__(self) -> Any:
        """Take the step."""
        return self.take()


def training_step(model: Any, optimizer: Any, batch: Batch, jit_compile: bool = False) -> TrainingStep:
    """Make the training step of a model under an optimizer.

    With targets it is the model's own ``train_step`` with what it was compiled with; without, that of any Keras model.
    It counts on the optimizer: give each step one of its own.

    Args:
        model: The model. Its optimizer and, without targets, its loss are replaced.
        optimizer: The optimizer.
        batch: What it trains on, the same batch in each call.
        jit_compile: Whether XLA compiles the step, as ``compile(jit_compile=True)`` would.

    Returns:
        A function that takes the step and returns when it is done.
    """
    take = keras.training_step(model, optimizer, batch.inputs, batch.targets, batch.spec, jit_compile)
    return TrainingStep(take, getattr(keras.inner_optimizer(optimizer), "_rewriter_period", 1))


def inference(model: Any, batch: Batch, jit_compile: bool = False) -> Callable[[], Any]:
    """Make the forward pass of a model, as ``predict`` does it.

    Args:
        model: The model.
        batch: What it takes.
        jit_compile: Whether XLA compiles it.

    Returns:
        A function that runs it and returns when it is done.
    """
    step: Callable[[], Any] = keras.inference_step(model, batch.inputs, batch.spec, jit_compile)
    return step
