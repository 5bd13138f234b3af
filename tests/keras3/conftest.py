"""Each backend of Keras 3 in a process of its own; ``make test-backends`` says where torch is."""

import os
import sys

import pytest

from processes import run_script

# What is imported is not looked at again whenever Python collects, or the library looks for models that are alive.
_SETTLED = """
import gc, os
os.environ["KERAS_BACKEND"] = sys.argv[1]
import keras, rewriter.keras3
gc.collect()
gc.freeze()
"""

# JAX compiles each step of these small models for longer than it runs. The samples and several devices run as users do.
_QUICKLY = {"XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"}


@pytest.fixture
def torch_python():
    """The Python that has torch."""
    if "REWRITER_TORCH" not in os.environ:
        pytest.skip("make test-backends runs it")
    return os.environ["REWRITER_TORCH"]


@pytest.fixture(params=["tensorflow", "jax", "torch"])
def on_backend(request, tmp_path):
    """A function that runs a script on a backend, and returns what it says."""
    python = request.getfixturevalue("torch_python") if request.param == "torch" else sys.executable

    def run(script):
        quickly = _QUICKLY if request.param == "jax" else {}
        said = run_script(script, request.param, tmp_path, python=[python], before=_SETTLED, env=quickly)
        assert said["backend"] == request.param
        return said

    return run
