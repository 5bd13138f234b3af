"""Models to disk and back."""

import rewriter.adapters  # noqa: F401  before any module here: see there
