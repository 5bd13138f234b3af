"""Decides which layers to merge and why; touches nothing."""

from .. import adapters  # noqa: F401  before any module here: see there
