"""Progress on the terminal: a bar for each stage, on standard error, once the work has taken two seconds."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from rewriter.core.progress import listening

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Task
    from rich.text import Text

_DELAY = 2.0  # seconds


class _Steps(MofNCompleteColumn):
    """How many steps of how many; nothing if the number is unknown."""

    def render(self, task: Task) -> Text | str:  # type: ignore[override]  # rich draws a string as well
        return "" if task.total is None else super().render(task)


class _Bar:
    """A stage as a bar."""

    def __init__(self, progress: Progress, name: str, steps: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task(name, total=steps)

    def advance(self) -> None:
        self._progress.advance(self._task)

    def end(self) -> None:
        self._progress.remove_task(self._task)


class _Bars:
    """A listener that draws each stage that is under way, those inside others below them."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def begin(self, name: str, steps: int | None) -> _Bar:
        return _Bar(self._progress, name, steps)


@contextlib.contextmanager
def drawn(quiet: bool) -> Iterator[None]:
    """Inside, progress is drawn, and removed afterwards; nothing is drawn in a pipe, or if ``quiet``."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    # A descriptor of its own: standard error itself is held back while TensorFlow is loaded.
    with os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding) as stream:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            _Steps(),
            TimeElapsedColumn(),
        )
        progress = Progress(*columns, console=Console(file=stream), transient=True)
        timer = threading.Timer(_DELAY, progress.start)
        timer.start()
        try:
            with listening(_Bars(progress)):
                yield
        finally:
            timer.cancel()
            timer.join()
            progress.stop()
