"""The models of the tests: each is named, built, and small enough to train in a moment."""

import numpy as np
import tf_keras
from tf_keras import layers


@tf_keras.saving.register_keras_serializable("tests")
class ReadsClass(layers.Layer):
    """Gives something else once the layer before it is not a plain Dense, or no more so."""

    def __init__(self, dense, suspicious=True, **options):
        super().__init__(**options)
        self.watched = [dense]
        self.suspicious = suspicious
        self.scale = self.add_weight(name="scale", shape=(), initializer="ones")

    def call(self, inputs):
        return inputs * self.scale * (1.0 if (type(self.watched[0]) is layers.Dense) is self.suspicious else 2.0)


def sequential():
    return tf_keras.Sequential(
        [layers.Dense(7, activation="relu", input_shape=(5,)), layers.BatchNormalization(), layers.Dense(3)]
    )


def functional():
    inputs = tf_keras.Input((5,))
    left = layers.Dense(4, activation="tanh", name="left")(inputs)
    right = layers.Dense(4, use_bias=False, name="right")(inputs)
    return tf_keras.Model(inputs, layers.Dense(3, name="head")(layers.add([left, right])))


def nested():
    innermost = tf_keras.Sequential([layers.Dense(4, input_shape=(6,), name="deep")], name="innermost")
    inner_input = tf_keras.Input((5,))
    inner = tf_keras.Model(inner_input, innermost(layers.Dense(6, name="first")(inner_input)), name="inner")
    inputs = tf_keras.Input((5,))
    return tf_keras.Model(inputs, layers.Dense(3, name="last")(inner(inputs)))


def nested_called_twice():
    inner = tf_keras.Sequential([layers.Dense(5, activation="tanh", input_shape=(5,))], name="inner")
    inputs = tf_keras.Input((5,))
    return tf_keras.Model(inputs, layers.Dense(3)(inner(inner(inputs))))


def shared():
    dense = layers.Dense(5, activation="relu", name="dense_twice")
    inputs = tf_keras.Input((5,))
    return tf_keras.Model(inputs, layers.Dense(3, name="head")(dense(dense(inputs))))


def shared_across_levels():
    dense = layers.Dense(5, activation="tanh", name="both")
    inner_input = tf_keras.Input((5,))
    inner = tf_keras.Model(inner_input, dense(inner_input), name="inner")
    inputs = tf_keras.Input((5,))
    return tf_keras.Model(inputs, layers.Dense(3, name="head")(dense(inner(inputs))))


def time_distributed():
    return tf_keras.Sequential(
        [
            layers.Reshape((5, 1), input_shape=(5,)),
            layers.TimeDistributed(layers.Dense(4, activation="relu")),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


def regularized():
    return tf_keras.Sequential(
        [
            layers.Dense(6, input_shape=(5,), kernel_regularizer="l2", bias_regularizer="l1"),
            layers.Dense(3, kernel_regularizer=tf_keras.regularizers.L1L2(0.1, 0.2), activity_regularizer="l2"),
        ]
    )


def constrained():
    return tf_keras.Sequential(
        [
            layers.Dense(6, input_shape=(5,), kernel_constraint=tf_keras.constraints.MaxNorm(0.5)),
            layers.Dense(4, kernel_constraint="unit_norm", bias_constraint="non_neg", activation="tanh"),
            layers.Dense(3, bias_constraint=tf_keras.constraints.MaxNorm(0.1)),
        ]
    )


def partly_frozen():
    model = sequential()
    model.layers[0].trainable = False
    return model


def one_by_one():
    return tf_keras.Sequential([layers.Dense(1, input_shape=(5,)), layers.Dense(1), layers.Dense(3)])


def whole_vectors():
    """Every weight fills whole vector registers (16 floats), so that no element moves to or from a scalar tail."""
    return tf_keras.Sequential(
        [
            layers.Dense(16, activation="relu", input_shape=(5,)),
            layers.Dense(32, activation="tanh"),
            layers.Dense(3, use_bias=False),
        ]
    )


MODELS = {
    builder.__name__: builder
    for builder in (
        sequential,
        functional,
        nested,
        nested_called_twice,
        shared,
        shared_across_levels,
        time_distributed,
        regularized,
        constrained,
        partly_frozen,
        one_by_one,
        whole_vectors,
    )
}


def batch(rows=24):
    """Inputs and targets that every model of the table takes."""
    generator = np.random.default_rng(3)
    x, y = generator.standard_normal((rows, 5)), generator.standard_normal((rows, 3))
    return x.astype("float32"), y.astype("float32")


def trained_pair(builder, optimizer="adam", epochs=1, run_eagerly=False):
    """Two copies of a model, compiled and trained alike; what the second one becomes is compared with the first."""
    pair = []
    for _ in range(2):
        tf_keras.utils.set_random_seed(5)
        model = builder()
        chosen = optimizer if isinstance(optimizer, str) else optimizer()
        model.compile(chosen, "mse", metrics=["mae"], run_eagerly=run_eagerly)
        if epochs:
            fit(model, epochs)
        pair.append(model)
    return pair


def fit(model, epochs=1, **options):
    """Train on the same batches in the same order, whichever model it is."""
    tf_keras.utils.set_random_seed(5)
    if model.run_eagerly and not options:
        # The same steps: what fit does around them takes two thirds of its time.
        x, y = batch()
        for start in (*range(0, len(x), 8),) * epochs:
            model.train_on_batch(x[start : start + 8], y[start : start + 8])
        return None
    return model.fit(*batch(), epochs=epochs, batch_size=8, shuffle=False, verbose=0, **options)


def save_in_each_format(folder):
    """Save a trained model as ``model.keras``, ``model.h5`` and the SavedModel ``model``; returns it."""
    model = MODELS["nested"]()
    model.compile("adam", "mse")
    fit(model)
    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    model.save(folder / "model", save_format="tf")
    return model
