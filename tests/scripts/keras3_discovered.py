"""Look for pairs in layers of one's own on a backend of Keras 3; print what is found in each way of writing them."""

import json
import os
import sys

os.environ["KERAS_BACKEND"] = sys.argv[1]

import keras
import numpy as np
from keras import layers, ops
from rewriter.keras3.model.families import family_of
from rewriter.keras3.model.walk import locate_layers
from rewriter.keras3.planning.pair_discovery import discover

import rewriter

SQUARE = {"w": (4, 4), "b": (4,)}
STACK = {"w": (3, 4, 4), "b": (3, 4)}
TWO = {"w": (4, 4), "u": (4, 4), "b": (4,), "c": (4,)}


class Custom(layers.Layer):
    """A layer whose weights and call are given: ``shapes`` by name, and ``call`` of the layer and its input."""

    def __init__(self, shapes, call, **options):
        super().__init__(**options)
        self.shapes, self.own_call = shapes, call

    def build(self, _):
        for name, shape in self.shapes.items():
            setattr(self, name, self.add_weight(shape, name=name, initializer="random_normal"))

    def call(self, inputs):
        return self.own_call(self, inputs)


def positions(x):
    return ops.stack([x] * 3, 1)


def by_pieces(s, x):
    kernels, biases = ops.split(s.w, 2, axis=1), ops.split(s.b, 2)
    return ops.tanh(x @ kernels[0] + biases[0]) * (x @ kernels[1] + biases[1])


def in_float16(s, x):
    kernel, bias, x = (ops.cast(each, "float16") for each in (s.w, s.b, x))
    return ops.cast(x @ kernel + bias, "float32")


def in_loop(s, x):
    return ops.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, ops.tanh(y @ s.w + s.b)), (0, x))[1]


def in_scan(s, x):
    return ops.scan(lambda h, _: (ops.tanh(h @ s.w + s.b), h), x, length=3)[0]


def in_stack(s, x):
    for place in range(3):
        x = ops.tanh(ops.matmul(x, s.w[place]) + s.b[place])
    return x


def in_scan_of_stack(s, x):
    stack = ops.convert_to_tensor(s.w), ops.convert_to_tensor(s.b)
    return ops.scan(lambda h, each: (ops.tanh(ops.matmul(h, each[0]) + each[1]), h), x, stack)[0]


def in_condition(s, x):
    return ops.cond(ops.sum(x) > 0, lambda: x @ s.w + s.b, lambda: x @ s.u + s.c)


# The shapes of the weights, the call, and the pairs in it.
WAYS = {
    "plain": (SQUARE, lambda s, x: x @ s.w + s.b, [("w", "b")]),
    "bias first": (SQUARE, lambda s, x: s.b + ops.matmul(x, s.w), [("w", "b")]),
    "einsum": (SQUARE, lambda s, x: ops.einsum("bi,io->bo", x, s.w) + s.b, [("w", "b")]),
    "einsum of rows": (SQUARE, lambda s, x: ops.einsum("bi,oi->bo", x, s.w) + s.b, [("w", "b")]),
    "tensordot": (SQUARE, lambda s, x: ops.tensordot(x, s.w, 1) + s.b, [("w", "b")]),
    "transposed before": (SQUARE, lambda s, x: x @ ops.transpose(s.w) + s.b, [("w", "b")]),
    "kernel on the left": (
        {"w": (4, 4), "b": (4, 1)},
        lambda s, x: ops.transpose(s.w @ ops.transpose(x) + s.b),
        [("w", "b")],
    ),
    "residual between": (SQUARE, lambda s, x: (x @ s.w + x) + s.b, [("w", "b")]),
    "positions": (SQUARE, lambda s, x: ops.sum(positions(x) @ s.w + s.b, 1), [("w", "b")]),
    "a batch of products": (
        {"w": (3, 4, 4), "b": (3, 4)},
        lambda s, x: ops.einsum("bnd,ndk->bnk", positions(x), s.w) + s.b,
        [("w", "b")],
    ),
    "heads": (
        {"w": (4, 2, 2), "b": (2, 2)},
        lambda s, x: ops.reshape(ops.einsum("bd,dnk->bnk", x, s.w) + s.b, (-1, 4)),
        [("w", "b")],
    ),
    "reshaped after": (
        {"w": (4, 2, 2), "b": (2, 2)},
        lambda s, x: ops.reshape(x @ ops.reshape(s.w, (4, 4)), (-1, 2, 2)) + s.b,
        [("w", "b")],
    ),
    "a bias of a row": ({"w": (4, 4), "b": (1, 4)}, lambda s, x: x @ s.w + s.b, [("w", "b")]),
    "a bias that is spread": (SQUARE, lambda s, x: x @ s.w + ops.broadcast_to(s.b, ops.shape(x)), [("w", "b")]),
    "a convolution": (
        {"w": (2, 4, 5), "b": (5,)},
        lambda s, x: ops.sum(ops.conv(positions(x), s.w, padding="valid") + s.b, 1),
        [("w", "b")],
    ),
    "after an activation": (SQUARE, lambda s, x: ops.relu(x) @ s.w + s.b, [("w", "b")]),
    "an own gradient": (SQUARE, lambda s, x: ops.gelu(x @ s.w + s.b), [("w", "b")]),
    "remat": (SQUARE, lambda s, x: keras.remat(lambda y: y @ s.w + s.b)(x), [("w", "b")]),
    "in float16": (
        SQUARE,
        lambda s, x: ops.cast(ops.cast(x, "float16") @ ops.cast(s.w, "float16") + ops.cast(s.b, "float16"), "float32"),
        [("w", "b")],
    ),
    "two kernels": (TWO, lambda s, x: x @ s.w + ops.tanh(x) @ s.u + s.b, [("w", "u", "b")]),
    "two pairs added": (TWO, lambda s, x: (x @ s.w + s.b) + (x @ s.u + s.c), [("w", "b"), ("u", "c")]),
    "by pieces": ({"w": (4, 6), "b": (6,)}, by_pieces, [("w", "b")]),
    "a piece of the result": (SQUARE, lambda s, x: (x @ s.w)[:, 1:3] + s.b[1:3], [("w", "b")]),
    "in a loop": (SQUARE, in_loop, [("w", "b")]),
    "in a scan": (SQUARE, in_scan, [("w", "b")]),
    "in a condition": (TWO, in_condition, [("w", "b"), ("u", "c")]),
    "kernels in a stack": (STACK, in_stack, []),
    "kernels in a stack, in a scan": (STACK, in_scan_of_stack, []),
    "another half": (SQUARE, lambda s, x: x @ s.w[:, :2] + s.b[2:], []),
    "turned round": (SQUARE, lambda s, x: x @ s.w + ops.flip(s.b), []),
    "along the rows": (SQUARE, lambda s, x: ops.einsum("bi,io->ob", ops.ones((4, 4)), s.w) + s.b, []),
    "scaled": (SQUARE, lambda s, x: (x @ s.w) * 2 + s.b, []),
    "multiplied by the bias": (SQUARE, lambda s, x: (x @ s.w) * s.b, []),
    "a bias for each position": ({"w": (4, 4), "b": (3, 4)}, lambda s, x: positions(x) @ s.w + s.b, []),
    "groups crossed": (
        SQUARE,
        lambda s, x: ops.transpose(ops.reshape(x @ s.w, (-1, 2, 2)), (0, 2, 1)) + ops.reshape(s.b, (2, 2)),
        [],
    ),
}


def made(name):
    shapes, call, _ = WAYS[name]
    return keras.Sequential([keras.Input((4,)), Custom(shapes, call, name="custom")])


def found(name):
    """Return the pairs that are found in a layer."""
    decisions = rewriter.plan(made(name), discover=True).decisions
    # A pair of which each step would copy the kernel, transposed, is found and left as it is.
    return [each.weights for each in decisions if each.action == "merge" or "transposed" in each.reason]


def computes_the_same(name):
    """Tell whether a layer computes the same merged, and has the same weights when it is split."""
    model, x = made(name), np.random.default_rng(0).normal(size=(4, 4)).astype("float32")
    before, weights = ops.convert_to_numpy(model(x)), model.get_weights()
    rewriter.rewrite(model, discover=True)
    merged = any("augmented" in each.path for each in model.weights)
    same = np.array_equal(before, ops.convert_to_numpy(model(x)))
    rewriter.split(model)
    return bool(merged and same and all(map(np.array_equal, weights, model.get_weights())))


def attention():
    inputs = keras.Input((None, 8))
    return keras.Model(inputs, layers.MultiHeadAttention(2, 4)(inputs, inputs))


def stacked(shape, *inner):
    return keras.Sequential([keras.Input(shape), *inner])


KNOWN = {
    "dense": lambda: stacked((None, 4), layers.Dense(3, activation="gelu"), layers.Dropout(0.1), layers.Dense(2)),
    "mixed": lambda: stacked((5,), layers.BatchNormalization(), layers.Dense(3, dtype="mixed_bfloat16")),
    "convolutions": lambda: stacked(
        (8, 8, 4),
        layers.Conv2D(4, 3, groups=2),
        layers.DepthwiseConv2D(3, depth_multiplier=2),
        layers.Conv2DTranspose(4, 3, strides=2),
        layers.Reshape((-1, 4)),
        layers.Conv1D(4, 3, padding="causal"),
    ),
    "einsum": lambda: stacked((5, 4), layers.EinsumDense("abc,cde->abde", output_shape=(None, 2, 3), bias_axes="de")),
    "attention": attention,
    "recurrent": lambda: stacked(
        (None, 4),
        layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
        layers.GRU(3, return_sequences=True),
        layers.SimpleRNN(2),
    ),
}


def known(model):
    """Return what the table of families says of the layers of a model, by their path."""
    return {
        place.paths[0]: (family.pair(place.layer) if callable(family.pair) else family.pair,)
        for place in locate_layers(model)
        if (family := family_of(place.layer)) is not None and place.layer.bias is not None
    }


class MakesWeights(layers.Layer):
    """A layer that makes a layer when it is called in training."""

    def call(self, inputs, training=False):
        return layers.Dense(4)(inputs) if training else inputs


def looked_at():
    """Return what is found otherwise than it should be, and how many ways were looked at."""
    wrong = {}
    for name, (_, _, pairs) in WAYS.items():
        if found(name) != pairs:
            wrong[name] = found(name)
    for name in ("plain", "heads", "a convolution", "two kernels", "by pieces", "in a scan"):
        if not computes_the_same(name):
            wrong[name] = "computes something else"
    for name, builder in KNOWN.items():
        model = builder()
        pairs = discover(model).pairs
        seen = {each.paths[0]: pairs[id(each.layer)] for each in locate_layers(model) if id(each.layer) in pairs}
        if seen != known(model):
            wrong[name] = str(seen)
    made = stacked((4,), layers.Dense(4), MakesWeights())
    if len(discover(made).pairs) != 1 or len(made.weights) != 2:
        wrong["makes weights"] = [each.path for each in made.weights]
    return {"wrong": wrong, "looked_at": len(WAYS) + len(KNOWN) + 1}


try:
    said = looked_at()
except rewriter.ModelError as error:
    said = {"refused": str(error)}
print(json.dumps({"backend": keras.config.backend(), **said}))
