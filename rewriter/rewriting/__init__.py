"""Rewrites a model in place, undoes it, and proves both."""

from .. import adapters  # noqa: F401  before any module here: see there
