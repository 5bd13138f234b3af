"""Rules of one's own, on ``rewriter.JointOptimizer``: three from the literature, each about a unit or a whole layer.

Run it with ``python samples/joint_rules.py``: it trains the digits with each.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from typing import TYPE_CHECKING, Any, ClassVar

import tensorflow as tf
import tf_keras
from rich.console import Console
from rich.table import Table

import rewriter
from handwriting import LOSS, classifier, split_digits

if TYPE_CHECKING:
    from collections.abc import Callable

EPSILON = 1e-6

register = tf_keras.saving.register_keras_serializable("samples")


class HeavyBall(rewriter.JointOptimizer):
    """What the first two rules do with the gradient they have changed: SGD with momentum."""

    slots: ClassVar = {"velocity": "full"}

    def __init__(self, learning_rate: Any = 0.01, momentum: float = 0.9, **kwargs: Any) -> None:
        super().__init__(learning_rate, **kwargs)
        self.momentum = momentum

    def update_other(self, gradient: Any, variable: Any) -> None:
        """V ← μ V + G, W ← W - η V."""
        velocity = self.slot("velocity", variable)
        velocity.assign(self.momentum * velocity + gradient)
        super().update_other(velocity, variable)


@register
class GradientCentralization(HeavyBall):
    """G ← G - 1 · mean₀(G), of the kernel rows alone or with the bias (Yong et al. 2020, arXiv 2004.01461)."""

    def __init__(
        self, learning_rate: Any = 0.01, momentum: float = 0.9, with_bias: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(learning_rate, momentum, **kwargs)
        self.with_bias = with_bias

    def update_layer(self, gradient: Any, variable: Any, layout: rewriter.Layout) -> None:
        """Subtract from the gradient of each unit its mean over the incoming connections."""
        rows = gradient if self.with_bias else gradient[layout.kernel_rows]
        centered = rows - tf.reduce_mean(rows, axis=layout.incoming_axis, keepdims=True)
        left = [] if self.with_bias else [gradient[layout.bias_rows]]
        self.update_other(tf.concat([centered, *left], axis=layout.incoming_axis), variable)


@register
class AdaptiveClipping(HeavyBall):
    """Where ‖G_j‖ > λ max(‖W_j‖, ε), G_j is scaled down to that, per unit j (Brock et al. 2021, arXiv 2102.06171)."""

    def __init__(self, learning_rate: Any = 0.01, momentum: float = 0.9, bound: float = 0.01, **kwargs: Any) -> None:
        super().__init__(learning_rate, momentum, **kwargs)
        self.bound = bound

    def update_layer(self, gradient: Any, variable: Any, layout: rewriter.Layout) -> None:
        """Clip the gradient of each unit, kernel column and bias together, by the norm of its weights."""
        largest = self.bound * tf.maximum(tf.norm(variable, axis=layout.incoming_axis), 1e-3)
        norms = tf.norm(gradient, axis=layout.incoming_axis)
        self.update_other(tf.where(norms > largest, gradient * (largest / norms), gradient), variable)


@register
class Lamb(rewriter.JointOptimizer):
    """u = m̂ / (√v̂ + ε) + λ W; W ← W - η (‖W‖ / ‖u‖) u, one trust ratio a layer (You et al. 2019, arXiv 1904.00962)."""

    slots: ClassVar = {"m": "full", "v": "full"}

    def __init__(self, learning_rate: Any = 0.01, betas: Any = (0.9, 0.999), decay: float = 0.0, **kwargs: Any) -> None:
        super().__init__(learning_rate, **kwargs)
        self.betas, self.decay = list(betas), decay

    def update_layer(self, gradient: Any, variable: Any, layout: rewriter.Layout | None) -> None:  # noqa: ARG002
        """Take Adam's step, scaled so that it is as long as the layer's weights."""
        m, v, (beta_1, beta_2) = self.slot("m", variable), self.slot("v", variable), self.betas
        m.assign(beta_1 * m + (1 - beta_1) * gradient)
        v.assign(beta_2 * v + (1 - beta_2) * gradient**2)
        rate, step = tf.cast(self.learning_rate, m.dtype), tf.cast(self.iterations + 1, m.dtype)
        adam = m / (1 - beta_1**step) / (tf.sqrt(v / (1 - beta_2**step)) + EPSILON)
        update = adam + self.decay * variable
        norms = tf.norm(variable), tf.norm(update)
        ratio = tf.where((norms[0] > 0) & (norms[1] > 0), norms[0] / norms[1], tf.ones_like(norms[0]))
        variable.assign_sub(rate * ratio * update)

    def update_other(self, gradient: Any, variable: Any) -> None:
        """Take the same step: a variable that belongs to no layer has a trust ratio of its own."""
        self.update_layer(tf.convert_to_tensor(gradient), variable, None)


RULES: dict[str, Callable[[], rewriter.JointOptimizer]] = {
    "joint momentum": lambda: rewriter.JointMomentum(0.05),
    "gradient centralization, kernel rows": lambda: GradientCentralization(0.05),
    "gradient centralization, with the bias": lambda: GradientCentralization(0.05, with_bias=True),
    "adaptive gradient clipping": lambda: AdaptiveClipping(0.05),
    "LAMB, one trust ratio a layer": lambda: Lamb(0.01),
}


def main(epochs: int = 15) -> None:
    """Train the digits with each rule."""
    data = split_digits()
    table = Table("rule", "test accuracy", title=f"{epochs} epochs, 64-256-256-10, batches of 32")
    for name, rule in RULES.items():
        model = classifier()
        model.compile("sgd", LOSS, metrics=["accuracy"])
        rewriter.rewrite(model, optimizer=rule())
        model.fit(*data["train"], epochs=epochs, batch_size=32, verbose=0)
        table.add_row(name, f"{model.evaluate(*data['test'], verbose=0)[1]:.4f}")
    Console().print(table)


if __name__ == "__main__":
    main()
