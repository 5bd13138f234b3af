"""The rules on whole layers as they would be if a layer were two variables: the kernel in the rule, the bias apart.

What a rule gains over its twin is the worth of the bias in the matrix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import tensorflow as tf

import rewriter

if TYPE_CHECKING:
    from rewriter import Layout

_OWN: dict[str, Any] = {"bias_mean": "unit", "bias_square": "unit"}  # slots


class _BiasUnderAdam(rewriter.JointOptimizer):
    """Show the rule a gradient that is zero at the bias, which gets Adam with the settings of the rule."""

    def update_layer(self, gradient: Any, variable: Any, layout: Layout) -> None:
        """Take a step of the rule with the kernel, and one of Adam with the bias."""
        if self.leaves_to_adam(variable):
            self.update_other(gradient, variable)
            return
        kernel, bias = tf.split(gradient, [layout.kernel_rows.stop, 1])
        self.bias_step = self._adam_of(bias, variable)
        super().update_layer(tf.concat([kernel, tf.zeros_like(bias)], 0), variable, layout)

    def subtract(self, step: Any, variable: Any) -> None:
        """Subtract a step from a variable, its last row that of the bias if it has one."""
        layout = rewriter.layout_of(variable)
        if layout is not None and not self.leaves_to_adam(variable):
            step = tf.concat([step[: layout.kernel_rows.stop], self.bias_step], 0)
        super().subtract(step, variable)

    def _adam_of(self, gradient: Any, variable: Any) -> Any:
        mean, square = self.slot("bias_mean", variable), self.slot("bias_square", variable)
        steps = tf.cast(self.iterations + 1, gradient.dtype)
        mean.assign_add((gradient[0] - mean) * (1 - self.beta_1))
        square.assign_add((gradient[0] ** 2 - square) * (1 - self.beta_2))
        rate = self.rate(gradient.dtype) * tf.sqrt(1 - self.beta_2**steps) / (1 - self.beta_1**steps)
        return (rate * mean / (tf.sqrt(square) + self.epsilon))[tf.newaxis]


class SOAP(_BiasUnderAdam, rewriter.SOAP):
    """SOAP on kernels."""

    slots: ClassVar = {**rewriter.SOAP.slots, **_OWN}


class Muon(_BiasUnderAdam, rewriter.Muon):
    """Muon on kernels."""

    slots: ClassVar = {**rewriter.Muon.slots, **_OWN}


class KFAC(rewriter.KFAC):
    """K-FAC with a factor of the kernel and one of the bias: the inputs' covariance with the ones is 0."""

    def moment(self, name: str, variable: Any) -> Any:
        """Return a moment, that of the inputs without the products with ones."""
        found = super().moment(name, variable)
        if name != "input_moment":
            return found
        rows = found.shape[0]
        is_bias = tf.range(rows) == rows - 1
        return tf.where(is_bias[:, tf.newaxis] == is_bias, found, 0)


class QuasiDiagonal(rewriter.QuasiDiagonal):
    """The diagonal alone: μ is 0."""

    def moment(self, name: str, variable: Any) -> Any:
        """Return the moments, those of the weights with the bias as zeros."""
        found = super().moment(name, variable)
        rows = found.shape[0]
        weights = tf.range(rows) < rows // 2
        return tf.where(weights[:, tf.newaxis], tf.zeros_like(found), found)
