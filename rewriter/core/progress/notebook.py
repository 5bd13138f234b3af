"""Progress in a notebook: a bar for each stage, below the cell, once the work has taken two seconds."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any

from . import is_heard, listening

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress

    from ..tables import Parts

_PAUSE = 0.2  # seconds between two pictures


def in_notebook() -> bool:
    """Tell whether the program is one of a notebook, whose cells show what is displayed."""
    ipython = sys.modules.get("IPython")
    return hasattr(ipython.get_ipython() if ipython is not None else None, "kernel")


@contextlib.contextmanager
def shown() -> Iterator[None]:
    """Inside, progress is shown below the cell, and removed afterwards; elsewhere than in a notebook it is not."""
    if is_heard() or not in_notebook():
        yield
        return
    # Of notebooks alone: rich takes its time to be imported.
    from ..tables import plain_console  # noqa: PLC0415
    from .bars import Bars, new_progress  # noqa: PLC0415

    picture = _Picture(new_progress(plain_console()))
    try:
        with listening(Bars(picture.progress, picture.draw)):
            yield
    finally:
        picture.remove()


class _Picture:
    """The bars as a picture below a cell, which is drawn anew in the same place."""

    def __init__(self, progress: Progress) -> None:
        from .bars import DELAY  # noqa: PLC0415  as above

        self.progress = progress
        self._next = time.monotonic() + DELAY
        self._handle: Any = None

    def parts(self, width: int) -> Parts:
        """Return the bars, as a table has its lines."""
        del width
        return [self.progress.get_renderable()]

    def draw(self) -> None:
        """Draw the bars, if the last picture is not of just now."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _PAUSE
            from ..tables import html  # noqa: PLC0415  as above

            self._show(html(self))

    def remove(self) -> None:
        """Leave nothing below the cell."""
        if self._handle is not None:
            self._show("")

    def _show(self, html: str) -> None:
        from IPython.display import HTML, display  # noqa: PLC0415  a notebook has it

        if self._handle is None:
            self._handle = display(HTML(html), display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(HTML(html))  # type: ignore[no-untyped-call]
