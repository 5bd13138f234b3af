"""Natural gradients: rules that divide a layer's gradient by a Fisher matrix that is measured as it trains.

With ``U`` the natural gradient of a layer, as a subclass finds it::

    ν = min(1, √(κ / (η² Σ ⟨G, U⟩)))             over all layers
    M ← μ M + ν U,    W* ← W* - η M

``η² ⟨G, U⟩`` is how far a step goes in the metric of the Fisher matrix: the bound is on the change of what the model
says, by the natural gradient of one step; momentum adds up several, and goes further. The Fisher matrix is the
empirical one, of the gradients at the targets that are given.

Source of ν: Ba, Grosse, Martens, *Distributed second-order optimization* (2017).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from rewriter.core.layout import layout_of

from ...adapters import keras
from ...model.observation.flowing_back import INPUT_MOMENT, can_be_measured
from ..hyperparameters import require_number, require_positive, scalar
from .adam import AdamForOthers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rewriter.core.layout import Layout

    from ..layers_together import LayerStep
    from ..state.extents import Extent
    from .adam import KernelInModel


class NaturalGradient(AdamForOthers):
    """The base of these rules; layers of which it is not known what flows back get AdamW.

    Args:
        learning_rate: η, as in every joint optimizer.
        momentum: μ, in [0, 1].
        bound: κ, at least 0; ``None`` for no bound.
        loss_factor: By what the loss is to be multiplied to be the negative logarithm of a likelihood, above 0.
        **kwargs: Those of AdamW, and the settings of every joint optimizer.

    Attributes:
        uncentered: Why these rules are not to be centered.
    """

    slots: ClassVar[dict[str, Extent]] = {"first_moment": "full", "second_moment": "others"}
    uncentered: ClassVar[str] = "it does not see a shift of a layer's inputs, so it gains nothing by centering"

    def __init__(
        self,
        learning_rate: Any,
        momentum: float = 0.9,
        bound: float | None = 1e-4,
        loss_factor: float = 1.0,
        **kwargs: Any,
    ) -> None:
        require_number("momentum", momentum, 0, 1)
        require_number("bound", bound, 0, optional=True)
        require_positive("loss_factor", loss_factor)
        super().__init__(learning_rate, **kwargs)
        self.momentum = momentum
        self.bound = bound
        self.loss_factor = loss_factor

    def natural_gradient(self, gradient: Any, variable: Any, layout: Layout) -> Any:
        """Return the natural gradient of a layer, a tensor of the gradient's shape and dtype; a subclass writes it.

        Args:
            gradient: The gradient of the augmented kernel, of a loss that is a negative log-likelihood.
            variable: The augmented kernel.
            layout: Its layout.
        """
        raise NotImplementedError

    def refresh(self, variables: Sequence[Any]) -> None:
        """Bring up to date what is made of moments; called in each step before the natural gradients are asked for.

        Args:
            variables: The augmented kernels of the step.
        """

    def refresh_every(
        self,
        every: int,
        variables: Sequence[Any],
        names: Sequence[str],
        read: Callable[[Any], Any],
        make: Callable[[Any], Sequence[Any]],
    ) -> None:
        """Give slots new values in the first step of a layer and every so many from there, in one condition for all.

        Its first step is the first that has measured it: an optimizer that is built in a step has seen nothing then.

        Args:
            every: After how many steps.
            variables: The augmented kernels; a layer that came later has all refreshed in its own steps too.
            names: The names of the slots; there is one ``"steps"``, of extent ``"layer"``, besides.
            read: Returns what the new values of a kernel's slots are made of: tensors, in any structure.
            make: Makes them of that.
        """
        ops, counts = keras.ops, [self.slot("steps", each) for each in variables]
        if not counts:
            return
        steps = ops.stack([ops.cast(ops.convert_to_tensor(count), "float32") for count in counts])
        due = ops.sum(ops.cast(ops.equal(ops.mod(steps, every), 0), "float32")) > 0
        keras.refresh_if(
            due,
            [self.slot(name, each) for each in variables for name in names],
            lambda: [read(each) for each in variables],
            lambda of_all: [value for given in of_all for value in make(given)],
        )
        for variable, count in zip(variables, counts, strict=True):
            count.assign_add(ops.cast(self._rewriter_has_measured(variable), count.dtype))

    def moment(self, name: str, variable: Any) -> Any:
        """Return a moment of a layer, as :meth:`statistic` does, of a loss that is a negative log-likelihood.

        Args:
            name: Its name.
            variable: The augmented kernel.
        """
        found = self.statistic(name, variable)
        return found if name == INPUT_MOMENT or self.loss_factor == 1 else found * self.loss_factor**2

    def update_layers(self, layers: Sequence[LayerStep]) -> None:
        """Take a step along the natural gradients of all layers, no longer than the bound; or one of AdamW.

        Args:
            layers: The layers, each with ``gradient``, ``variable`` and ``layout``.
        """
        ops, found, length = keras.ops, [], None
        self.refresh([each.variable for each in layers if not self.leaves_to_adam(each.variable)])
        for gradient, variable, layout in layers:
            if self.leaves_to_adam(variable):
                self.update_other(gradient, variable)
                continue
            scaled = ops.cast(gradient, self.slot_dtype(variable))
            scaled = scaled if self.loss_factor == 1 else scaled * self.loss_factor
            natural = self.natural_gradient(scaled, variable, layout)
            of_layer = ops.sum(scaled * natural)
            length = of_layer if length is None else length + ops.cast(of_layer, length.dtype)
            found.append((natural, variable))
        shorter = None if length is None or self.bound is None else self._shorter(length)
        for natural, variable in found:
            moment = self.slot("first_moment", variable)
            step = natural if shorter is None else ops.cast(shorter, moment.dtype) * natural
            moment.assign(scalar(self.momentum, moment.dtype) * moment + step)
            self.subtract(self.rate(moment.dtype) * moment, variable)

    def _shorter(self, length: Any) -> Any:
        """Return ν, given the squared length of the natural gradients in the Fisher metric."""
        ops = keras.ops
        far, bound = ops.square(self.rate(length.dtype)) * length, scalar(self.bound, length.dtype)
        return ops.where(far > bound, ops.sqrt(ops.divide_no_nan(bound, far)), ops.ones_like(far))

    def choose_layers(self, kernels: Sequence[KernelInModel], outputs: frozenset[int]) -> None:
        """Note which merged layers get AdamW.

        Args:
            kernels: Their augmented kernels.
            outputs: Not needed.
        """
        del outputs
        left = dict.fromkeys(each.found.paths[0] for each in kernels if not can_be_measured(each.layout))
        self._lines = [
            f"{type(self).__name__}: AdamW for {path}, of which it is not known what flows back" for path in left
        ]

    @property
    def lines(self) -> list[str]:
        """What the log is to say of that."""
        return list(getattr(self, "_lines", ()))

    def leaves_to_adam(self, variable: Any) -> bool:
        """Tell whether a variable is an augmented kernel that gets AdamW.

        Args:
            variable: The variable.
        """
        layout = layout_of(variable)
        return layout is not None and not can_be_measured(layout)
