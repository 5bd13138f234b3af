"""Models as users have them: subclassed, wrapped, shared, masked, with layers of their own; of any Keras."""

import warnings

import numpy as np
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
class CallsCall(layers.Wrapper):
    """A wrapper that calls ``layer.call`` and never ``layer.__call__``."""

    def call(self, inputs):
        return self.layer.call(inputs) + 1.0


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


def calls_call():
    return tf_keras.Sequential([layers.InputLayer((5,)), CallsCall(layers.Dense(4)), layers.Dense(3)])


def bidirectional():
    return tf_keras.Sequential(
        [
            layers.Reshape((5, 1), input_shape=(5,)),
            layers.TimeDistributed(layers.Dense(2)),
            layers.Bidirectional(layers.LSTM(3)),
            layers.Dense(3),
        ]
    )


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


ZOO = {
    builder.__name__: builder
    for builder in (
        custom_layer,
        unregistered_layer,
        subclassed,
        deep_containers,
        deep_layer,
        calls_call,
        bidirectional,
        masked,
        rank_four,
        odd_names,
        repeated_names,
        custom_initializers,
        numbered,
        own_functional,
        discretized,
    )
}
