"""``python -m rewriter`` is ``rewriter``."""

from rewriter.cli import main

main()
