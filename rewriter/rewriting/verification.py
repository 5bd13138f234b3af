"""Are two models, each in either form, the same function?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from rewriter.core import tables
from rewriter.core.arrays import rank_of
from rewriter.core.layout import augmented_kernels, standard_weights

from ..adapters import keras
from ..model.example_inputs import input_names, specs_of
from ..model.walk import locate_layers
from .checking import is_repeatable, widest
from .comparison import INCOMPARABLE, Difference, compare, compare_all
from .model_run import Run, run_model

if TYPE_CHECKING:
    from rewriter.core.tables import Parts

_Value = TypeVar("_Value")
Weights = dict[str, dict[str, Any]]  # the value of each weight, by the path of its layer and its name there


@dataclass(frozen=True)
class Comparison:
    """One thing two models have in common, compared.

    Attributes:
        path: The layer's path, or ``"model"`` for the model as a whole.
        what: The name of the weight, or ``"outputs"``.
        difference: How far apart the two are.
    """

    path: str
    what: str
    difference: Difference

    @property
    def same(self) -> bool:
        """Weights must be the same bit for bit; outputs may differ by what the rounding of their dtype explains."""
        return self.difference.explained if self.what == "outputs" else self.difference.identical


@dataclass(frozen=True)
class Report(tables.Display):
    """Whether two models are the same function, and where they are not. ``str(report)`` is a table.

    Attributes:
        comparisons: Every weight of every layer, and the outputs of the layers and of the model as a whole.
        unmatched: Paths of layers with weights that only one of the models has.
        note: What could not be compared, and why, or why outputs differ, where that is known; else empty.
    """

    comparisons: tuple[Comparison, ...]
    unmatched: tuple[str, ...]
    note: str

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not self.unmatched and all(comparison.same for comparison in self.comparisons)

    @property
    def differing(self) -> tuple[Comparison, ...]:
        """The comparisons that found a difference, in the model's order."""
        return tuple(comparison for comparison in self.comparisons if not comparison.same)

    @property
    def weights(self) -> int:
        """How many weights were compared."""
        return sum(comparison.what != "outputs" for comparison in self.comparisons)

    @property
    def outputs(self) -> int:
        """How many outputs were compared: of each layer, and of the model; 0 where it could not be run."""
        return len(self.comparisons) - self.weights

    @property
    def counts(self) -> str:
        """How much was compared, in words."""
        return f"{tables.counted(self.weights, 'weight')} bit for bit, {tables.counted(self.outputs, 'output')}"

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON data.

        The keys are ``same``; how many ``weights`` and ``outputs`` were compared, and ``compared``, their sum;
        ``differing``, each with ``path``, ``what`` and ``largest``; ``unmatched`` and ``note``.
        """
        return {
            "same": self.same,
            "compared": len(self.comparisons),
            "weights": self.weights,
            "outputs": self.outputs,
            "differing": [
                {"path": one.path, "what": one.what, "largest": _number(one.difference.largest)}
                for one in self.differing
            ],
            "unmatched": list(self.unmatched),
            "note": self.note,
        }

    def parts(self, width: int) -> Parts:
        """Show what differs as a table, and below it the answer."""
        del width
        notes = [self.note] if self.note else []
        if self.same:
            return [f"same: {self.counts} compared", *notes]
        rows = [(one.path, one.what, _largest(one.difference.largest)) for one in self.differing]
        rows += [(path, "layer", "in one model only") for path in self.unmatched]
        table = tables.table(("layer", "what", "largest difference"), rows)
        differing = sum(comparison.what != "outputs" for comparison in self.differing)
        of_weights = f"{differing} of {self.weights} weights" if self.weights else "no layer with weights in both"
        of_outputs = [f"{len(self.differing) - differing} of {self.outputs} outputs"] if self.outputs else []
        only = [f"{tables.counted(len(self.unmatched), 'layer')} in one model only"] if self.unmatched else []
        return [table, f"different: {', '.join([of_weights, *of_outputs, *only])}", *notes]


def verify(a: Any, b: Any, inputs: Any = None) -> Report:
    """Compare two models, each rewritten or not: every weight bit for bit, and the outputs of both.

    Neither model is changed. Layers are matched by path or, where Keras numbered their names differently, by order;
    a rewritten layer is compared as kernel and bias.

    Args:
        a: A Keras model.
        b: Another.
        inputs: A batch both models take; ``None`` makes one from what ``a`` says of its inputs.

    Returns:
        The :class:`Report`; ``report.same`` is the answer.

    Raises:
        ModelError: ``a`` or ``b`` is no Keras model, or ``inputs`` is no batch that it takes.
    """
    left, right = paired_weights(a, b)
    comparisons = [
        Comparison(path, name, compare(value, right[path].get(name, float("nan"))))
        for path, weights in left.items()
        if path in right
        for name, value in weights.items()
    ]
    comparisons += [
        Comparison(path, name, INCOMPARABLE)
        for path in left
        if path in right
        for name in right[path]
        if name not in left[path]
    ]
    unmatched = tuple(path for path in [*left, *right] if (path in left) != (path in right))
    # Both on the same batch: one that is made is made for the first, since the second may say less of its inputs.
    runs = run_model(a, inputs), run_model(b, inputs, like=a)
    said = zip(("first", "second"), runs, strict=True)
    note = next((run.note.replace("the model", f"the {which} model", 1) for which, run in said if run.note), "")
    if runs[1].note and (taken := _taken(a)) != (other := _taken(b)) and inputs is None:
        note = f"the models take different inputs: {taken} and {other}"
    if not note and not (is_repeatable(a, runs[0], inputs) and is_repeatable(b, runs[1], inputs, like=a)):
        note = "the model draws random numbers, and differs from itself"
    if note:
        return Report(tuple(comparisons), unmatched, f"outputs not compared: {note}")
    outputs = _outputs(a, runs[0]), _outputs(b, runs[1])
    others = _by_paths_of(outputs[0], outputs[1])
    terms = max(widest(a), widest(b))
    comparisons += [
        Comparison(path, "outputs", compare_all(arrays, others[path], terms))
        for path, arrays in outputs[0].items()
        if path in others
    ]
    comparisons.append(Comparison("model", "outputs", compare_all(runs[0].outputs, runs[1].outputs, terms)))
    differ = not all(one.same for one in comparisons if one.what == "outputs")
    return Report(tuple(comparisons), unmatched, _other_dtype(a, b) if differ else "")


def _taken(model: Any) -> str:
    """Describe the inputs that a model takes, each with its shape, as far as they are known."""
    specs, _ = specs_of(model)
    shapes = [spec.shape for spec in keras.ops.flatten(specs)] if specs is not None else []
    named = zip(input_names(model), shapes, strict=False)
    each = [f"{name} {tables.shape(shape[1:]) if rank_of(shape) else ''}" for name, shape in named]
    return ", ".join(each) or "unknown"


def _other_dtype(a: Any, b: Any) -> str:
    """Return in words the first layer that computes in another dtype, as after a file without a dtype policy."""
    one, other = ({found.paths[0]: found.layer.compute_dtype for found in locate_layers(each)} for each in (a, b))
    for path, dtype in one.items():
        if other.get(path, dtype) != dtype:
            return f"{path} computes in {dtype} in the first model and in {other[path]} in the second"
    return ""


def paired_weights(a: Any, b: Any) -> tuple[Weights, Weights]:
    """Read the weights of two models as their standard forms name them, those of ``b`` under the paths of ``a``."""
    left = _standard_weights(a)
    return left, _by_paths_of(left, _standard_weights(b))


def _outputs(model: Any, run: Run) -> dict[str, list[Any]]:
    """Return the outputs of each layer by its path, in the order of the calls."""
    paths = {id(found.layer): found.paths[0] for found in locate_layers(model)}
    return {paths[layer]: arrays for layer, arrays in run.layers.items()}


def _standard_weights(model: Any) -> Weights:
    """Read the weights of every layer that has some, by path, as its standard form names them."""
    weights: Weights = {}
    for found in [("", model), *((located.paths[0], located.layer) for located in locate_layers(model))]:
        path, layer = found
        own = _own_standard_weights(layer)
        if own:
            weights[path] = own
    return weights


def _by_paths_of(left: dict[str, _Value], right: dict[str, _Value]) -> dict[str, _Value]:
    """Rename the layers of one model as in another, if the two have as many and other names."""
    # Keras numbers default names through a process, so that the same model is dense_4 here and dense there.
    if set(left) == set(right) or len(left) != len(right):
        return right
    return dict(zip(left, right.values(), strict=True))


def _own_standard_weights(layer: Any) -> dict[str, Any]:
    # In the stored dtype: a view taken inside a call would be in the compute dtype.
    named = {name: keras.ops.convert_to_numpy(value) for name, value in standard_weights(layer).items()}
    merged = {id(augmented) for augmented in augmented_kernels(layer)}
    others = [weight for weight in keras.own_weights(layer) if id(weight) not in merged]
    for index, weight in enumerate(others):
        named[keras.attribute_of(layer, weight) or f"weight {index}"] = keras.ops.convert_to_numpy(weight)
    return named


def _largest(value: float) -> str:
    return "not comparable" if value != value else f"{value:.3g}"  # noqa: PLR0124  NaN is what differs from itself


def _number(value: float) -> float | None:
    return None if value != value else value  # noqa: PLR0124  JSON has no NaN
