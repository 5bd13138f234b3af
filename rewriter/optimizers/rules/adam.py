"""Adam: what the rules on whole layers do with all that is no layer, and what some do in other coordinates.

It is, with gradient ``G``::

    m ← β₁ m + (1 - β₁) G
    v ← β₂ v + (1 - β₂) G²
    W ← W - η √(1 - β₂ᵗ) / (1 - β₁ᵗ) · m / (√v + ε)

in the order of operations of Keras, bit for bit. With the decoupled weight decay of every joint optimizer it is AdamW.

Source: Kingma, Ba, *Adam* (arXiv 1412.6980); Loshchilov, Hutter, *Decoupled weight decay* (arXiv 1711.05101).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from ...adapters import keras
from ..hyperparameters import require_decay, require_number, scalar
from ..joint_optimizer import JointOptimizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rewriter.core.layout import Layout

    from ...model.walk import LocatedLayer
    from ..state.extents import Extent


def longest_step(beta_1: float, beta_2: float) -> float:
    """Return the bound on ``|m̂| / √v̂``, and so on a coordinate of a step of Adam over the rate, whatever the gradients.

    Of a mean and a mean square with their weights, by the inequality of Cauchy and Schwarz::

        |m̂| / √v̂ ≤ (1 - β₁) / √((1 - β₂) (1 - β₁²/β₂))

    Args:
        beta_1: β₁, in [0, 1).
        beta_2: β₂, in [0, 1).

    Returns:
        The bound, 1 where β₁ = β₂; infinity where β₁² ≥ β₂ > 0 or β₁ > β₂ = 0, for there is none.
    """
    if not beta_1:
        return 1 / math.sqrt(1 - beta_2)
    return (1 - beta_1) / math.sqrt((1 - beta_2) * (1 - beta_1**2 / beta_2)) if beta_1**2 < beta_2 else math.inf


class KernelInModel(NamedTuple):
    """An augmented kernel of a model, with the layer that it belongs to, where that is in the model, and its layout."""

    found: LocatedLayer
    kernel: Any
    layout: Layout


class AdamForOthers(JointOptimizer):
    """The base of rules on whole layers: variables that are no augmented kernels get AdamW.

    What it keeps has float32 whatever its variable has, or float64 if that has.

    Args:
        learning_rate: As in every joint optimizer.
        beta_1: β₁, in [0, 1).
        beta_2: β₂, in [0, 1).
        epsilon: ε, at least 0.
        **kwargs: The settings of every joint optimizer.

    Attributes:
        asks_for_output_layers: Whether its choice of layers depends on which give the model its outputs.
    """

    asks_for_output_layers: ClassVar[bool] = False
    slots: ClassVar[dict[str, Extent]] = {"first_moment": "full", "second_moment": "others"}

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **kwargs: Any,
    ) -> None:
        require_decay("beta_1", beta_1)
        require_decay("beta_2", beta_2)
        require_number("epsilon", epsilon, 0)
        super().__init__(learning_rate, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def choose_layers(self, kernels: Sequence[KernelInModel], outputs: frozenset[int]) -> None:
        """Choose which merged layers of a model the rule is for; called before slots are made for them.

        Args:
            kernels: Their augmented kernels.
            outputs: The ``id`` of the layers that give the model an output; none where that could not be found, or is
                not asked for.
        """
        del kernels, outputs

    def recall_layers(self, kernels: Sequence[Any]) -> None:
        """Choose again what was chosen, after the rule was read from a file.

        Args:
            kernels: The augmented kernels of the model, frozen ones too, in the order in which they were chosen from.
        """
        del kernels

    @property
    def lines(self) -> list[str]:
        """What the log is to say of that choice."""
        return []

    def leaves_to_adam(self, variable: Any) -> bool:
        """Tell whether a variable is an augmented kernel that gets AdamW all the same.

        Args:
            variable: The variable.
        """
        del variable
        return False

    def slot_shape(self, name: str, variable: Any) -> tuple[int, ...]:
        """Return the shape of a slot; an augmented kernel that gets AdamW has both moments, and nothing else.

        Args:
            name: The slot's name.
            variable: The variable it belongs to.
        """
        if not self.leaves_to_adam(variable):
            return super().slot_shape(name, variable)
        return tuple(variable.shape) if name in AdamForOthers.slots else ()

    def slot_dtype(self, variable: Any) -> Any:
        """Return the dtype of what is kept: float32, or float64 if the variable has that.

        Args:
            variable: The variable.
        """
        dtype = keras.stored_dtype(variable)
        return dtype if dtype.name == "float64" else keras.dtype_of("float32")

    def update_other(self, gradient: Any, variable: Any) -> None:
        """Take a step of Adam.

        Args:
            gradient: The gradient of a variable that is no augmented kernel, dense or sparse.
            variable: The variable.
        """
        self.subtract(self.adam_step(keras.ops.convert_to_tensor(gradient), variable), variable)

    def adam_step(self, gradient: Any, variable: Any) -> Any:
        """Update both moments of a variable, and return the step to subtract, of the slots' dtype.

        Args:
            gradient: Its gradient, or that in other coordinates.
            variable: The variable.
        """
        ops = keras.ops
        mean, square = self.slot("first_moment", variable), self.slot("second_moment", variable)
        gradient = ops.cast(gradient, mean.dtype)
        steps = ops.cast(self.iterations + 1, mean.dtype)
        one, two = (ops.power(scalar(beta, mean.dtype), steps) for beta in (self.beta_1, self.beta_2))
        rate = self.rate(mean.dtype) * ops.sqrt(1 - two) / (1 - one)
        mean.assign_add((gradient - mean) * (1 - self.beta_1))
        square.assign_add((ops.square(gradient) - square) * (1 - self.beta_2))
        return (mean * rate) / (ops.sqrt(ops.convert_to_tensor(square)) + self.epsilon)

    def rate(self, dtype: Any) -> Any:
        """Return the learning rate of now.

        Args:
            dtype: The dtype to return it in.
        """
        return keras.ops.cast(self.learning_rate, dtype)

    def subtract(self, step: Any, variable: Any) -> None:
        """Subtract a step from a variable, in the dtype that it is stored in.

        Args:
            step: The step.
            variable: The variable.
        """
        variable.assign_sub(keras.ops.cast(step, keras.stored_dtype(variable)))

    def standard_optimizer(self, **settings: Any) -> Any:
        """Return a fresh Adam of the same learning rate, moments and other shared settings.

        Args:
            **settings: Further settings of the Adam.
        """
        return self.standard_of("Adam", beta_1=self.beta_1, beta_2=self.beta_2, epsilon=self.epsilon, **settings)
