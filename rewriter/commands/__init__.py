"""One command, from file to file."""

import rewriter.adapters  # noqa: F401  before any module here: see there
