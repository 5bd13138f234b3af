"""Bars for the stages of long work, which a terminal draws, or a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from rich.progress import Task
    from rich.text import Text

DELAY = 2.0  # seconds of work, after which they are worth a look


class _Steps(MofNCompleteColumn):
    """How many steps of how many; nothing if the number is unknown."""

    def render(self, task: Task) -> Text | str:  # type: ignore[override]  # rich draws a string as well
        return "" if task.total is None else super().render(task)


def new_progress(console: Console) -> Progress:
    """Make what draws the bars on a console, and removes them when it stops."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        _Steps(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, transient=True)


class _Bar:
    """A stage as a bar."""

    def __init__(self, bars: Bars, name: str, steps: int | None) -> None:
        self._bars = bars
        self._task = bars.progress.add_task(name, total=steps)
        bars.changed()

    def advance(self) -> None:
        self._bars.progress.advance(self._task)
        self._bars.changed()

    def end(self) -> None:
        self._bars.progress.remove_task(self._task)
        self._bars.changed()


class Bars:
    """A listener that has a bar for each stage that is under way, those inside others below them.

    Args:
        progress: What holds the bars.
        changed: Called whenever one has changed.
    """

    def __init__(self, progress: Progress, changed: Callable[[], None] = lambda: None) -> None:
        self.progress = progress
        self.changed = changed

    def begin(self, name: str, steps: int | None) -> _Bar:
        """Hear that a stage begins."""
        return _Bar(self, name, steps)
