"""Plain text tables, by rich."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

# Wide enough that no path is broken; whoever prints to a terminal lets the terminal decide.
_WIDTH = 400


def render(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows under columns, as text without colours or trailing blanks."""
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console = Console(file=io.StringIO(), width=_WIDTH, color_system=None, markup=False, highlight=False)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()).strip("\n")


def shape(sizes: Sequence[int] | None) -> str:
    """Write a shape as ``64x256``; nothing for ``None``."""
    return "" if sizes is None else "x".join(map(str, sizes))
