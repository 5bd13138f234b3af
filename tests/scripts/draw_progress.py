"""Draw the progress of three steps that take as long as the test says."""

import sys
import threading

from rewriter.cli import progress_bars as drawing

from rewriter.core import progress

shown = threading.Event()
start = drawing.Progress.start
drawing.Progress.start = lambda self: (start(self), shown.set())
drawing._DELAY = float(sys.argv[1])
with drawing.drawn(quiet="quiet" in sys.argv), progress.stage("reading [red]model"):
    for item in progress.each("abc", "merging"):
        if item == "c" and "wait" in sys.argv:
            assert shown.wait(60)
print("done")
