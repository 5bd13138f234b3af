"""A plan as a tree over the layers of the model: what ``plan.tree()`` and ``rewriter inspect --full`` show."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, TypeVar

from rich.text import Text

from rewriter.core.messages import listed

from .plan_cells import Reasons, laid_out, number, shapes_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rewriter.core.tables import Parts

    from .decisions import Decision, Place

_Item = TypeVar("_Item")
_BRANCH = {False: "├─ ", True: "└─ "}
_BELOW = {False: "│  ", True: "   "}
_MODEL = ""  # the path of the model itself


def render(
    name: str, layers: Sequence[Place], decided: Sequence[Decision], more: Mapping[str, Mapping[str, int]], width: int
) -> Parts:
    """Draw the tree: the model, a row for each layer, and below it one for each of its pairs, if it has several.

    Args:
        name: The model's name.
        layers: Every layer of the model; first the model itself.
        decided: What is decided of each kernel.
        more: Further columns: the number for each path, that of the whole model for ``""``, by the column's head.
        width: How wide the table may be, if it can: columns that matter least are left out.

    Returns:
        The table, and below it the reasons, each once, to which the table refers by number.
    """
    decisions: dict[str, list[Decision]] = defaultdict(list)
    for decision in decided:
        decisions[decision.path].append(decision)
    below: dict[str, list[Place]] = defaultdict(list)
    for place in layers[1:]:
        below[place.above].append(place)
    reasons = Reasons()

    def row(head: Text, place: Place | None, about: Decision | None) -> list[Text]:
        counts = [place.parameters, *(column.get(place.path, 0) for column in more.values())] if place else []
        return [
            head,
            Text(place.layer if place else ""),
            reasons.action(about),
            Text(shapes_of(about) if about else ""),
            Text((about and about.dtype) or ""),
            *(map(number, counts) if place else [Text()] * (1 + len(more))),
        ]

    def branch(above: str, guide: str) -> Iterator[list[Text]]:
        pairs = decisions[above] if len(decisions[above]) > 1 else []
        for last, pair in _marked(pairs, more_follow=bool(below[above])):
            head = Text(f"{guide}{_BRANCH[last]}", "dim").append(listed(pair.weights), "not dim italic")
            yield row(head, None, pair)
        for last, place in _marked(below[above]):
            about = decisions[place.path]
            head = Text(f"{guide}{_BRANCH[last]}", "dim").append(place.name, "not dim" if about else "")
            yield row(head, place, about[0] if len(about) == 1 else None)
            yield from branch(place.path, f"{guide}{_BELOW[last]}")

    model = layers[0]
    total = model._replace(parameters=sum(place.parameters for place in layers))
    rows = [row(Text(name, "bold"), total, None), *branch(_MODEL, "")]
    return laid_out("layer", rows, more, reasons, width)


def _marked(items: Sequence[_Item], more_follow: bool = False) -> Iterator[tuple[bool, _Item]]:
    """Yield whether an item is the last, and the item."""
    for index, item in enumerate(items):
        yield index == len(items) - 1 and not more_follow, item
