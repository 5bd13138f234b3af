"""What a table of a plan says of a decision, whether it is drawn as a tree or in few rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from rewriter.core import tables

from .reasons import Merge, Skip

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rewriter.core.tables import Parts

    from .decisions import Decision

_STYLES = {"merge": "green", "merged": "cyan", "skip": "yellow"}


class Reasons:
    """The reasons that a table refers to, by number, each once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def action(self, decision: Decision | None) -> Text:
        """Return an action as a word, with a reference to the reason if that says more; nothing of no decision."""
        if decision is None:
            return Text()
        word = "merged" if decision.is_merged else decision.action
        text = Text(word, style=_STYLES[word])
        if decision.why.kind not in {Skip.ALREADY_MERGED, Merge.PAIR}:
            text.append(f" [{self._numbers.setdefault(decision.reason, len(self._numbers) + 1)}]")
        return text

    @property
    def lines(self) -> list[str]:
        """What stands below the table."""
        return [f"[{number}] {reason}" for reason, number in self._numbers.items()]


def shapes_of(decision: Decision) -> str:
    """Return the shapes of what is stacked, and that of ``W*`` if there is one."""
    layout = decision.layout
    kernels = [decision.kernel_shape] if layout is None else [part.shape for part in layout.parts[: -layout.biases]]
    shapes = (" + ".join(map(tables.shape, kernels)), tables.shape(decision.augmented_shape))
    return " → ".join(shape for shape in shapes if shape)


def number(count: int) -> Text:
    """Return a number with commas; nothing for 0."""
    return Text(f"{count:,}" if count else "")


def laid_out(first: str, rows: Sequence[Sequence[Text]], more: Iterable[str], reasons: Reasons, width: int) -> Parts:
    """Lay out rows, in no more than a width if it can be, and the reasons below.

    Args:
        first: The head of the first column.
        rows: In each the cells of the columns: the first, class, action, shapes, dtype, parameters, and more numbers.
        more: The heads of those.
        reasons: The reasons that the rows refer to.
        width: The width; where it is too small, columns that matter least are left out.
    """
    columns = (first, "class", "action", "kernel → W*", "dtype", "parameters", *more)
    dropped = [["dtype"], ["class"], ["parameters"], [*more]]
    return [tables.fitting(columns, rows, width, right=("parameters", *more), dropped=dropped), *reasons.lines]
