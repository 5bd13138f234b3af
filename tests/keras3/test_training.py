"""Models of Keras 3, on each backend in a process of its own."""

import sys

import pytest

from processes import run_script

MERGED = {"subclassed": 3, "shared": 3, "attention": 5, "convolutions": 3, "recurrent": 4}


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_training_goes_on_bit_for_bit(backend, tmp_path):
    """Adam, rewritten after an epoch, through a file, and split; joint momentum as in NumPy.

    XLA, in which JAX trains, may round what it fuses in another way.
    """
    pytest.importorskip(backend)
    results = run_script("keras3_models", backend, tmp_path, python=[sys.executable])
    assert results["backend"] == backend
    models = results["models"]
    assert {name: each["merged"] for name, each in models.items()} == MERGED
    assert all(each["same"] for each in models.values())
    assert max(each["difference"] for each in models.values()) <= (1e-6 if backend == "jax" else 0)
    assert results["joint"] <= 1e-6
