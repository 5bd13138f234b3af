"""A model of layers of a user's own, with pairs that no family knows."""

import tensorflow as tf
import tf_keras
from tf_keras import layers

register = tf_keras.saving.register_keras_serializable("family_models")


@register
class Mixing(layers.Layer):
    """Two pairs, the second with a unit in each row of its kernel, and a gain that is in none."""

    def __init__(self, units=4, **options):
        super().__init__(**options)
        self.units = units

    def build(self, input_shape):
        self.w = self.add_weight(name="w", shape=(input_shape[-1], self.units))
        self.b = self.add_weight(name="b", shape=(self.units,), initializer="ones", regularizer="l2")
        self.gain = self.add_weight(name="gain", shape=(5,), initializer="ones")
        self.v = self.add_weight(name="v", shape=(5, self.units))
        self.c = self.add_weight(name="c", shape=(5,), initializer="ones")
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
        self.from_input = self.add_weight(name="from_input", shape=(input_shape[-1], 4))
        self.from_state = self.add_weight(name="from_state", shape=(4, 4))
        self.b = self.add_weight(name="b", shape=(1, 4), initializer="ones")
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
