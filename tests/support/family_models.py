"""Models with the layers of every family beside Dense."""

import tf_keras
from tf_keras import layers


def _model(shape, *inner):
    return tf_keras.Sequential(
        [layers.InputLayer((5,)), layers.Dense(24), layers.Reshape(shape), *inner, layers.Flatten(), layers.Dense(3)]
    )


def conv_1d():
    return _model(
        (12, 2),
        layers.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="relu"),
        layers.Conv1DTranspose(3, 3, strides=2),
        layers.SeparableConv1D(4, 3, depth_multiplier=2),
        layers.DepthwiseConv1D(3, depth_multiplier=2),
    )


def conv_2d():
    return _model(
        (3, 2, 4),
        layers.Conv2D(6, 2, groups=2, padding="same", activation="relu"),
        layers.Conv2DTranspose(5, 3, strides=2),
        layers.SeparableConv2D(4, 3),
        layers.DepthwiseConv2D(2, depth_multiplier=2),
    )


def conv_3d():
    return _model((3, 2, 2, 2), layers.Conv3D(3, 2, padding="same"), layers.Conv3DTranspose(2, 2))


def conv_regularized():
    constrained = {
        "kernel_constraint": tf_keras.constraints.MaxNorm(0.4, axis=[0, 1, 2]),
        "bias_constraint": "non_neg",
    }
    return _model(
        (3, 2, 4),
        layers.Conv2D(4, 2, kernel_regularizer="l2", bias_regularizer="l1", **constrained),
        layers.DepthwiseConv2D(1, depthwise_regularizer="l1", depthwise_constraint="unit_norm"),
        layers.SeparableConv2D(3, 1, pointwise_regularizer="l2", depthwise_regularizer="l1"),
    )


def einsum():
    return _model(
        (4, 6),
        layers.EinsumDense("abc,cd->abd", output_shape=(4, 4), bias_axes="d", kernel_regularizer="l2"),
        layers.EinsumDense("...x,xy->...y", output_shape=3, bias_axes="y"),
        layers.EinsumDense("abc,dc->abd", output_shape=(4, 4), bias_axes="d"),  # a unit is a row of the kernel
        layers.EinsumDense("abc,ced->abde", output_shape=(4, 2, 3), bias_axes="de"),  # its units in another order
        layers.EinsumDense("abde,dex->abx", output_shape=(4, 7), bias_axes="x"),
        layers.EinsumDense("abc,bcd->abd", output_shape=(4, 5), bias_axes="bd"),  # a kernel of its own for each b
    )


def attention():
    inputs = tf_keras.Input((5,))
    x = layers.Reshape((4, 6))(layers.Dense(24)(inputs))
    x = layers.MultiHeadAttention(2, 3)(x, x)
    return tf_keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


def recurrent():
    return _model(
        (6, 4),
        layers.SimpleRNN(4, return_sequences=True, kernel_regularizer="l2", recurrent_regularizer="l1"),
        layers.LSTM(4, return_sequences=True, recurrent_constraint="unit_norm"),
        layers.GRU(4, return_sequences=True),
        layers.Bidirectional(layers.GRU(3, return_sequences=True, reset_after=False)),
        layers.LSTM(2, return_sequences=True, implementation=1, recurrent_activation="hard_sigmoid"),  # steps of cells
        layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)], return_sequences=True),
    )


FAMILIES = {
    builder.__name__: builder for builder in (conv_1d, conv_2d, conv_3d, conv_regularized, einsum, attention, recurrent)
}
