"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner, which for a whole layer has the bias in it.

With ``G`` the gradient of ``W*``, of shape ``(rows, units)``, and in every step::

    Q_L, Q_R: eigenvectors of L and R
    W* ← W* - Q_L · Adam(Q_Lᵀ G Q_R) · Q_Rᵀ
    L ← β₂ L + (1 - β₂) G Gᵀ            R ← β₂ R + (1 - β₂) Gᵀ G

The eigenvectors are found by a decomposition in the first step, that of the largest eigenvalue first, and every so many
steps brought up to date by one step of orthogonal iteration, ``Q ← QR(L Q)``. In as many steps at first, 20 at most,
that is done each time, for one gradient alone says little of them: that of a layer with more rows than units has a null
space, in which rounding chooses among bases that are as good as each other. As in the paper, a gradient is turned into
a basis that was made of those before it. In one that knows it already, all that a batch of few examples says would lie
in the first few coordinates, and the rest of a step would be rounding.

The first moment goes with the basis into the new coordinates; the second stays, as in the paper. Between the steps that
change the basis, the first is kept in its coordinates, where the paper turns it in every step: the same numbers, two
products less. So the first moment may come to coordinates of which the second has seen nothing yet, and be divided by
next to nothing. In the paper a step has no bound then, and a run at a high rate may fail after hundreds of good steps.
Here no coordinate of a step is longer than any of Adam's can be where coordinates stay (``longest_step`` in
``adam.py``), which is η where β₁ = β₂. ``SOAP(bounded=False)`` is as in the paper. SPlus, of the same family, bounds
its steps by signs.

Unlike the authors' code it moves in the first step, in the only basis that there is, that of the first gradient itself.
There ``U Σ Vᵀ`` is diagonal, and the step is ``U Vᵀ``.

Source: Vyas et al., *SOAP: improving and stabilizing Shampoo using Adam* (arXiv 2409.11321). SPlus: Frans, Levine,
Abbeel, *A stable whitening optimizer for efficient neural network training* (arXiv 2506.07254).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from rewriter.core.flags import require_flags
from rewriter.core.log import log

from ...adapters import keras
from ..hyperparameters import require_count, require_positive, scalar
from .adam import AdamForOthers, longest_step
from .gradient_products import GradientProducts, turned
from .matrices import finite_or_identity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rewriter.core.layout import Layout

    from ..state.extents import Extent

# The slots of both axes of W*: G times itself, summed over the other axis, and the eigenvectors of that.
_OF_AXES = (("row_factor", "row_basis"), ("unit_factor", "unit_basis"))
_FAR = 2.0**50  # numbers as far from one have squares near the largest and smallest of float32
_EARLY = 20  # steps: what a preconditioner remembers where β₂ is 0.95, the default
_LONG = 512  # XLA took 1.7 s for the eigenvectors of so many rows on two cores, 9.6 s for twice as many
_MOMENTS = ("first_moment", "second_moment")
_BASES = tuple(basis for _, basis in _OF_AXES)


class SOAP(AdamForOthers):
    """Adam, in coordinates in which the gradients of a layer's weights are as good as independent.

    Variables that are no augmented kernels get AdamW with the same settings. Each augmented kernel of shape ``(rows,
    units)`` has two moments of its size, and two matrices for each axis that is not longer than ``largest``.

    Args:
        learning_rate: η, a number of at least 0 or a ``LearningRateSchedule``. That of Adam is a good start.
        beta_1: Decay of the first moment, in [0, 1).
        beta_2: Decay of the second moment and of the preconditioner, in [0, 1).
        epsilon: What is added to the root of the second moment, above 0: of the first gradient all but a diagonal is 0.
        every: After how many steps the eigenvectors are brought up to date, at least 1. If ``bounded``, that
            is done in each of the first ``every`` steps too, 20 at most. Fewer cost more, and follow faster.
        largest: An axis with more rows or units keeps its own coordinates, at least 1. Products with a matrix of an
            axis's size in every step are what the rule costs.
        name: Name of the optimizer.
        bounded: Whether a step is kept as short as Adam's are, coordinate by coordinate of the eigenbasis, where new
            axes have seen little. It needs β₁² < β₂; Adam's have no bound else. Without it the rule is that of the
            paper: the eigenvectors wait for ``every`` steps from the first on.
        **kwargs: The settings of every :class:`rewriter.JointOptimizer`, weight decay among them.

    Raises:
        ValueError: A hyperparameter is not in its legal range; the message says which that is.
    """

    # Keras writes it into files: a stable name and not a place, see NAMED_IN_FILES in rewriter/__init__.py.
    __module__ = f"{keras.LIBRARY}.soap"

    slots: ClassVar[dict[str, Extent]] = {
        "first_moment": "full",
        "second_moment": "full",
        "row_factor": "incoming_pairs",
        "unit_factor": "unit_pairs",
        "row_basis": "incoming_pairs",
        "unit_basis": "unit_pairs",
        "steps": "layer",
    }

    def __init__(
        self,
        learning_rate: Any = 0.003,
        beta_1: float = 0.95,
        beta_2: float = 0.95,
        epsilon: float = 1e-8,
        every: int = 10,
        largest: int = 1024,
        name: str = "SOAP",
        bounded: bool = True,
        **kwargs: Any,
    ) -> None:
        require_positive("epsilon", epsilon)
        require_count("every", every)
        require_count("largest", largest)
        require_flags(bounded=bounded)
        super().__init__(learning_rate, beta_1, beta_2, epsilon, name=name, **kwargs)
        self.every = every
        self.largest = largest
        self.bounded = bounded
        self._warned = False

    @property
    def _rewriter_period(self) -> int:
        return math.lcm(super()._rewriter_period, self.every)

    def slot_shape(self, name: str, variable: Any) -> tuple[int, ...]:
        """Return the shape of a slot; the matrices of an axis that is too long are one number.

        Args:
            name: The slot's name.
            variable: The variable it belongs to.
        """
        shape = super().slot_shape(name, variable)
        return () if name in sum(_OF_AXES, ()) and max(shape, default=0) > self.largest else shape

    def initial_slot(self, name: str, variable: Any, shape: tuple[int, ...]) -> Any:
        """Return the first value of a slot: an identity for a basis, else zeros.

        Args:
            name: The slot's name.
            variable: The variable it belongs to.
            shape: The slot's shape.
        """
        if name in _BASES and shape:
            return keras.ops.eye(shape[0], self.slot_dtype(variable))
        return super().initial_slot(name, variable, shape)

    def condense(self, name: str, values: Sequence[Any], layout: Layout) -> Any:
        """Start anew: what Adam kept of a kernel and a bias is in their coordinates, and the basis will be another.

        Args:
            name: The slot's name.
            values: The slot of each part.
            layout: The layout of the augmented kernel.

        Returns:
            A number for a slot of this rule, which is to say that it starts anew; else as every joint optimizer does.
        """
        return keras.ops.zeros((), values[0].dtype) if name in _MOMENTS else super().condense(name, values, layout)

    def update_layer(self, gradient: Any, variable: Any, layout: Layout) -> None:
        """Take a step of Adam in the eigenbasis.

        Args:
            gradient: The gradient of the augmented kernel.
            variable: The augmented kernel.
            layout: Its layout.
        """
        del layout
        ops = keras.ops
        products, axes = GradientProducts(gradient, self.slot_dtype(variable)), self._axes(variable)
        outer_products = products.with_itself([axis.number for axis in axes])
        self._refresh_bases(variable, axes, outer_products)
        for axis, product in zip(axes, outer_products, strict=True):
            axis.factor.assign_add((product - axis.factor) * (1 - self.beta_2))
        bases = {axis.number: ops.convert_to_tensor(axis.basis) for axis in axes}
        step = self.adam_step(self._without_rounding(products.turned(bases), variable, len(bases)), variable)
        if bases and self.bounded:
            step = self._bounded(step)
        self.subtract(turned(step, {number: ops.transpose(basis) for number, basis in bases.items()}), variable)

    def _without_rounding(self, gradient: Any, variable: Any, sides: int) -> Any:
        """Return a turned gradient, in the layer's first step with zeros for what is nothing but rounding.

        In the eigenbases that were made of this gradient alone it is diagonal. Beside the diagonal are rounding errors,
        and Adam would divide each by its own size. The tolerance on it is that of ``numpy.linalg.matrix_rank``.
        """
        ops, (rows, units) = keras.ops, gradient.shape
        tolerance = max(rows, units) * np.finfo(keras.dtype_of(gradient.dtype).name).eps

        def exact() -> Any:
            diagonal = gradient
            if sides == len(_BASES):
                diagonal = gradient * ops.eye(max(rows, units), gradient.dtype)[:rows, :units]
            is_rounding = ops.square(diagonal) <= ops.square(tolerance * ops.norm(gradient))
            return ops.where(is_rounding, ops.zeros_like(gradient), diagonal)

        return ops.cond(ops.equal(self.slot("steps", variable), 1), exact, lambda: gradient)

    def _bounded(self, step: Any) -> Any:
        """Return a step of which no coordinate is longer than one of Adam's can be where coordinates stay."""
        length = longest_step(self.beta_1, self.beta_2)
        if not math.isfinite(length):
            return step
        limit = self.rate(step.dtype) * length
        return keras.ops.maximum(keras.ops.minimum(step, limit), -limit)

    def _axes(self, variable: Any) -> list[_Axis]:
        """List the axes of an augmented kernel that have a basis."""
        return [
            _Axis(number, *(self.slot(name, variable) for name in names))
            for number, names in enumerate(_OF_AXES)
            if self.slot_shape(names[0], variable)
        ]

    def _refresh_bases(self, variable: Any, axes: Sequence[_Axis], outer_products: Sequence[Any]) -> None:
        """Find the eigenvectors in the layer's first step, and bring them up to date where that is due."""
        ops, steps, mean = keras.ops, self.slot("steps", variable), self.slot("first_moment", variable)
        now = ops.convert_to_tensor(steps)
        since = ops.mod(now, self.every)
        if self.bounded:  # else each new basis is a risk
            since = since * ops.cast(now >= min(self.every, _EARLY), steps.dtype)

        def make(given: tuple[Any, Any, Any, Any]) -> list[Any]:
            count, found, factors, old = given
            new = [_refreshed(*each, ops.equal(count, 0)) for each in zip(factors, old, strict=True)]
            turns = {
                axis.number: ops.matmul(ops.transpose(before), after)
                for axis, before, after in zip(axes, old, new, strict=True)
            }
            return [turned(found, turns), *new]

        self._warn_of_xla(variable, axes)
        if axes:
            bases = [axis.basis for axis in axes]

            def read() -> Any:
                factors = [ops.convert_to_tensor(axis.factor) for axis in axes]
                known = [ops.where(ops.equal(now, 0), *each) for each in zip(outer_products, factors, strict=True)]
                return ops.map_structure(ops.convert_to_tensor, (now, mean, known, bases))

            keras.refresh_if(ops.equal(since, 0), [mean, *bases], read, make)
        steps.assign_add(ops.ones((), steps.dtype))

    def _warn_of_xla(self, variable: Any, axes: Sequence[_Axis]) -> None:
        """Say once that the first step will take long where XLA has no fast decomposition."""
        longest = max((axis.basis.shape[0] for axis in axes), default=0)
        if longest > _LONG and not self._warned and keras.decomposes_slowly():
            self._warned = True
            log.warning(
                "SOAP: the first step takes seconds for each wide layer (%s: eigenvectors of %d by %d), since XLA of "
                "TensorFlow compiles it for a CPU. compile(jit_compile=False) spares them, or SOAP(largest=%d).",
                keras.name_of(variable),
                longest,
                longest,
                _LONG,
            )


class _Axis(NamedTuple):
    """An axis of an augmented kernel: 0 of its rows, 1 of its units, with the slots that it has."""

    number: int
    factor: Any
    basis: Any


def _refreshed(factor: Any, basis: Any, first: Any) -> Any:
    """Return the eigenvectors of a factor: those themselves at first, then one step of orthogonal iteration nearer.

    That of the largest eigenvalue comes first, as the iteration has them.
    """
    ops, factor = keras.ops, _with_finite_squares(finite_or_identity(factor))
    return ops.cond(first, lambda: ops.flip(ops.eigh(factor)[1], 1), lambda: ops.qr(ops.matmul(factor, basis))[0])


def _with_finite_squares(factor: Any) -> Any:
    """Multiply a factor by a power of two, which rounds nothing, where the squares of its numbers leave float32."""
    ops, size = keras.ops, keras.ops.trace(factor)
    far, near = scalar(_FAR, factor.dtype), scalar(1 / _FAR, factor.dtype)
    down = ops.where(size > far, scalar(_FAR**-1.5, factor.dtype), ops.ones_like(size))
    return factor * ops.where(size < near, scalar(_FAR**1.5, factor.dtype), down)


# An .h5 file names the optimizer inside a LossScaleOptimizer by nothing but its class.
keras.register(SOAP, SOAP.__name__, package="rewriter")
