"""What each family of layers sees, and how its centered steps follow, against the plain model trained by hand."""

import numpy as np
import pytest
import tf_keras
from tf_keras import layers, optimizers

import rewriter
from centered_by_hand import ByHand
from rewriter import Centered

pytestmark = pytest.mark.usefixtures("float64")

RATE = float(np.float32(0.003))  # so that none of them leaves the region in which rounding stays small


def beside_rows(mean):
    return mean[:, np.newaxis]


def beside_taps(mean):
    return mean[:, np.newaxis]


# Name: the input's shape, the layer, the axes that are positions, the mean beside the kernel, the kernel's attribute.
FAMILIES = {
    "Dense": ((6,), lambda: layers.Dense(4), (0,), beside_rows, "kernel"),
    "Dense, three axes": ((3, 6), lambda: layers.Dense(4), (0, 1), beside_rows, "kernel"),
    "Conv1D": ((9, 3), lambda: layers.Conv1D(4, 3), (0, 1), beside_taps, "kernel"),
    "Conv2D": ((7, 6, 3), lambda: layers.Conv2D(4, (3, 2), strides=2), (0, 1, 2), beside_taps, "kernel"),
    "Conv2D, groups": (
        (5, 5, 4),
        lambda: layers.Conv2D(6, 2, groups=2),
        (0, 1, 2),
        lambda mean: np.repeat(mean.reshape(2, 2).T, 3, axis=1),
        "kernel",
    ),
    # As large as it has to be for a merge to pay.
    "Conv2DTranspose": ((16, 16, 3), lambda: layers.Conv2DTranspose(4, 3), (0, 1, 2), lambda mean: mean, "kernel"),
    "DepthwiseConv2D": (
        (6, 6, 3),
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
        (0, 1, 2),
        beside_taps,
        "depthwise_kernel",
    ),
    "EinsumDense": (
        (5, 3, 4),
        lambda: layers.EinsumDense("abcd,cde->abe", (None, 6), bias_axes="e"),
        (0, 1),
        lambda mean: mean[..., np.newaxis],
        "kernel",
    ),
    "EinsumDense, turned": (
        (5, 3, 4),
        lambda: layers.EinsumDense("abcd,dce->abe", (None, 6), bias_axes="e"),
        (0, 1),
        lambda mean: mean.T[..., np.newaxis],
        "kernel",
    ),
}


def one_layer(shape, make):
    tf_keras.utils.set_random_seed(3)
    inputs = tf_keras.Input(shape)
    return tf_keras.Model(inputs, layers.Dense(2, name="last")(layers.Flatten()(make()(inputs))))


def trained_by_hand(model, layer, positions, beside, name, data):
    last = model.get_layer("last")
    by_hand = ByHand(model, {layer: (positions, beside, name), last: ((0,), beside_rows, "kernel")}, RATE)
    for x, y in data:
        by_hand.step(by_hand.gradients(x, y))
    return model.get_weights()


def data_for(model, generator, steps=6):
    shapes = [(8, *model.input_shape[1:]), (8, 2)]
    return [(generator.normal(2.0, 1.0, shapes[0]), generator.standard_normal(shapes[1])) for _ in range(steps)]


@pytest.mark.parametrize("way", [{}, {"jit_compile": True}, {"run_eagerly": True}], ids=["graph", "XLA", "eagerly"])
@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_is_centered_by_what_it_sees(generator, family, way):
    shape, make, positions, beside, name = FAMILIES[family]
    plain, model = one_layer(shape, make), one_layer(shape, make)
    data = data_for(plain, generator)
    expected = trained_by_hand(plain, plain.layers[1], positions, beside, name, data)
    rewriter.rewrite(model, Centered(optimizers.SGD(RATE)), layers="all")
    assert all(hasattr(layer, "augmented_kernel") for layer in (model.layers[1], model.layers[-1]))
    model.compile(model.optimizer, "mse", **way)
    for x, y in data:
        model.train_on_batch(x, y)
    for one, other in zip(rewriter.split(model).get_weights(), expected, strict=True):
        assert np.abs(one - other).max() <= 1e-10


@pytest.mark.parametrize("family", FAMILIES)
def test_squares_are_moved_by_the_squares_of_what_it_sees(generator, family):
    shape, make, positions, beside, name = FAMILIES[family]
    model = one_layer(shape, make)
    layer = model.layers[1]
    rewriter.rewrite(model, Centered(optimizers.Adam(RATE)), layers="all")
    model.compile(model.optimizer, "mse", run_eagerly=True)
    (x, y), *_ = data_for(model, generator, 1)
    model.train_on_batch(x, y)
    optimizer = model.optimizer
    (squares,) = (each for each in optimizer._velocities if each.shape == layer.augmented_kernel.shape)
    before = {
        part: values.numpy() for part, values in rewriter.layout_of(layer.augmented_kernel).views(squares).items()
    }
    rewriter.split(model)
    after = {part: optimizer._velocities[place].numpy() for place, part in enumerate((name, "bias"))}
    mean = beside(x.mean(axis=positions))
    expected = before[name] + mean**2 * ByHand.to_kernel(layer, before["bias"])
    np.testing.assert_allclose(after[name], expected, rtol=1e-9)
    assert np.array_equal(after["bias"], before["bias"])
