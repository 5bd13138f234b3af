"""Models of Keras 3 that are nested, frozen and thawed, not compiled, or leave biases out of weight decay.

It prints what became of each.
"""

import json
import os
import sys
import warnings

os.environ["KERAS_BACKEND"] = sys.argv[1]

import keras
import numpy as np
from keras import layers

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


def changed_in_standard_form(change):
    """Return what is said where a layer is changed so that it is not merged again, and what the model does then."""
    model = plain()
    model.compile("adam", "mse")
    rewriter.rewrite(model, optimizer="keep")
    model.train_on_batch(X, Y)
    said = ""
    try:
        with rewriter.standard_form(model):
            change(model)
            inside = model.predict(X, verbose=0)
    except rewriter.ModelError as error:
        said = str(error)
    same = bool(np.array_equal(inside, model.predict(X, verbose=0)))
    kernel = model.layers[0]._kernel
    before = np.array(keras.ops.convert_to_numpy(kernel))
    model.compile("adam", "mse")
    model.train_on_batch(X, Y)
    moved = not np.array_equal(before, keras.ops.convert_to_numpy(kernel))
    return said, same, moved, rewriter.is_rewritten(model)


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
            "changed in standard form": {
                "LoRA": changed_in_standard_form(lambda model: model.layers[0].enable_lora(2)),
                "int8": changed_in_standard_form(lambda model: model.quantize("int8")),
            },
            "short": said_of_a_short_name(),
            "second": warned_of_a_second_optimizer(),
            "failed": goes_on_after_a_failed_step(),
            "thawed": thawed,
            "decayed": decayed,
            "nadam": max(differences),
        }
    )
)
