"""Tables and text, by rich: one way for terminals and for everything else."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Protocol

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType
    from rich.text import Text

    # From top to bottom; a line of text is one however long.
    Parts = Sequence[RenderableType]


class Shown(Protocol):
    """What can be shown."""

    def parts(self, width: int) -> Parts:
        """Say what it looks like where lines have so many columns."""


class Display:
    """What shows itself: as text, and in a notebook as HTML."""

    def parts(self, width: int) -> Parts:
        """Say what it looks like where lines have so many columns."""
        raise NotImplementedError

    def __str__(self) -> str:
        return text(self)

    def _repr_html_(self) -> str:
        return html(self)


# The page's own colours and background, and lines that touch, so that a table's rules do.
_HTML = '<pre style="line-height: 1.2; overflow-x: auto; white-space: pre">{code}</pre>'
# Wide enough that no path is broken; a terminal says how wide it is.
_WIDTH = 400
_SHORTEST = 16  # that a name in a tree is cut to


def table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]], right: Sequence[str] = ()) -> Table:
    """Lay out rows under columns; ``right`` names the columns of numbers."""
    laid_out = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column in columns:
        laid_out.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        laid_out.add_row(*row)
    return laid_out


def fitting(
    columns: Sequence[str],
    rows: Sequence[Sequence[Text]],
    width: int,
    right: Sequence[str] = (),
    dropped: Sequence[Sequence[str]] = (),
) -> Table:
    """Lay out rows as :func:`table`, in no more than ``width`` if it can be, and without columns that are empty.

    Where it is too wide, the groups of columns in ``dropped`` are left out, one after the other, and then what is in
    the first column is shortened in the middle.
    """
    kept = [index for index, _ in enumerate(columns) if any(row[index] for row in rows)]
    for left_out in ([], *dropped):
        kept = [index for index in kept if columns[index] not in left_out]
        heads, cells = [columns[index] for index in kept], [[row[index] for index in kept] for row in rows]
        laid_out = table(heads, cells, right)
        excess = plain_console().measure(laid_out).maximum - width
        if excess <= 0:
            return laid_out
    longest = max(_SHORTEST, max(len(first) for first, *_ in cells) - excess)
    laid_out = table(heads, [[_shortened(first, longest), *rest] for first, *rest in cells], right)
    laid_out.columns[0].no_wrap = True  # of what is still too wide, other columns take more lines
    return laid_out


def _shortened(text: Text, length: int) -> Text:
    end = (length - 1) // 2
    return text if len(text) <= length else text[: length - 1 - end] + "…" + text[-end:]


def text(shown: Shown) -> str:
    """Write something as text without colours or trailing blanks, as wide as it takes."""
    console = plain_console()
    with console.capture() as capture:
        show(shown, console)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def html(shown: Shown) -> str:
    """Write something as HTML, with the colours that it has on a terminal."""
    console = plain_console(record=True)
    show(shown, console)
    return console.export_html(inline_styles=True, code_format=_HTML)


def plain_console(record: bool = False) -> Console:
    """Make a console that keeps what is printed to itself; rich would show it in a notebook too."""
    options: Any = {"markup": False, "highlight": False, "emoji": False, "color_system": None, "force_jupyter": False}
    return Console(file=io.StringIO(), width=_WIDTH, record=record, **options)


def show(shown: Shown, console: Console) -> None:
    """Print something; a table is as wide as the console at most, a line of text is left to it to wrap."""
    for part in shown.parts(console.width):
        if isinstance(part, str):
            console.print(part, soft_wrap=True)
        else:
            console.print(part)


def counted(number: int, thing: str) -> str:
    """Write a number of things, ``3 layers``, ``1 layer``."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def shape(sizes: Sequence[int] | None) -> str:
    """Write a shape as ``64x256``; nothing for ``None``."""
    return "" if sizes is None else "x".join(map(str, sizes))
