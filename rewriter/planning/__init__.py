"""Decides which layers to merge and why; touches nothing."""

import rewriter.adapters  # noqa: F401  before any module here: see there
