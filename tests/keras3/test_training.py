"""Models of Keras 3, on each backend in a process of its own."""

import sys

import pytest

from processes import run_script

MERGED = {"subclassed": 3, "shared": 3, "attention": 5, "convolutions": 3, "recurrent": 4}


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_training_goes_on_bit_for_bit(backend):
    """Adam with all its settings, rewritten after an epoch and split after another; joint momentum as in NumPy."""
    pytest.importorskip(backend)
    results = run_script("keras3_models", backend, python=[sys.executable])
    assert results["backend"] == backend
    same = {"outputs": True, "paths": True, "numbers": True}
    assert results["models"] == {name: {"same": same, "merged": count} for name, count in MERGED.items()}
    assert results["joint"] <= 1e-6
