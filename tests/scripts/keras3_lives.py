"""Models of Keras 3 that are nested, frozen and thawed, not compiled, or leave biases out of weight decay.

It prints what became of each.
"""

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
    return [keras.ops.convert_to_numpy(each) for each in model.weights]


def are_same(one, other):
    return all(map(np.array_equal, values_of(one), values_of(other)))


def plain():
    return keras.Sequential([keras.Input((6,)), layers.Dense(6, activation="tanh"), layers.Dense(2)])


def functional(inner):
    inputs = keras.Input((6,))
    return keras.Model(inputs, layers.Dense(2)(inner(inner(inputs))))


def square():
    inputs = keras.Input((6,))
    return keras.Model(inputs, layers.Dense(6)(inputs))


NESTED = {
    "a Functional in a Functional, twice": lambda: functional(square()),
    "a Sequential in a Functional, twice": lambda: functional(keras.Sequential([keras.Input((6,)), layers.Dense(6)])),
    "a Functional in a Sequential": lambda: keras.Sequential([keras.Input((6,)), square(), layers.Dense(2)]),
}


def is_read(make, compiled):
    """Tell whether files of a model, in both forms, are read as they were written."""
    model, path = make(), f"{FOLDER}/model.keras"
    if compiled:
        model.compile("adam", "mse")
        model.train_on_batch(X, Y)
    model.save(path)
    same = [are_same(rewriter.load_model(path), model)]
    rewriter.rewrite(model, "keep")
    for save in (rewriter.save_model, lambda model, path, overwrite: model.save(path, overwrite=overwrite)):
        save(model, path, overwrite=True)
        same.append(are_same(rewriter.load_model(path), model))
    rewriter.export(model, path, overwrite=True)
    same.append(are_same(keras.saving.load_model(path), rewriter.split(model)))
    return all(same)


def attention():
    inputs = keras.Input((4, 6))
    return keras.Model(inputs, layers.Dense(2)(layers.MultiHeadAttention(2, 3)(inputs, inputs)))


def recurrent():
    inputs = keras.Input((4, 6))
    return keras.Model(inputs, layers.Dense(2)(layers.LSTM(3, return_sequences=True)(inputs)))


RESUMED = {
    "plain": (attention, keras.optimizers.Adam, None),
    "attention": (attention, keras.optimizers.Adam, "keep"),
    "recurrent": (recurrent, keras.optimizers.Nadam, "keep"),
    "scaled": (recurrent, lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()), "keep"),
}


def resumes_from_h5(make, optimizer, choice):
    """Tell whether training goes on from an ``.h5`` file, of which Keras itself reads no optimizer's state."""
    x, y = (GENERATOR.standard_normal((8, 4, size)).astype("float32") for size in (6, 2))
    model, path = make(), f"{FOLDER}/model.h5"
    model.compile(optimizer(), "mean_squared_error")
    if choice is not None:
        rewriter.rewrite(model, choice, layers="all")
    model.train_on_batch(x, y)
    rewriter.save_model(model, path, overwrite=True)
    assert model.get_compile_config()["optimizer"] is not None  # Keras takes it out, and the next file would have none
    loaded = rewriter.load_model(path)
    for each in (model, loaded):
        each.train_on_batch(x, y)
    states = [[*each.weights, *each.optimizer.variables] for each in (model, loaded)]
    return all(np.array_equal(*map(keras.ops.convert_to_numpy, pair)) for pair in zip(*states, strict=True))


@keras.saving.register_keras_serializable("lives")
class Subclassed(keras.Model):
    """Keras names its layers anew whenever it is made."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.last = layers.Dense(4, activation="tanh"), layers.Dense(2)

    def call(self, inputs):
        return self.last(self.first(inputs))


def resumes_under_muon():
    """Tell whether it is known which layer of a subclassed model gave the outputs."""
    model, path = Subclassed(), f"{FOLDER}/muon.keras"
    model(X)
    model.compile("sgd", "mse")
    rewriter.rewrite(model, rewriter.keras3.Muon(0.01))
    model.train_on_batch(X, Y)
    rewriter.save_model(model, path)
    loaded = rewriter.load_model(path)
    for each in (model, loaded):
        each.train_on_batch(X, Y)
    return are_same(model, loaded)


def refused_tensors():
    """Return what is said where the bias of a merged layer is to be left out of weight decay, or quantized."""
    model, said = plain(), []
    model.compile("sgd", "mse")
    rewriter.rewrite(model)
    bias, layer = model.layers[0].bias, model.layers[0]
    left_out = keras.optimizers.AdamW()
    left_out.exclude_from_weight_decay(each for each in plain().variables if each.name == "bias")  # it is read once
    assert len(left_out._exclude_from_weight_decay) == len(model.layers)
    for ask in (
        lambda: keras.optimizers.AdamW().exclude_from_weight_decay([bias]),
        lambda: layer.enable_lora(2),
        lambda: layer.quantize("int8"),
    ):
        try:
            ask()
        except (ValueError, NotImplementedError) as error:
            said.append(str(error))
    return said


@keras.saving.register_keras_serializable("lives")
class Two(keras.Model):
    """It has an optimizer beside that which it is compiled with."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.second = layers.Dense(2), keras.optimizers.Adam()

    def build(self, shape):
        self.dense.build(shape)
        self.built = True

    def call(self, inputs):
        return self.dense(inputs)


def warned_of_a_second_optimizer():
    """Tell whether it is said that the state of a second optimizer is not loaded, and nothing of one that is fresh."""
    model, path, said = Two(), f"{FOLDER}/two.keras", []
    model(X)
    for compiled, second in (("sgd", False), (keras.optimizers.Nadam(), False), ("sgd", True)):
        model.compile(compiled, "mse")
        if second:
            model.second.apply(
                [keras.ops.ones(each.shape) for each in model.trainable_variables], model.trainable_variables
            )
        model.save(path)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            rewriter.load_model(path)
        said.append(
            any("variable loading" in str(each.message) or "does not fit" in str(each.message) for each in caught)
        )
    return said == [False, False, True]


def goes_on_after_a_failed_step():
    """Tell whether a step that fails after a model was centered leaves its variables what they were."""
    model = plain()
    model.compile(keras.optimizers.Adam(), "mse")
    rewriter.rewrite(model, "keep")
    model.train_on_batch(X, Y)
    rewriter.keras3.Centered(model.optimizer)
    before = values_of(model)
    try:
        model.train_on_batch(X[:, :5], Y)
    except Exception:  # noqa: BLE001  each backend has its own
        rewriter.rewrite(plain(), "keep")  # it looks at all models that are alive
        return all(map(np.array_equal, before, values_of(model)))
    return False


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


@keras.saving.register_keras_serializable("lives")
class Fixed(keras.Model):
    """Its base does as in inference, as in Keras's guide on transfer learning."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.base, self.head = base(), layers.Dense(2)

    def call(self, inputs, training=None):
        del training
        return self.head(self.base(inputs, training=False))


@keras.saving.register_keras_serializable("lives")
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


def said_of_a_short_name():
    """Return what is said of an ``.h5`` file whose loss has a short name, which Keras does not read."""
    model = plain()
    model.compile("sgd", "mse")
    model.save(f"{FOLDER}/short.h5")
    try:
        rewriter.load_model(f"{FOLDER}/short.h5")
    except rewriter.FileError as error:
        same = are_same(rewriter.load_model(f"{FOLDER}/short.h5", compile=False), model)
        return str(error) if same else ""
    return ""


def h5_of_centered():
    """Return whether an ``.h5`` file of a centered model is read before its first step, and what is said after."""
    model = plain()
    model.compile("adam", "mean_squared_error")
    rewriter.rewrite(model, "centered")
    rewriter.save_model(model, f"{FOLDER}/centered.h5")
    loaded = rewriter.load_model(f"{FOLDER}/centered.h5")
    read = are_same(loaded, model) and "centered" in repr(loaded.optimizer)
    model.train_on_batch(X, Y)
    try:
        rewriter.save_model(model, f"{FOLDER}/trained.h5")
    except rewriter.FileError as error:
        return [read, str(error)]
    return [read, ""]


def is_thawed(after):
    """Tell whether a layer that was frozen when it was merged trains once it is thawed, and not before."""
    model = plain()
    first = model.layers[0]
    first.trainable = False
    model.compile("adam", "mse")
    rewriter.rewrite(model, "keep")
    moved = []
    for trainable in (False, True):
        if after == "split" and trainable:
            rewriter.split(model)
        if after == "standard_form":
            with rewriter.standard_form(model):
                first.trainable = trainable
        else:
            first.trainable = trainable
        model.compile(keras.optimizers.Adam(0.1), "mse")
        before = keras.ops.convert_to_numpy(first.kernel).copy()
        model.train_on_batch(X, Y)
        moved.append(not np.array_equal(before, keras.ops.convert_to_numpy(first.kernel)))
    return moved == [False, True]


def decays(choice):
    """Return how far biases move that weight decay leaves out, and how wrong a kernel decays, without a gradient."""
    model = plain()
    optimizer = keras.optimizers.AdamW(0.1, weight_decay=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    model.compile(optimizer, "mse")
    for layer in model.layers:
        layer.bias.assign(layer.bias + 1)
    kernel = keras.ops.convert_to_numpy(model.layers[0].kernel).copy()
    if choice is not None:
        rewriter.rewrite(model, optimizer if choice == "given" else choice)
    model.train_on_batch(X, Y, sample_weight=np.zeros(len(X)))
    biases = [keras.ops.convert_to_numpy(layer.bias) for layer in model.layers]
    ratio = keras.ops.convert_to_numpy(model.layers[0].kernel) / kernel
    return [float(np.abs(np.concatenate(biases) - 1).max()), float(np.abs(ratio - 0.9).max())]


def nadam(rewritten):
    """Train under Nadam, which has a number of its own beside its slots; return all that it has in the end."""
    keras.utils.set_random_seed(1)
    model = plain()
    model.compile(keras.optimizers.Nadam(0.01), "mse")
    model.train_on_batch(X, Y)
    if rewritten:
        rewriter.rewrite(model, "keep")
    model.train_on_batch(X, Y)
    model.save(f"{FOLDER}/nadam.keras")
    model = rewriter.load_model(f"{FOLDER}/nadam.keras")
    model.train_on_batch(X, Y)
    if rewritten:
        rewriter.split(model)
    model.train_on_batch(X, Y)
    return [keras.ops.convert_to_numpy(each) for each in (*model.weights, *model.optimizer.variables)]


differences = [float(np.abs(one - other).max()) for one, other in zip(nadam(True), nadam(False), strict=True)]
read = {f"{name}, {compiled}": is_read(make, compiled) for name, make in NESTED.items() for compiled in (True, False)}
thawed = {after: is_thawed(after) for after in ("rewrite", "standard_form", "split")}
resumed = {name: resumes_from_h5(*of_it) for name, of_it in RESUMED.items()} | {"Muon": resumes_under_muon()}
decayed = {str(choice): decays(choice) for choice in (None, "keep", "centered", "given")}
print(
    json.dumps(
        {
            "backend": keras.config.backend(),
            "read": read,
            "resumed": resumed,
            "centered in h5": h5_of_centered(),
            "refused": refused_tensors(),
            "short": said_of_a_short_name(),
            "second": warned_of_a_second_optimizer(),
            "failed": goes_on_after_a_failed_step(),
            "nothing": said_of_what_centers_nothing(),
            "left out": leaves_out_in_what_trains_already(),
            "left": [*map(states_are_left, (Fixed, Inferring)), other_states_are_left()],
            "refuses": refuses_after_a_failed_rewrite(),
            "by name": inputs_are_read_by_name(),
            "watched": momentum_is_watched(),
            "rows": [rows_seen(make) for make in (Fixed, Inferring)],
            "thawed": thawed,
            "decayed": decayed,
            "nadam": max(differences),
        }
    )
)
