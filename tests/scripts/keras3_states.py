"""What a rewrite leaves of models of Keras 3 as it was, and which of their calls an optimizer takes for training.

It prints what became of each.
"""

import contextlib
import json
import os
import subprocess
import sys
import warnings

os.environ["KERAS_BACKEND"] = sys.argv[1]

import keras
import numpy as np
from keras import layers
from keras.src.random import seed_generator

import rewriter

FOLDER = sys.argv[2]
GENERATOR = np.random.default_rng(4)
X, Y = (GENERATOR.standard_normal((8, size)).astype("float32") for size in (6, 2))


def values_of(model):
    return [keras.ops.convert_to_numpy(each).copy() for each in model.weights]


def plain():
    return keras.Sequential([keras.Input((6,)), layers.Dense(6, activation="tanh"), layers.Dense(2)])


def said_of_what_centers_nothing():
    """Return what is said when the optimizer of a model that trains already is centered, and nothing is merged."""
    model = plain()
    model.compile(keras.optimizers.Adam(), "mse")
    model.train_on_batch(X, Y)
    rewriter.keras3.Centered(model.optimizer)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.train_on_batch(X, Y)
        model.train_on_batch(X, Y)
    return [str(each.message) for each in caught if "centers nothing" in str(each.message)]


def leaves_out_in_what_trains_already():
    """Tell whether ``exclude=`` leaves a layer out, and no other, when the optimizer trains already."""
    trained, start = [], plain().get_weights()
    for exclude in (None, "*"):
        for center in (False, True):
            model = plain()
            model.set_weights(start)
            model.compile(keras.optimizers.SGD(0.01), "mse")
            rewriter.rewrite(model, "keep")
            model.train_on_batch(X, Y)
            if center:
                rewriter.keras3.Centered(model.optimizer, exclude=exclude)
            for _ in range(3):
                model.train_on_batch(X, Y)
            trained.append(values_of(rewriter.split(model)))
    centered, left_out = (all(map(np.array_equal, *trained[place : place + 2])) for place in (0, 2))
    return not centered and left_out


def base():
    inside = [layers.Dense(5, activation="tanh"), layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(4)]
    return keras.Sequential([keras.Input((6,)), *inside])


@keras.saving.register_keras_serializable("states")
class Fixed(keras.Model):
    """Its base does as in inference, as in Keras's guide on transfer learning."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.base, self.head = base(), layers.Dense(2)

    def call(self, inputs, training=None):
        del training
        return self.head(self.base(inputs, training=False))


@keras.saving.register_keras_serializable("states")
class Inferring(Fixed):
    """It takes what nobody said for inference."""

    def call(self, inputs, training=False):
        return self.head(self.base(inputs, training=training))


def states_are_left(make):
    """Tell whether a rewrite and a split, which run a model of a user in training too, leave all state as it was."""
    model = make()
    model(X)
    model.compile(keras.optimizers.Adam(), "mse")
    model.train_on_batch(X, Y)
    layers_of_it = list(model._flatten_layers())

    def state():
        seeds = [generator.state for layer in layers_of_it for generator in getattr(layer, "_seed_generators", ())]
        of_layers = [each for layer in layers_of_it for each in layer.non_trainable_variables]
        return [keras.ops.convert_to_numpy(each).copy() for each in (*seeds, *of_layers)]

    before = state()
    assert len(before) > 4
    rewriter.rewrite(model, "keep")
    after = state()
    rewriter.split(model)
    return all(map(np.array_equal, before, after)) and all(map(np.array_equal, before, state()))


class Counting(layers.Layer):
    """It changes what is no variable of Keras in each call, in place, and draws without a seed of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.calls = np.zeros(3)
        if keras.config.backend() == "torch":
            import torch  # noqa: PLC0415  of this backend alone

            self.register_buffer("seen", torch.zeros(2))
            self.inside = layers.TorchModuleWrapper(torch.nn.BatchNorm1d(6))

    def call(self, inputs):
        self.calls += 1
        if keras.config.backend() == "torch":
            self.seen += 1
            inputs = self.inside(inputs, training=True)
        if keras.config.backend() == "jax":  # where Keras refuses such a draw
            return inputs
        return inputs + 0.0 * keras.random.normal(keras.ops.shape(inputs))

    def state(self):
        drawn = [seed_generator.global_seed_generator().state]
        if keras.config.backend() == "torch":
            import torch  # noqa: PLC0415  of this backend alone

            drawn += [torch.get_rng_state(), *self.inside.module.buffers(), self.seen]
        return [self.calls.copy(), *(keras.ops.convert_to_numpy(each).copy() for each in drawn)]


def other_states_are_left():
    """Tell whether a rewrite, a comparison and a split leave what is no variable of the model as it was."""
    counting = Counting()
    model = keras.Sequential([keras.Input((6,)), counting, layers.Dense(5), layers.Dropout(0.5), layers.Dense(2)])
    model(X)
    before = counting.state()
    rewriter.rewrite(model)
    rewriter.verify(model, model, X)
    with rewriter.standard_form(model, check=True):
        pass
    return all(map(np.array_equal, before, counting.state()))


class Spoiling(layers.Dense):
    """It computes something else once it is merged."""

    def call(self, inputs):
        return super().call(inputs) * (2.0 if hasattr(self, "augmented_kernel") else 1.0)


def refuses_after_a_failed_rewrite():
    """Tell whether a torch optimizer of one's own refuses to train what a rewrite that failed has put back anew."""
    model = keras.Sequential([keras.Input((6,)), layers.Dense(4), Spoiling(2)])
    weights = values_of(model)
    own = None
    if keras.config.backend() == "torch":
        import torch  # noqa: PLC0415  of this backend alone

        own = torch.optim.SGD(model.parameters(), 0.1)
    try:
        rewriter.rewrite(model)
    except rewriter.DifferenceError:
        same = all(map(np.array_equal, weights, values_of(model)))
    try:
        own is None or own.step()
    except rewriter.OptimizerError:
        own = None
    return same and own is None


START = plain().get_weights()


def own_function_goes_on():
    """Return how far a user's ``tf.function``, traced before, trains weights otherwise than those of the plain model.

    Also, how many rows each layer has seen of one step of a function traced before its optimizer was centered.
    """
    if keras.config.backend() != "tensorflow":  # no other keeps the variables that a function was traced for
        return 0.0, [1.0, 1.0]
    plainly, merged = (trained_by_own_function(START, merging) for merging in (False, True))
    model, step = with_own_function(START)
    rewriter.rewrite(model, "keep")
    step(X, Y)
    rewriter.keras3.Centered(model.optimizer)
    step(X, Y)
    seen = [keras.ops.convert_to_numpy(each) for each in model.trainable_variables if each.path.endswith("inputs")]
    error = max(float(np.abs(one - other).max()) for one, other in zip(plainly, merged, strict=True))
    return error, [float(each[-1]) / len(X) for each in seen]


def trained_by_own_function(start, merging):
    model, step = with_own_function(start)
    step(X, Y)
    if merging:
        rewriter.rewrite(model, "keep")
    step(X, Y)
    with rewriter.standard_form(model) if merging else contextlib.nullcontext():
        step(X, Y)
    step(X, Y)
    if merging:
        rewriter.split(model)
    step(X, Y)
    return values_of(model)


def with_own_function(start):
    """Return a model with these weights, and a function of a user's own that trains it."""
    import tensorflow as tf  # noqa: PLC0415  of this backend alone

    model = plain()
    model.set_weights(start)
    model.compile(keras.optimizers.Adam(0.01), "mse")

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
        model.optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)

    return model, step


def inputs_are_read_by_name():
    """Tell whether the command line takes an array for each of several inputs, in any order."""
    if keras.config.backend() == "torch":  # the command line is not installed with it
        return True
    left, right = keras.Input((4,), name="right"), keras.Input((5,), name="left")
    model = keras.Model([left, right], layers.Dense(2)(layers.Concatenate()([left, right])))
    model.save(f"{FOLDER}/two.keras")
    np.savez(f"{FOLDER}/two.npz", left=np.ones((8, 5), "float32"), right=np.ones((8, 4), "float32"))
    command = [sys.executable, "-m", "rewriter", "verify", *2 * [f"{FOLDER}/two.keras"], "--data", f"{FOLDER}/two.npz"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def momentum_is_watched():
    """Tell whether the monitor writes in the middle of an epoch; on JAX the weights are elsewhere then."""
    if keras.config.backend() != "jax":  # TensorBoard is not installed with torch
        return True
    model = plain()
    model.compile(keras.optimizers.SGD(0.01), "mse")
    rewriter.rewrite(model)
    monitor = rewriter.keras3.callbacks.JointMomentumMonitor(f"{FOLDER}/watched", every=2)
    model.fit(X, Y, batch_size=len(X) // 5, epochs=2, verbose=0, callbacks=[monitor])
    return any(files for *_, files in os.walk(f"{FOLDER}/watched"))


def rows_seen(make):
    """Return how many rows each merged layer has seen, of a model that was fitted and then only ran."""
    model = make()
    model(X)
    rewriter.rewrite(model, rewriter.keras3.Centered(keras.optimizers.SGD(0.01), decay=1.0))
    model.compile(model.optimizer, "mse")
    for _ in range(3):
        model.train_on_batch(X, Y)
    model.predict(X, verbose=0)
    model(X, training=False)
    kept = [each for each in model.trainable_variables if each.path.endswith("inputs")]
    return [float(keras.ops.convert_to_numpy(each)[-1]) / len(X) for each in kept]


print(
    json.dumps(
        {
            "backend": keras.config.backend(),
            "nothing": said_of_what_centers_nothing(),
            "left out": leaves_out_in_what_trains_already(),
            "left": [*map(states_are_left, (Fixed, Inferring)), other_states_are_left()],
            "refuses": refuses_after_a_failed_rewrite(),
            "own function": own_function_goes_on(),
            "by name": inputs_are_read_by_name(),
            "watched": momentum_is_watched(),
            "rows": [rows_seen(make) for make in (Fixed, Inferring)],
        }
    )
)
