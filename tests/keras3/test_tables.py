"""The models that tf-keras is tested with, read for Keras 3, and layers of one's own, on each backend."""

import pytest

pytestmark = pytest.mark.backends

LOOPS = {"recurrent", "masked"}  # on torch and TensorFlow, slices of a kernel in a loop are multiplied in another order


def test_the_tables_of_models(on_backend):
    """The models that tf-keras is tested with, from the same description: plain, rewritten, from a file, and split."""
    said = on_backend("keras3_tables")
    models, compiled = said["models"], said["backend"] == "jax"
    assert len(models) >= (10 if compiled else 32)
    assert all(each["merged"] and each["names"] and each["losses"] <= 1e-6 for each in models.values())
    outputs = {name: each["outputs"] for name, each in models.items() if each["outputs"]}
    assert outputs.keys() <= LOOPS
    assert max(outputs.values(), default=0) <= 1e-6
    states = {name: each["state"] for name, each in models.items() if each["state"]}
    assert max(states.values(), default=0) <= 1e-6
    assert compiled or states.keys() <= LOOPS


def test_pairs_are_found_in_what_a_model_computes(on_backend):
    """However a layer is written, by what TensorFlow or JAX trace; of known layers what is known of them."""
    said = on_backend("keras3_discovered")
    if said["backend"] == "torch":
        assert (
            said["refused"] == "discover=True is not there for Keras 3 on torch: declare the pairs with rewriter.pair."
        )
    else:
        assert (said["wrong"], said["looked_at"]) == ({}, 42)
