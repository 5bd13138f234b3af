"""The check: if a layer or the model computes something else once it is merged or separated, the change is undone."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

from rewriter.core import hints
from rewriter.core.errors import DifferenceError
from rewriter.core.layout import is_merged
from rewriter.core.log import log

from ..adapters import keras
from ..model.preserved_state import nothing_made
from ..model.variable_holders import has_users_code, held_layers
from ..model.walk import locate_layers
from .comparison import SAME, as_array, compare, compare_all
from .model_run import run_layer, run_model
from .probe_biases import ProbeBiases

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rewriter.core.layout import Layout

    from .comparison import Difference
    from .model_run import Run


_FEW = 5  # layers that an error names


@contextlib.contextmanager
def checked_layer(layer: Any, layouts: Sequence[Layout], path: str, alone: bool = True) -> Iterator[None]:
    """Compare a layer's weights and outputs before and after the block inside merges or separates it.

    Args:
        layer: A built layer, standard or rewritten.
        layouts: The layouts of its weights.
        path: Where it is in the model, for the message.
        alone: Whether it is run by itself; if not, only its weights are compared.

    Raises:
        DifferenceError: A weight differs in any bit, or an output by more than its dtype's rounding explains.
    """
    # Each output is a sum of so many products; rounding may add up to as much.
    terms = max(layout.shape[0] for layout in layouts)
    fan_in = layouts[0].parts[0].rows
    weights, (outputs, _) = _weights(layer, layouts), run_layer(layer, fan_in) if alone else ([], "")
    yield
    done = "merged" if is_merged(layer) else "split"
    for attribute, value in _weights(layer, layouts).items():
        if not compare(weights[attribute], value).identical:
            raise DifferenceError(f"its {attribute} changed when it was {done}. The model is as it was.", path)
    if not alone:
        return
    again, error = run_layer(layer, fan_in)
    if outputs and error:
        raise DifferenceError(
            f"it failed once it was {done}: {error}. So its call does not use its {' and '.join(weights)} as a "
            f"{type(layer).__name__} does. The model is as it was; leave the layer out with "
            f"{hints.Argument('exclude', [path])}.",
            path,
        )
    difference = compare_all(outputs, again, terms)
    # A layer that draws random numbers differs from itself as well, and proves nothing: then it is merged unproven.
    if not difference.explained and compare_all(again, run_layer(layer, fan_in)[0]).identical:
        raise DifferenceError(
            f"its outputs differ {_by_how_much(difference)} once it is {done}, so its call does not use "
            f"its {' and '.join(weights)} as a {type(layer).__name__} does. The model is as it was; leave the "
            f"layer out with {hints.Argument('exclude', path)}.",
            path,
        )


@contextlib.contextmanager
def checked_model(
    model: Any, layers: Sequence[tuple[Any, Sequence[Layout]]], inputs: Any = None, guessed: Sequence[str] = ()
) -> Iterator[frozenset[int]]:
    """Compare outputs and losses of the whole model before and after the block inside changes its layers.

    A model with users' classes is called in training mode too. It must not fail there if it did not before.

    Args:
        model: A Keras model. One that does not say what it takes, or fails on what is made for it, is not compared,
            and the log warns of that.
        layers: The layers that change, with the layouts of their weights. Their biases are other numbers while the
            model runs, so that it is seen what depends on them.
        inputs: A batch it takes; ``None`` makes one.
        guessed: Paths of layers whose pairs were discovered: these stay merged only if the model computes the same.

    Yields:
        The ``id`` of the layers of Keras's own classes whose outputs are compared in this run: they need no run alone.

    Raises:
        DifferenceError: An output differs by more than its dtype's rounding explains, or nothing proves a guess.
    """
    with ProbeBiases(layers).in_place():
        before = run_model(model, inputs)
        trains = not before.note and _can_run_in_training(model) and not _failure_in_training(model, inputs)
        if before.note and guessed:
            raise DifferenceError(f"it could not be checked: {before.note}.", guessed[0])
        if before.note:
            log.warning("outputs of %s as a whole not compared: %s", model.name, before.note)
        yield frozenset(id(layer) for layer, _ in layers if before.layers.get(id(layer)) and not has_users_code(layer))
        if before.note:
            return
        after = run_model(model, inputs, again=True)
        _require_no_failure(model, after, guessed)
        path, difference = first_difference(model, before, after)
        losses = _compare_losses(model, before, after)
        if trains and difference.explained and (failed := _failure_in_training(model, inputs)):
            _require_no_failure(model, failed, guessed, " in training mode")
        if difference.explained and losses.explained:
            return
        again = run_model(model, inputs, again=True)
    # A model that draws random numbers differs from itself as well, and proves nothing.
    if not first_difference(model, after, again)[1].explained:
        if guessed:
            raise DifferenceError("it could not be checked: the model draws random numbers.", guessed[0])
    elif not difference.explained:
        raise DifferenceError(
            f"its outputs differ {_by_how_much(difference)} when the model is run as a whole, and are the "
            f"first that differ. The model is as it was{_to_leave_out(model)}.",
            path,
        )
    elif _compare_losses(model, after, again).explained:
        raise DifferenceError(
            f"its losses differ {_by_how_much(losses)}, so a penalty that was added with add_loss treats a "
            f"kernel and its bias differently once they are one variable. The model is as it was{_to_leave_out(model)}."
        )


def _compare_losses(model: Any, one: Run, other: Run) -> Difference:
    """Compare the losses of two runs, one by one; their sums where a kernel and its bias have one now for two."""
    first, second = one.losses, other.losses
    if len(first) != len(second):
        first, second = ([np.sum(each, dtype=each[0].dtype)] if each else [] for each in (first, second))
    return compare_all(first, second, _numbers_in(model))


def _numbers_in(model: Any) -> int:
    """Count the numbers that a penalty may add up."""
    return sum(keras.count_of_numbers(weight) for weight in list(filter(keras.is_variable, model.weights)))


def _by_how_much(difference: Difference) -> str:
    nowhere = np.isnan(difference.largest)
    return "in shape, dtype or where they are NaN" if nowhere else f"by up to {difference.largest:.3g}"


def _can_run_in_training(model: Any) -> bool:
    """Tell whether a run in training mode can say more than one in inference, and makes no layer."""
    return has_users_code(model) and all(layer.built for layer in keras.layers_below(model))


def _failure_in_training(model: Any, inputs: Any) -> Run | None:
    """Run a model in training mode, in which a user's code may write to a kernel; return the run if it failed.

    What would make variables then counts as failed.
    """
    with nothing_made(model, *keras.layers_below(model)):
        run = run_model(model, inputs, again=True, training=True)
    return run if run.error else None


def _require_no_failure(model: Any, run: Run, guessed: Sequence[str], how: str = "") -> None:
    """Raise ``DifferenceError`` if a layer failed once others were merged or split, with its error."""
    if not run.error:
        return
    if guessed:
        raise DifferenceError(f"it could not be checked: {run.error}.", guessed[0])
    path = next((found.paths[0] for found in locate_layers(model) if found.layer is run.failed), "model")
    raise DifferenceError(
        f"it failed when the model was run as a whole{how}: {run.error}. The model is as it was"
        f"{_to_leave_out(model, run.failed if how else None)}.",
        path,
    )


def _to_leave_out(model: Any, failed: Any = None) -> str:
    """Name the merged layers whose weights others read directly; all merged layers if there are none.

    Args:
        model: The model.
        failed: A layer whose own code writes to a kernel: then it is this layer, or the merged layers that it holds.
    """
    located = locate_layers(model)
    if failed is not None:
        held = {id(failed), *map(id, held_layers(failed))}
        located = [found for found in located if id(found.layer) in held and is_merged(found.layer)] or located
    holders = {id(found.layer): set(map(id, found.owners)) for found in located if is_merged(found.layer)}
    # An owner calls a layer; a holder may also read its weights, and that is where a merged layer fails.
    for found in located:
        for layer in held_layers(found.layer):
            holders.get(id(layer), set()).add(id(found.layer))
    merged = [found for found in located if is_merged(found.layer)]
    read = [found.paths[0] for found in merged if len(holders[id(found.layer)] - {id(found.layer)}) > 1]
    read = read or [found.paths[0] for found in merged]
    if len(read) > _FEW:
        return (
            f"; one of the {len(read)} merged layers is used in another way than by a call: leave it out with "
            f"{hints.EXCLUDE}"
        )
    return (
        f"; leave out with {hints.Argument('exclude', read)} what is used in another way than by a call" if read else ""
    )


def is_repeatable(model: Any, run: Run, inputs: Any = None, like: Any = None) -> bool:
    """Tell whether a second run of a model on the same inputs gives the same, so that it draws no random numbers."""
    return first_difference(model, run, run_model(model, inputs, like))[1].explained


def first_difference(model: Any, one: Run, other: Run) -> tuple[str, Difference]:
    """Find the first layer whose outputs differ between two runs of a model.

    Returns:
        Its path and how far apart the two are; ``"model"`` where only the model as a whole differs, or nothing does.
    """
    paths = {id(found.layer): found.paths[0] for found in locate_layers(model)}
    terms = widest(model)
    for layer, outputs in one.layers.items():
        difference = compare_all(outputs, other.layers.get(layer, []), terms)
        if not difference.explained:
            return paths[layer], difference
    return "model", compare_all(one.outputs, other.outputs, terms) if not other.note else SAME


def widest(model: Any) -> int:
    """Return the length of the longest axis that is summed over: how many products an output number adds up at most."""
    return max(
        (weight.shape[0] for weight in list(filter(keras.is_variable, model.weights)) if len(weight.shape) > 1),
        default=1,
    )


def _weights(layer: Any, layouts: Sequence[Layout]) -> dict[str, Any]:
    """Read the weights of a layer, merged or not, as rows of an augmented kernel, by their attributes.

    By NumPy, and not as a layout takes a kernel apart: what is checked is to have no part in the check.
    """
    found: dict[str, Any] = {}
    with keras.autocast(None):
        for layout in layouts:
            kernel = (
                as_array(keras.ops.convert_to_tensor(getattr(layer, layout.attribute))) if is_merged(layer) else None
            )
            row = 0
            for part in layout.parts:
                if kernel is None:
                    weight = as_array(keras.ops.convert_to_tensor(getattr(layer, part.attribute)))
                    found[part.attribute] = np.transpose(weight, part.order).reshape(part.rows, part.units)
                else:
                    found[part.attribute] = kernel[row : row + part.rows]
                row += part.rows
    return found
