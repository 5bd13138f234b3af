"""Rewrites a model in place, undoes it, and proves both."""

import rewriter.adapters  # noqa: F401  before any module here: see there
