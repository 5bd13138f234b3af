"""Rules that see a layer whole."""

from .. import adapters  # noqa: F401  before any module here: see there
