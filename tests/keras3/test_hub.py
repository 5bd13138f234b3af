"""Backbones of KerasHub with random weights; ``make test-hub`` installs it."""

import os

import pytest

pytestmark = pytest.mark.skipif("REWRITER_HUB" not in os.environ, reason="make test-hub runs it")


def test_backbones_train_as_they_do_plain(on_backend):
    """Trained, rewritten, trained, read from a file where Keras itself reads it, and split: bit for bit, all state."""
    models = on_backend("keras3_hub")["models"]
    merged = {"BERT": 13, "GPT-2": 13, "Albert": 8, "ViT": 14}
    assert {name: count for name, (count, _, _) in models.items()} == merged
    assert {name: apart for name, (_, *apart) in models.items() if any(apart)} == {}
