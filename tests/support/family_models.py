"""Models with the layers of every family beside Dense, and one with layers that nobody registered."""

import tensorflow as tf
import tf_keras
from tf_keras import layers

register = tf_keras.saving.register_keras_serializable("family_models")


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
        layers.EinsumDense("abc,cd->abd", output_shape=(None, 4), bias_axes="d", kernel_regularizer="l2"),
        layers.EinsumDense("...x,xy->...y", output_shape=3, bias_axes="y"),
        layers.EinsumDense("abc,dc->abd", output_shape=(None, 4), bias_axes="d"),  # a unit is a row of the kernel
        layers.EinsumDense("abc,ced->abde", output_shape=(None, 2, 3), bias_axes="de"),  # its units in another order
        layers.EinsumDense("abde,dex->abx", output_shape=(None, 7), bias_axes="x"),
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


@register
class Mixing(layers.Layer):
    """Two pairs, the second with a unit in each row of its kernel, and a gain that is in none."""

    def __init__(self, units=4, **options):
        super().__init__(**options)
        self.units = units

    def build(self, input_shape):
        self.w = self.add_weight("w", (input_shape[-1], self.units))
        self.b = self.add_weight("b", (self.units,), initializer="ones", regularizer="l2")
        self.gain = self.add_weight("gain", (5,), initializer="ones")
        self.v = self.add_weight("v", (5, self.units))
        self.c = self.add_weight("c", (5,), initializer="ones")
        super().build(input_shape)

    def call(self, inputs):
        hidden = tf.tanh(tf.matmul(inputs, self.w) + self.b)
        return (tf.matmul(hidden, self.v, transpose_b=True) + self.c) * self.gain

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@register
class Gate(layers.Layer):
    """A loop over the rows of its input, fed by its own state."""

    def build(self, input_shape):
        self.from_input = self.add_weight("from_input", (input_shape[-1], 4))
        self.from_state = self.add_weight("from_state", (4, 4))
        self.b = self.add_weight("b", (1, 4), initializer="ones")
        super().build(input_shape)

    def call(self, inputs):
        def step(index, state):
            return index + 1, tf.tanh(inputs[:, index] @ self.from_input + state @ self.from_state + self.b)

        start = tf.zeros((tf.shape(inputs)[0], 4))
        shapes = tf.TensorShape([]), tf.TensorShape([None, 4])
        steps = inputs.shape[1]
        return tf.while_loop(lambda index, _: index < steps, step, (0, start), shape_invariants=shapes)[1]


def hand_made():
    return tf_keras.Sequential(
        [
            layers.InputLayer((5,)),
            layers.Dense(24),
            layers.Reshape((6, 4)),
            Gate(name="gate"),
            Mixing(name="mixing"),
            layers.Dense(3),
        ]
    )


FAMILIES = {
    builder.__name__: builder for builder in (conv_1d, conv_2d, conv_3d, conv_regularized, einsum, attention, recurrent)
}
