"""What a model is made of, seen by the tests; and training it by hand."""

import tensorflow as tf

from arrays import bits
from models import batch, fit
from rewriter.model import surgery
from rewriter.model.walk import locate_layers


def state(model):
    """What a model is made of, as far as rewriting could disturb it."""
    found = [model, *(located.layer for located in locate_layers(model))]
    return {
        "weights": [(weight.name, bits(weight.numpy())) for weight in model.weights],
        "trainable": [weight.name for weight in model.trainable_weights],
        "classes": [type(layer) for layer in found],
        "names": [layer.name for layer in found],
        "attributes": [sorted(set(vars(layer)) - {"_obj_reference_counts_dict"}) for layer in found],
        "losses": [len(layer._callable_losses) for layer in found],
        "checkpoint": [
            sorted(reference.name for reference in getattr(layer, "_self_unconditional_checkpoint_dependencies", ()))
            for layer in found
        ],
    }


def assert_untouched(model, before, untouched):
    """A model is what it was before, and one more epoch trains it as it trains a copy that was left alone."""
    assert state(model) == before
    fit(untouched)
    fit(model)
    assert [bits(weight.numpy()) for weight in model.weights] == [bits(weight.numpy()) for weight in untouched.weights]


def merged_layers(model):
    return [located.layer for located in locate_layers(model) if hasattr(located.layer, "augmented_kernel")]


def loop(model, optimizer):
    """Train in a loop of one's own."""
    x, y = batch()
    for _ in range(3):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
        optimizer.apply_gradients(
            zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
        )


def fail_at_the_second(monkeypatch, name):
    """Have surgery merge, or separate, one layer, and raise ``MemoryError`` at the next."""
    act, done = getattr(surgery, name), []

    def once(*args):
        if done:
            raise MemoryError
        done.append(act(*args))

    monkeypatch.setattr(surgery, name, once)
