"""The version, alone, so that the build and ``rewriter --version`` read it without importing TensorFlow."""

__version__ = "0.2.0"
