"""Rewriting and splitting keep no copy of more than one layer: each old variable dies when its layer is done."""

import gc
import weakref

import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import rewriter
from rewriter.model import surgery

DEPTH = 8


@pytest.fixture
def most_alive(monkeypatch):
    """How many of the variables that are replaced are alive at most when a layer is done, by operation."""
    alive, most = weakref.WeakSet(), {"merge": 0, "separate": 0}

    class Held:
        def __init__(self, variable):
            variable.held_by_the_test = self  # dies with the variable

    def watched(operation, original):
        def run(layer, *arguments):
            alive.update(map(Held, layer.weights))
            result = original(layer, *arguments)
            most[operation] = max(most[operation], len(alive))
            return result

        return run

    for operation in most:
        monkeypatch.setattr(surgery, operation, watched(operation, getattr(surgery, operation)))
    gc.collect()
    gc.disable()  # what dies must die by itself
    yield most
    gc.enable()


@pytest.mark.parametrize("optimizer", [None, "sgd", "adam"])
@pytest.mark.parametrize("check", [False, True])
def test_old_variables_die_one_layer_at_a_time(most_alive, optimizer, check):
    model = tf_keras.Sequential([layers.Dense(4, input_shape=(4,)) for _ in range(DEPTH)])
    if optimizer is not None:
        model.compile(optimizer, "mse")
        model.fit(tf.zeros((2, 4)), tf.zeros((2, 4)), verbose=0)
        model.train_function = None  # it holds what it trains, until it is made anew
    rewriter.rewrite(model, None if optimizer is None else "keep", check=check)
    rewriter.split(model)
    assert most_alive == {"merge": 0, "separate": 0}
