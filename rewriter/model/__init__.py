"""What a model is made of, layer by layer, plain or merged."""

from .. import adapters  # noqa: F401  before any module here: see there
