"""Progress on the terminal: a bar for each stage, on standard error, once the work has taken two seconds."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING

from rich.console import Console

from rewriter.core.progress import listening
from rewriter.core.progress.bars import DELAY, Bars, new_progress

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def drawn(quiet: bool, delay: float = DELAY) -> Iterator[None]:
    """Inside, progress is drawn, and removed afterwards; nothing is drawn in a pipe, or if ``quiet``."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    # A descriptor of its own: standard error itself is held back while TensorFlow is loaded.
    with os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding) as stream:
        progress = new_progress(Console(file=stream))
        timer = threading.Timer(delay, progress.start)
        timer.start()
        try:
            with listening(Bars(progress)):
                yield
        finally:
            timer.cancel()
            timer.join()
            progress.stop()
