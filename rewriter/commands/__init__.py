"""One command, from file to file."""

from .. import adapters  # noqa: F401  before any module here: see there
