"""Models as users of TensorFlow have them: with its operations in calls and training steps of their own."""

import tensorflow as tf
import tf_keras
from tf_keras import layers

from zoo import called, register


@register
class OwnSteps(tf_keras.Model):
    """A subclassed Functional with a constructor and training steps of its own."""

    def __init__(self, units=6, **options):
        inputs = tf_keras.Input((5,))
        hidden = layers.Dense(units, activation="tanh", name="hidden")(inputs)
        super().__init__(inputs, layers.Dense(3, name="out")(hidden), **options)
        self.units = units

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True)) * 2.0
        self.optimizer.minimize(loss, self.trainable_variables, tape)
        return {"loss": loss}

    def test_step(self, data):
        x, y = data
        return {"loss": self.compute_loss(x, y, self(x, training=False)) * 2.0}

    def get_config(self):
        return {"units": self.units}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@register
class OwnCall(layers.Dense):
    """A Dense subclass with its own call, a branch on data in it, and a weight of its own between kernel and bias."""

    def build(self, input_shape):
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], self.units))
        self.scale = self.add_weight(name="scale", shape=(self.units,), initializer="ones")
        self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")
        self.calls = self.add_weight(name="calls", shape=(), initializer="zeros", trainable=False)
        self.built = True

    def call(self, inputs, training=False):
        outputs = tf.matmul(inputs, self.kernel) * self.scale + self.bias
        if training:
            self.calls.assign_add(1.0)
        if tf.reduce_sum(outputs) > 1e6:
            outputs = outputs * 0.5
        return outputs


@register
class Tied(tf_keras.Model):
    """A decoder that reads the encoder's kernel."""

    def __init__(self, **options):
        super().__init__(**options)
        self.encoder = layers.Dense(4, activation="tanh")
        self.decoder_bias = self.add_weight(name="decoder_bias", shape=(5,), initializer="zeros")
        self.head = layers.Dense(3)

    def call(self, inputs):
        code = self.encoder(inputs)
        return self.head(tf.matmul(code, self.encoder.kernel, transpose_b=True) + self.decoder_bias)

    def get_config(self):
        return {}


@register
class TracedCall(tf_keras.Model):
    """A call that the user has put in a ``tf.function``."""

    def __init__(self, **options):
        super().__init__(**options)
        self.dense = layers.Dense(3)

    @tf.function
    def call(self, inputs):
        return self.dense(inputs)

    def get_config(self):
        return {}


@register
class InModule(layers.Layer):
    """Layers inside a plain ``tf.Module``."""

    def __init__(self, **options):
        super().__init__(**options)
        self.module = tf.Module()
        self.module.dense = layers.Dense(4)

    def call(self, inputs):
        return self.module.dense(inputs)


def own_steps():
    return OwnSteps()


def own_call():
    return tf_keras.Sequential([layers.InputLayer((5,)), OwnCall(6, name="own"), layers.Dense(3)])


def tied():
    return called(Tied())


def traced_call():
    return called(TracedCall())


def in_module():
    return tf_keras.Sequential([layers.InputLayer((5,)), InModule(), layers.Dense(3)])


def operators_and_lambda():
    inputs = tf_keras.Input((5,))
    x = layers.Dense(4)(inputs)
    x = tf.nn.relu(x) * 2.0 + tf.reduce_mean(x, axis=1, keepdims=True)
    return tf_keras.Model(inputs, layers.Dense(3)(layers.Lambda(tf.tanh)(x[:, :3])))


def vocabulary():
    """A layer with a table, which Keras lists among the weights though it is no variable."""
    inputs = tf_keras.Input((5,))
    lookup = layers.IntegerLookup(vocabulary=[-1, 1, 2], output_mode="multi_hot")
    return tf_keras.Model(inputs, layers.Dense(3)(layers.Concatenate()([lookup(tf.cast(inputs, tf.int64)), inputs])))


WITH_TENSORFLOW = {
    builder.__name__: builder
    for builder in (
        own_steps,
        own_call,
        tied,
        traced_call,
        in_module,
        operators_and_lambda,
        vocabulary,
    )
}
