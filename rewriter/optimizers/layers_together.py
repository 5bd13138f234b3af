"""Rules that see all layers of a step at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from rewriter.core.layout import layout_of

from ..adapters import OptimizerBase, keras
from . import rule_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rewriter.core.layout import Layout


class LayerStep(NamedTuple):
    """One layer in a step, as :meth:`JointOptimizer.update_layers` is given it.

    Attributes:
        gradient: The gradient of the augmented kernel.
        variable: The augmented kernel; assign to it.
        layout: Its layout.
    """

    gradient: Any
    variable: Any
    layout: Layout


class StepsTogether(OptimizerBase):
    """A Keras optimizer whose rule may be given all layers of a step together."""

    def update_layers(self, layers: Sequence[LayerStep]) -> None:
        """Apply one step of the rule to all layers at once: by :meth:`update_layer` for each, unless overridden.

        For a rule that needs a number of all layers together, such as a bound on the length of the whole step. It runs
        when the gradients are summed over the replicas, clipped, and weight decay is done, once for each replica.

        Args:
            layers: The layers that have a gradient in this step, each with ``gradient``, ``variable`` and ``layout``,
                as :meth:`update_layer` is given them.
        """
        for layer in layers:
            rule_errors.run_hook(self, "update_layer", *layer)

    @property
    def _rewriter_sees_all(self) -> bool:
        return type(self).update_layers is not StepsTogether.update_layers

    def _rewriter_waits(self, variable: Any) -> bool:
        return self._rewriter_sees_all and layout_of(variable) is not None

    def _rewriter_step_together(self, steps: Sequence[tuple[Any, Any]]) -> None:
        layers = []
        for gradient, variable in steps:
            layout = layout_of(variable)
            assert layout is not None, "only layers wait"  # noqa: S101
            layers.append(LayerStep(keras.ops.convert_to_tensor(gradient), variable, layout))
        rule_errors.run_hook_for_all(self, layers)
