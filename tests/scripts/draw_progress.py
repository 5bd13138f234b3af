"""Draw the progress of three steps that take as long as the test says."""

import sys
import threading

from rewriter.cli import progress_bars as drawing
from rich.progress import Progress

from rewriter.core import progress

shown = threading.Event()
start = Progress.start
Progress.start = lambda self: (start(self), shown.set())
with drawing.drawn("quiet" in sys.argv, float(sys.argv[1])), progress.stage("reading [red]model"):
    for item in progress.each("abc", "merging"):
        if item == "c" and "wait" in sys.argv:
            assert shown.wait(60)
print("done")
