"""A plan in few rows, one for layers that are alike: what ``str(plan)`` and ``rewriter inspect`` show."""

from __future__ import annotations

import itertools
import posixpath
from collections import Counter
from typing import TYPE_CHECKING

from rich.text import Text

from rewriter.core import tables
from rewriter.core.messages import listed

from .plan_cells import Reasons, laid_out, number, shapes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from rewriter.core.tables import Parts

    from .decisions import Decision, Place

_MOST = 23  # rows of layers with a kernel; one of the others and the total make it 25
_INPUT = "InputLayer"  # is not counted: nobody thinks of it as a layer
_MOST_CLASSES = 2  # that a row names


def render(
    layers: Sequence[Place], decided: Sequence[Decision], more: Mapping[str, Mapping[str, int]], width: int
) -> Parts:
    """Lay out the layers that own a kernel, in a row each or alike ones in one; then the other layers, and the total.

    Args:
        layers: Every layer of the model; first the model itself.
        decided: What is decided of each kernel.
        more: Further columns: the number for each path, that of the whole model for ``""``, by the column's head.
        width: How wide the table may be, if it can: columns that matter least are left out.

    Returns:
        The table, and below it the reasons, each once, to which the table refers by number.
    """
    reasons, pairs = Reasons(), Counter(each.path for each in decided)
    model, held = layers[0], [place for place in layers[1:] if place.layer != _INPUT]
    parameters = {place.path: place.parameters for place in layers}
    totals = [sum(parameters.values()), *(column.get(model.path, 0) for column in more.values())]

    def numbers(paths: Iterable[str]) -> list[Text]:
        own = [*dict.fromkeys(paths)]
        return [number(sum(column.get(path, 0) for path in own)) for column in (parameters, *more.values())]

    def row(alike: Sequence[Decision]) -> list[Text]:
        first, last = alike[0], alike[-1]
        # Of two layers of the same parent, the last without its path.
        end = last.path.removeprefix(f"{posixpath.dirname(first.path)}/")
        name = Text(first.path).append(f" … {end}" if first.path != last.path else "")
        if len(alike) < pairs[first.path]:
            name.append(f" {listed(first.weights)}", "italic")
        cells = [{shapes_of(each) for each in alike}, {each.dtype or "" for each in alike}]
        return [
            name,
            Text(_classes(alike)),
            reasons.action(first),
            *(Text(*several) if len(several) == 1 else Text() for several in cells),
            *numbers(each.path for each in alike),
        ]

    def rest(head: Text, places: Sequence[Place], counts: Iterable[Text]) -> list[Text]:
        return [head, Text(tables.counted(len(places), "layer")), Text(), Text(), Text(), *counts]

    rows = [row(alike) for alike in _folded(decided)]
    others = [place for place in held if place.path not in pairs]
    if others or model.parameters:
        rows.append(rest(Text("other layers", "dim"), others, numbers(each.path for each in others)))
    rows.append(rest(Text("total", "bold"), held, map(number, totals)))
    return laid_out("layers", rows, more, reasons, width)


def _classes(alike: Sequence[Decision]) -> str:
    """Name the classes of some layers, and count them if they are several."""
    counts = Counter({each.path: each.layer for each in alike}.values())
    if counts.total() == 1:
        return alike[0].layer
    if len(counts) > _MOST_CLASSES:
        return f"{counts.total()} layers"
    return ", ".join(f"{count} {layer}" for layer, count in counts.items())


def _is_left(decision: Decision) -> bool:
    return decision.action == "skip" and not decision.is_merged


def _by_itself(decision: Decision) -> Hashable:
    """Tell each merge from all others, and what is left as it is by the reason."""
    return decision.why if _is_left(decision) else (decision.path, decision.weights)


def _by_shape(decision: Decision) -> Hashable:
    return decision.why if _is_left(decision) else (decision.why, decision.layer, shapes_of(decision), decision.dtype)


def _by_reason(decision: Decision) -> Hashable:
    return decision.action, decision.why


def _folded(decided: Sequence[Decision]) -> list[list[Decision]]:
    """Gather alike decisions until there are few: neighbours first, and then wherever they are."""
    by: Callable[[Decision], Hashable]
    for by in (_by_itself, _by_shape, _by_reason):
        groups = [list(alike) for _, alike in itertools.groupby(decided, by)]
        if len(groups) <= _MOST:
            return groups
    anywhere: dict[Hashable, list[Decision]] = {}
    for decision in decided:
        anywhere.setdefault(_by_reason(decision), []).append(decision)
    return [*anywhere.values()]
