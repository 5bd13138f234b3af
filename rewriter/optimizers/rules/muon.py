"""Muon: the momentum of a whole layer, orthogonalized, so that a step moves all directions of ``W*`` alike.

With gradient ``G`` and momentum ``M``::

    M ← μ M + G                          O = U Vᵀ of  G + μ M = U Σ Vᵀ
    W* ← W* - η · 0.2 √max(rows, units) · O

``O`` is found by five Newton-Schulz steps on ``X = (G + μ M) / ‖·‖``: ``X ← a X + (b A + c A²) X`` with ``A = X Xᵀ``.
They need not converge: singular values end between 0.68 and 1.21. The factor makes steps as long as those of AdamW, so
that its rate and weight decay serve.

Sources: Jordan et al., *Muon* (2024, kellerjordan.github.io/posts/muon), the coefficients; Liu et al., *Muon is
scalable for LLM training* (arXiv 2502.16982), the factor and the weight decay.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

from rewriter.core import hints
from rewriter.core.errors import OptimizerError
from rewriter.core.flags import require_flags
from rewriter.core.layout import layout_of

from ...adapters import keras
from ...model.selectors import select, several
from ..hyperparameters import names_in, require_count, require_number, require_one_of, scalar
from .adam import AdamForOthers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rewriter.core.layout import Layout

    from ...model.selectors import Selectors
    from ...model.walk import LocatedLayer
    from ..state.extents import Extent
    from .adam import KernelInModel

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_LENGTH = 0.2  # root mean square of a step, at a rate of 1
_PRODUCTS = ("float32", "bfloat16")


class Muon(AdamForOthers):
    """Momentum, orthogonalized, for the layers inside a model; AdamW for its output layers and all that is no layer.

    Which layers give the outputs :func:`rewriter.rewrite` finds in a run of the model: those whose result reaches an
    output with no merged layer between. They, and layers in which each unit reads other inputs, as a depthwise
    convolution, get AdamW; so do variables that are no augmented kernels, embeddings among them. The log says which.

    Args:
        learning_rate: η, a number of at least 0 or a ``LearningRateSchedule``. That of AdamW is a good start.
        momentum: μ, in [0, 1].
        nesterov: Whether the step looks ahead, as ``G + μ M`` does.
        newton_schulz_steps: How many Newton-Schulz steps there are, at least 1.
        products: In which dtype they multiply: ``"float32"``, of float64 layers float64, or ``"bfloat16"``, which on a
            GPU is faster.
        beta_1: Of AdamW, in [0, 1).
        beta_2: Of AdamW, in [0, 1).
        epsilon: Of AdamW, at least 0.
        include: Selectors of the merged layers to orthogonalize, as in :func:`rewriter.plan`; ``None`` means all.
        exclude: Selectors of merged layers to leave to AdamW.
        output_layers: Selectors of the output layers, where the run does not show them; an empty list says that there
            are none. ``None`` finds them.
        adam_kernels: Which augmented kernels get AdamW, by the ends of their names, ``"head/augmented_kernel"``; of
            several with the same end, all but the first with a number, ``#1``. Files have it; :func:`rewriter.rewrite`
            finds it.
        kernels: The ends of the names of all augmented kernels, in the order of the model. Files have it, as Keras may
            name layers anew when it reads one.
        name: Name of the optimizer.
        **kwargs: The settings of every :class:`rewriter.JointOptimizer`, weight decay among them.

    Raises:
        ValueError: A hyperparameter is not in its legal range; the message says which that is.
    """

    # Keras writes it into files: a stable name and not a place, see NAMED_IN_FILES in rewriter/__init__.py.
    __module__ = f"{keras.LIBRARY}.muon"

    asks_for_output_layers: ClassVar[bool] = True
    slots: ClassVar[dict[str, Extent]] = {"first_moment": "full", "second_moment": "others"}

    def __init__(
        self,
        learning_rate: Any = 0.001,
        momentum: float = 0.95,
        nesterov: bool = True,
        newton_schulz_steps: int = 5,
        products: str = "float32",
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        include: Selectors = None,
        exclude: Selectors = None,
        output_layers: Selectors = None,
        adam_kernels: Sequence[str] | None = None,
        kernels: Sequence[str] | None = None,
        name: str = "Muon",
        **kwargs: Any,
    ) -> None:
        require_number("momentum", momentum, 0, 1)
        require_flags(nesterov=nesterov)
        require_count("newton_schulz_steps", newton_schulz_steps)
        require_one_of("products", products, _PRODUCTS)
        super().__init__(learning_rate, beta_1, beta_2, epsilon, name=name, **kwargs)
        self.momentum = momentum
        self.nesterov = nesterov
        self.newton_schulz_steps = newton_schulz_steps
        self.products = products
        self.include = include
        self.exclude = exclude
        self.output_layers = output_layers
        self._lines: list[str] = []
        named = names_in("adam_kernels", adam_kernels)
        self._named = None if named is None else frozenset(named)
        self._in_file = names_in("kernels", kernels)
        self._left: frozenset[Any] | None = None  # the keys of those
        self._names: dict[Any, str] = {}  # of all, by their keys

    def choose_layers(self, kernels: Sequence[KernelInModel], outputs: frozenset[int]) -> None:
        """Choose which merged layers get AdamW.

        Args:
            kernels: Their augmented kernels.
            outputs: The ``id`` of the layers that give the model an output, none where that could not be found.

        Raises:
            OptimizerError: That could not be found, and nobody has said it.
            SelectorError: A selector matches no merged layer.
        """
        merged = list({id(each.found.layer): each.found for each in kernels}.values())
        chosen = select(merged, self.include, self.exclude).chosen
        giving = self._output_layers(merged, outputs)
        self._lines, here, left = [], set(), set()
        for found, kernel, layout in kernels:
            here.add(keras.variable_key(self, kernel))
            why = _why_left(found.layer, layout, giving, chosen)
            if why:
                left.add(keras.variable_key(self, kernel))
                self._lines.append(f"Muon: AdamW for {found.paths[0]}, {why}")
        self._names = {**self._names, **self._names_of([each.kernel for each in kernels])}
        self._in_file = None
        # One optimizer may train several models.
        self._left = frozenset((self._left or frozenset()) - here | left)

    def recall_layers(self, kernels: Sequence[Any]) -> None:
        """Choose again what was chosen, by the order of the kernels: Keras may have named them anew.

        Args:
            kernels: The augmented kernels of the model, frozen ones too, in the order in which they were chosen from.
        """
        if self._in_file is None or self._named is None or len(kernels) != len(self._in_file):
            return
        keys = [keras.variable_key(self, kernel) for kernel in kernels]
        self._names = dict(zip(keys, self._in_file, strict=True))
        self._left = frozenset(key for key, name in self._names.items() if name in self._named)

    def _output_layers(self, merged: Sequence[LocatedLayer], outputs: frozenset[int]) -> frozenset[int]:
        if self.output_layers is not None:
            said = several(self.output_layers)
            return select(merged, said, None).chosen if said else frozenset()
        if not outputs:
            raise OptimizerError(
                "Muon leaves the layers that give a model its outputs to AdamW, and a run of this model does not show "
                'which those are. Say so: Muon(output_layers="path/of/layer"), or [] if there are none; '
                f"{hints.ALL_PATHS} lists the paths."
            )
        return outputs

    @property
    def lines(self) -> list[str]:
        """What the log is to say of that choice."""
        return list(self._lines)

    @property
    def adam_kernels(self) -> list[str] | None:
        """Which augmented kernels get AdamW, by the ends of their names; ``None`` if that is not known."""
        if self._left is None:
            return None if self._named is None else sorted(self._named)
        # A file may name kernels that were frozen when slots were made for the others.
        unseen = (self._named or frozenset()) - {*self._names.values()}
        return [*(name for key, name in self._names.items() if key in self._left), *sorted(unseen)]

    @property
    def kernels(self) -> list[str] | None:
        """The ends of the names of all augmented kernels, in the order of the model; ``None`` if that is not known."""
        known = list(self._names.values())
        if self._in_file is not None and {*known} <= {*self._in_file}:
            return list(self._in_file)  # with those that were frozen when slots were made for the others
        return known or None

    def _names_in_file(self, variables: Sequence[Any]) -> dict[Any, str]:
        """Return the names by which a file knows some variables, by their keys; :meth:`recall_layers` knows better."""
        here, there = self._names_of(variables), self._in_file
        if self._names or there is None or {*here.values()} <= {*there} or len(here) != len(there):
            return here
        return dict(zip(here, there, strict=True))

    def _names_of(self, variables: Sequence[Any]) -> dict[Any, str]:
        # The ends: Keras 3 gives a weight that it reads from a file no scope of its model.
        names: dict[Any, str] = {}
        counts = Counter[str]()
        for variable in variables:
            if layout_of(variable) is not None:
                end = "/".join(keras.name_of(variable).partition(":")[0].split("/")[-2:])
                number = counts[end]
                counts[end] += 1
                names[keras.variable_key(self, variable)] = f"{end}#{number}" if number else end
        return names

    def _rewriter_slots(self, variables: Sequence[Any], made_before: bool) -> dict[str, list[Any]]:
        if self._named is not None:
            new = {key: name for key, name in self._names_in_file(variables).items() if key not in self._names}
            self._names = {**self._names, **new}
            self._left = (self._left or frozenset()) | {key for key, name in new.items() if name in self._named}
        return super()._rewriter_slots(variables, made_before)

    def leaves_to_adam(self, variable: Any) -> bool:
        """Tell whether a variable is an augmented kernel that gets AdamW.

        Args:
            variable: The variable.

        Raises:
            OptimizerError: It is not known which these are.
        """
        if layout_of(variable) is None:
            return False
        if self._left is None:
            raise OptimizerError(
                "Muon does not know which layers give the model its outputs. Give it to the model with "
                "rewriter.rewrite(model, optimizer=...), after model.compile where that is called anew."
            )
        return keras.variable_key(self, variable) in self._left

    def update_layer(self, gradient: Any, variable: Any, layout: Layout) -> None:
        """Take a step along the orthogonalized momentum, or one of AdamW.

        Args:
            gradient: The gradient of the augmented kernel.
            variable: The augmented kernel.
            layout: Its layout.
        """
        if self.leaves_to_adam(variable):
            self.update_other(gradient, variable)
            return
        sum_of_gradients = self.slot("first_moment", variable)
        dtype = sum_of_gradients.dtype
        gradient, momentum = keras.ops.cast(gradient, dtype), scalar(self.momentum, dtype)
        sum_of_gradients.assign(momentum * sum_of_gradients + gradient)
        moving = gradient + momentum * sum_of_gradients if self.nesterov else sum_of_gradients
        direction = orthogonalized(moving, self.newton_schulz_steps, self.products)
        self.subtract(self.rate(dtype) * (_LENGTH * max(layout.shape) ** 0.5) * direction, variable)


def _why_left(layer: Any, layout: Layout, giving: frozenset[int], chosen: frozenset[int]) -> str:
    """Say why a layer is left to AdamW; nothing if it is not."""
    if id(layer) in giving:
        return "from which an output is reached through no merged layer"
    if id(layer) not in chosen:
        return "left out by include= or exclude="
    return "whose units read different inputs" if layout.flow is not None and layout.flow.by_unit else ""


def orthogonalized(matrix: Any, steps: int, products: str = "float32") -> Any:
    """Return a matrix with the singular vectors of another, and singular values near 1.

    Args:
        matrix: The other, of shape ``(rows, units)``.
        steps: How many Newton-Schulz steps are taken.
        products: The dtype in which they multiply; ``"float32"`` stands for that of the matrix.

    Returns:
        A new tensor of the shape and dtype of ``matrix``; zeros if that has none but zeros.
    """
    ops, (a, b, c) = keras.ops, _COEFFICIENTS
    matrix = ops.convert_to_tensor(matrix)
    dtype, is_tall = matrix.dtype, matrix.shape[0] > matrix.shape[1]
    x = ops.transpose(matrix) if is_tall else matrix
    x = ops.divide_no_nan(x, ops.norm(x))
    x = x if products == "float32" else ops.cast(x, products)
    for _ in range(steps):
        square = ops.matmul(x, ops.transpose(x))
        x = a * x + ops.matmul(b * square + c * ops.matmul(square, square), x)
    return ops.cast(ops.transpose(x) if is_tall else x, dtype)


# An .h5 file names the optimizer inside a LossScaleOptimizer by nothing but its class.
keras.register(Muon, Muon.__name__, package="rewriter")
