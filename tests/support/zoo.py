"""Models as users have them: subclassed, wrapped, shared, masked, in mixed precision, with code of their own."""

import warnings

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras import layers

register = tf_keras.saving.register_keras_serializable("zoo")


@register
class Block(layers.Layer):
    """A custom layer that makes its Dense layers itself, as a transformer block does."""

    def __init__(self, units=6, **options):
        super().__init__(**options)
        self.units = units
        self.query, self.key = layers.Dense(units), layers.Dense(units)
        self.attention = layers.MultiHeadAttention(2, 3)
        self.norm = layers.LayerNormalization()
        self.feed_forward = [layers.Dense(8, activation="gelu"), layers.Dense(units)]

    def call(self, inputs):
        x = self.norm(inputs + self.attention(self.query(inputs), self.key(inputs)))
        for layer in self.feed_forward:
            x = layer(x)
        return x

    def get_config(self):
        return {**super().get_config(), "units": self.units}


class Unregistered(Block):
    """The same, unknown to Keras's registry."""


@register
class Subclassed(tf_keras.Model):
    """Layers in attributes, lists, tuples, dicts and nested lists."""

    def __init__(self, **options):
        super().__init__(**options)
        self.first = layers.Dense(6, activation="relu")
        self.listed = [layers.Dense(5), layers.Dense(5)]
        self.paired = (layers.Dense(5), layers.BatchNormalization())
        self.named = {"a": layers.Dense(5), "b": layers.Dense(5)}
        self.head = layers.Dense(3)

    def call(self, inputs, training=None):
        x = self.first(inputs)
        for layer in self.listed:
            x = layer(x)
        x = self.paired[1](self.paired[0](x), training=training)
        return self.head(self.named["a"](x) + self.named["b"](x))

    def get_config(self):
        return {}


@register
class Deep(tf_keras.Model):
    """Containers inside containers."""

    def __init__(self, **options):
        super().__init__(**options)
        self.grid = [[layers.Dense(5), layers.Dense(4)], [layers.Dense(3)]]

    def call(self, inputs):
        x = inputs
        for row in self.grid:
            for layer in row:
                x = layer(x)
        return x

    def get_config(self):
        return {}


@register
class DeepLayer(layers.Layer):
    """A layer with a list of lists, which Keras's .keras format does not save."""

    def __init__(self, **options):
        super().__init__(**options)
        self.grid = [[layers.Dense(5), layers.Dense(4)]]

    def call(self, inputs):
        return self.grid[0][1](self.grid[0][0](inputs))


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
        self.kernel = self.add_weight("kernel", (input_shape[-1], self.units))
        self.scale = self.add_weight("scale", (self.units,), initializer="ones")
        self.bias = self.add_weight("bias", (self.units,), initializer="zeros")
        self.calls = self.add_weight("calls", (), initializer="zeros", trainable=False)
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
        self.decoder_bias = self.add_weight("decoder_bias", (5,), initializer="zeros")
        self.head = layers.Dense(3)

    def call(self, inputs):
        code = self.encoder(inputs)
        return self.head(tf.matmul(code, self.encoder.kernel, transpose_b=True) + self.decoder_bias)

    def get_config(self):
        return {}


@register
class CallsCall(layers.Wrapper):
    """A wrapper that calls ``layer.call`` and never ``layer.__call__``."""

    def call(self, inputs):
        return self.layer.call(inputs) + 1.0


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


def custom_layer(block=Block):
    inputs = tf_keras.Input((5,))
    x = block(name="block")(layers.Reshape((1, 6))(layers.Dense(6)(inputs)))
    return tf_keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


def unregistered_layer():
    return custom_layer(Unregistered)


def called(model):
    model(np.zeros((2, 5), "float32"))
    return model


def subclassed():
    return called(Subclassed())


def deep_containers():
    return called(Deep())


def deep_layer():
    return tf_keras.Sequential([layers.InputLayer((5,)), DeepLayer(), layers.Dense(3)])


def own_steps():
    return OwnSteps()


def own_call():
    return tf_keras.Sequential([layers.InputLayer((5,)), OwnCall(6, name="own"), layers.Dense(3)])


def tied():
    return called(Tied())


def traced_call():
    return called(TracedCall())


def calls_call():
    return tf_keras.Sequential([layers.InputLayer((5,)), CallsCall(layers.Dense(4)), layers.Dense(3)])


def in_module():
    return tf_keras.Sequential([layers.InputLayer((5,)), InModule(), layers.Dense(3)])


def bidirectional():
    return tf_keras.Sequential(
        [
            layers.Reshape((5, 1), input_shape=(5,)),
            layers.TimeDistributed(layers.Dense(2)),
            layers.Bidirectional(layers.LSTM(3)),
            layers.Dense(3),
        ]
    )


def operators_and_lambda():
    inputs = tf_keras.Input((5,))
    x = layers.Dense(4)(inputs)
    x = tf.nn.relu(x) * 2.0 + tf.reduce_mean(x, axis=1, keepdims=True)
    return tf_keras.Model(inputs, layers.Dense(3)(layers.Lambda(tf.tanh)(x[:, :3])))


def masked():
    return tf_keras.Sequential(
        [
            layers.Reshape((5, 1), input_shape=(5,)),
            layers.Masking(0.5),
            layers.Dense(4),
            layers.GRU(3),
            layers.Dense(3),
        ]
    )


def rank_four():
    return tf_keras.Sequential(
        [
            layers.Reshape((5, 1, 1), input_shape=(5,)),
            layers.Dense(4, activation="relu"),
            layers.Dense(2),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


def odd_names():
    return tf_keras.Sequential(
        [layers.Dense(4, input_shape=(5,), name="a/b"), layers.Dense(4, name="a/b/c"), layers.Dense(3, name="c.d-e")]
    )


def repeated_names():
    inputs = tf_keras.Input((5,))
    one = tf_keras.Sequential([layers.Dense(5, input_shape=(5,), name="dense")], name="one")
    two = tf_keras.Sequential([layers.Dense(5, input_shape=(5,), name="dense")], name="two")
    return tf_keras.Model(inputs, layers.Dense(3, name="dense")(one(inputs) + two(inputs)))


def custom_initializers():
    constant = tf_keras.initializers.Constant(0.1)
    return tf_keras.Sequential(
        [
            layers.Dense(4, kernel_initializer="he_normal", bias_initializer=constant, input_shape=(5,)),
            layers.Dense(3, kernel_initializer=tf_keras.initializers.Orthogonal(seed=1), bias_initializer="ones"),
        ]
    )


@register
class Encoder(tf_keras.Model):
    """Makes models inside, whose layers Keras numbers as it goes: in a new process they are called otherwise."""

    def __init__(self, size=4, **options):
        super().__init__(**options)
        self.size = size
        self.encoder = tf_keras.Sequential([layers.Dense(size, activation="tanh"), layers.Dense(size)])
        self.decoder = layers.Dense(3)

    def call(self, inputs):
        return self.decoder(self.encoder(inputs))

    def get_config(self):
        return {"size": self.size}


def numbered():
    called(Encoder())
    return called(Encoder())


@register
class OwnFunctional(tf_keras.Model):
    """A Functional model whose config does not say so."""

    def __init__(self, units=4, **options):
        inputs = tf_keras.Input((5,))
        super().__init__(inputs, layers.Dense(units)(inputs), **options)
        self.units = units

    def get_config(self):
        return {"units": self.units, "name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def own_functional():
    inputs = tf_keras.Input((5,))
    inner = OwnFunctional(5)
    return tf_keras.Model(inputs, layers.Dense(3)(inner(inner(inputs))))


def discretized():
    """A layer that was adapted, and saves some of its weights in a way of its own."""
    inputs = tf_keras.Input((5,))
    discretize = layers.Discretization(num_bins=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NumPy 2, at TensorFlow
        discretize.adapt(np.linspace(-1, 1, 20).reshape(4, 5))
    return tf_keras.Model(inputs, layers.Dense(3)(layers.CategoryEncoding(4)(discretize(inputs))))


def vocabulary():
    """A layer with a table, which Keras lists among the weights though it is no variable."""
    inputs = tf_keras.Input((5,))
    lookup = layers.IntegerLookup(vocabulary=[-1, 1, 2], output_mode="multi_hot")
    return tf_keras.Model(inputs, layers.Dense(3)(layers.Concatenate()([lookup(tf.cast(inputs, tf.int64)), inputs])))


ZOO = {
    builder.__name__: builder
    for builder in (
        custom_layer,
        unregistered_layer,
        subclassed,
        deep_containers,
        deep_layer,
        own_steps,
        own_call,
        tied,
        traced_call,
        calls_call,
        in_module,
        bidirectional,
        operators_and_lambda,
        masked,
        rank_four,
        odd_names,
        repeated_names,
        custom_initializers,
        numbered,
        own_functional,
        discretized,
        vocabulary,
    )
}
