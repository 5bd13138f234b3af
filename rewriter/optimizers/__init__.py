"""Rules that see a layer whole."""

import rewriter.adapters  # noqa: F401  before any module here: see there
