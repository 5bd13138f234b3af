"""Models to disk and back."""

from .. import adapters  # noqa: F401  before any module here: see there
