"""Every model in every format tf-keras has for it: rewritten and standard, each way, in fresh processes."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import rewriter
from arrays import bits, digest
from models import MODELS, batch, fit
from processes import run_script, run_script_without_rewriter
from rewriter.files import formats
from rewriter.model.walk import locate_layers
from tensorflow_models import WITH_TENSORFLOW
from zoo import ZOO, Unregistered

WITH_OWN_CODE = {**ZOO, **WITH_TENSORFLOW}
EVERY = {**MODELS, **WITH_OWN_CODE}
# Writing and reading a SavedModel takes seconds; these differ in how Keras revives them.
SAVED_MODELS = {
    "nested",
    "constrained",
    "custom_layer",
    "unregistered_layer",
    "subclassed",
    "deep_layer",
    "own_steps",
    "own_call",
    "tied",
    "calls_call",
    "numbered",
    "discretized",
}


# How many models of each table Keras itself saves and loads, in each format: a test of none would prove nothing.
KERAS_ITSELF_CAN = {".keras": (11, 18), ".h5": (12, 14), "": (2, 6)}


def predict(model):
    """What a model says of the batch; not traced, which would take most of the time of these tests."""
    eagerly, model.run_eagerly = model.run_eagerly, True
    outputs = model.predict(batch()[0], verbose=0)
    model.run_eagerly = eagerly
    return outputs


def keras_itself_can(model, path, expected):
    """Whether the original survives this format in plain Keras, with what it computes."""
    kind = formats.format_to_write(path).value
    try:
        model.save(path, save_format=kind)
        loaded = tf_keras.models.load_model(path, {"Unregistered": Unregistered})
        return bits(predict(loaded)) == bits(expected)
    except Exception:  # noqa: BLE001  any failure of Keras's own counts
        return False


@pytest.mark.slow
@pytest.mark.parametrize("table", [MODELS, WITH_OWN_CODE], ids=["models", "zoo"])
@pytest.mark.parametrize("suffix", [".keras", ".h5", ""], ids=["keras", "h5", "savedmodel"])
def test_rewritten_and_exported_files(tmp_path, suffix, table):
    """Wherever Keras itself saves and loads the original, the rewritten model and its export load in a fresh process.

    The export where rewriter cannot be imported; both compute the very same numbers.
    """
    x = tmp_path / "x.npy"
    np.save(x, batch()[0])
    expected = {}
    for name in table if suffix else sorted(table.keys() & SAVED_MODELS):
        builder = table[name]
        tf_keras.utils.set_random_seed(5)
        model = builder()
        outputs = predict(model)
        if not keras_itself_can(model, tmp_path / f"{name}_original{suffix}", outputs):
            continue
        rewriter.rewrite(model)
        rewriter.save_model(model, tmp_path / f"{name}_rewritten{suffix}")
        rewriter.export(model, tmp_path / f"{name}_exported{suffix}")
        expected[name] = digest(outputs)
    assert len(expected) >= KERAS_ITSELF_CAN[suffix][table is WITH_OWN_CODE]
    for run, library, ending in (
        (run_script, "rewriter", "rewritten"),
        (run_script_without_rewriter, "keras", "exported"),
    ):
        paths = {name: str(tmp_path / f"{name}_{ending}{suffix}") for name in expected}
        results = run("load_and_predict", library, x, *paths.values())
        assert {name: results[path] for name, path in paths.items()} == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "suffix"),
    [("custom_layer", ".keras"), ("custom_layer", ".h5"), ("custom_layer", ""), ("subclassed", ".keras")],
)
def test_model_save_writes_what_save_model_does(tmp_path, name, suffix):
    """Even where a config cannot say which layers are merged: ModelCheckpoint saves so, and it must be readable."""
    model = rewriter.rewrite(EVERY[name]())
    path = tmp_path / f"model{suffix}"
    outputs = model.predict(batch()[0], verbose=0)
    model.save(path)
    model.save(path, overwrite=True)
    loaded = rewriter.load_model(path)
    assert bits(loaded.predict(batch()[0], verbose=0)) == bits(outputs)
    assert rewriter.plan(loaded).to_dict()["already_merged"] == rewriter.plan(model).to_dict()["already_merged"]
    # What was loaded saves itself in the same way, and what is split saves itself as Keras does.
    loaded.save(path)
    assert formats.read_manifest(path) is not None
    rewriter.split(loaded)
    assert "save" not in vars(loaded)


@pytest.mark.parametrize("suffix", [".keras", ".h5", ""])
def test_a_save_past_the_model_fails_to_load_clearly(tmp_path, suffix):
    """tf_keras.models.save_model cannot say that hidden layers are merged; loading is an error, never wrong numbers."""
    model = rewriter.rewrite(EVERY["custom_layer"]())
    path = tmp_path / f"model{suffix}"
    tf_keras.models.save_model(model, path, save_format=formats.format_to_write(path).value)
    with pytest.raises(
        rewriter.FileError, match=r"expected 2 variables|Weight count mismatch|not bound to checkpointed"
    ):
        rewriter.load_model(path)


def test_what_keras_would_leave_out_is_refused(tmp_path):
    """Keras's .keras format does not look into lists of lists; a file without those weights is not put in place."""
    model = rewriter.rewrite(ZOO["deep_layer"]())
    for write in (rewriter.save_model, rewriter.export):
        with pytest.raises(rewriter.FileError, match=r"silently leave out the weights of .*/grid/0/0, .*/grid/0/1: "):
            write(model, tmp_path / "model.keras")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "optimizer"), [("deep_layer", "adam"), ("nested", "legacy")])
def test_what_was_written_is_counted(tmp_path, monkeypatch, name, optimizer):
    """Also where nothing was known beforehand: weights, and an optimizer's variables, that are not in the file."""
    monkeypatch.setattr("rewriter.files.writing.require_readable", lambda *_: None)
    model = EVERY[name]()
    model.compile(tf_keras.optimizers.legacy.Adam() if optimizer == "legacy" else optimizer, "mse")
    fit(model)
    rewriter.rewrite(model, optimizer="keep")
    what = "weights" if name == "deep_layer" else "optimizer's variables"
    for write in (rewriter.save_model, rewriter.export):
        with pytest.raises(rewriter.FileError, match=rf"Keras has left out \d+ of the \d+ {what} .* Use \.h5 or a"):
            write(model, tmp_path / "model.keras")
    assert list(tmp_path.iterdir()) == []


WEIGHTS = {
    "weights_h5": "w.weights.h5",
    "h5": "w.h5",
    "checkpoint": "w",
}


@pytest.mark.parametrize("file", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("name", ["nested", "shared", "custom_layer", "own_call", "subclassed"])
def test_weights_files(tmp_path, name, file):
    """Rewritten weights load into a rewritten model; standard ones inside standard_form, or straight in .weights.h5."""
    model = rewriter.rewrite(EVERY[name]())
    path = tmp_path / file
    values = [bits(weight.numpy()) for weight in model.weights]

    def disturb():
        for weight in model.weights:
            weight.assign(weight + 1)

    def current():
        return [bits(weight.numpy()) for weight in model.weights]

    model.save_weights(path)
    disturb()
    model.load_weights(path)
    assert current() == values
    with rewriter.standard_form(model):
        model.save_weights(path)
    disturb()
    with rewriter.standard_form(model):
        model.load_weights(path)
    assert current() == values
    if file.endswith(".weights.h5"):
        disturb()
        model.load_weights(path)
        assert current() == values


def test_train_checkpoint_and_model_checkpoint(tmp_path):
    """tf.train.Checkpoint and ModelCheckpoint hold the rewritten model and its optimizer's state."""
    model = rewriter.rewrite(MODELS["nested"]())
    model.compile(model.optimizer, "mse")
    best = tf_keras.callbacks.ModelCheckpoint(str(tmp_path / "best.keras"), monitor="loss")
    x, y = batch()
    model.fit(x, y, epochs=2, verbose=0, callbacks=[best])
    path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(tmp_path / "checkpoint")
    other = rewriter.rewrite(MODELS["nested"]())
    other.compile(other.optimizer, "mse")
    other.optimizer.build(other.trainable_variables)
    tf.train.Checkpoint(model=other, optimizer=other.optimizer).restore(path).assert_consumed()
    loaded = tf_keras.models.load_model(tmp_path / "best.keras")
    for restored in (other, loaded):
        assert rewriter.verify(model, restored).same
    for each in (model, other, loaded):
        fit(each)
    for restored in (other, loaded):
        assert rewriter.verify(model, restored).same


def test_tools_inside_standard_form(tmp_path):
    """model.export and the TFLite converter see a plain Keras model."""
    model = rewriter.rewrite(MODELS["nested"]())
    x, _ = batch(4)
    with rewriter.standard_form(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow deprecates its TFLite interpreter at each use
        model.export(str(tmp_path / "serving"))
        flat = tf.lite.TFLiteConverter.from_keras_model(model).convert()
        interpreter = tf.lite.Interpreter(model_content=flat)
    names = [variable.name for variable in tf.saved_model.load(str(tmp_path / "serving")).variables]
    assert not any("augmented" in name for name in names)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    np.testing.assert_allclose(
        interpreter.get_tensor(interpreter.get_output_details()[0]["index"]), model.predict(x, verbose=0), atol=1e-6
    )


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),  # noqa: S301  our own bytes
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("name", ["sequential", "nested", "time_distributed", "own_call"])
def test_copies_of_models(name, copied):
    """A copy of a rewritten model is rewritten, equal and independent."""
    model = rewriter.rewrite(EVERY[name]())
    other = copied(model)
    assert rewriter.verify(model, other).same
    assert len(rewriter.plan(other).merged) == len(rewriter.plan(model).merged)
    other.weights[0].assign_add(tf.ones_like(other.weights[0]))
    assert not rewriter.verify(model, other).same


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("exact", [True, False])
def test_copies_of_layers(copied, exact):
    """A copy of a rewritten layer has an augmented kernel of its own, laid out alike, and its class."""
    layer = rewriter.rewrite(MODELS["sequential"](), exact=exact).layers[0]
    other = copied(layer)
    assert type(other) is type(layer)
    assert bits(other.augmented_kernel.numpy()) == bits(layer.augmented_kernel.numpy())
    assert other.augmented_kernel is not layer.augmented_kernel
    assert rewriter.layout_of(other.augmented_kernel) == rewriter.layout_of(layer.augmented_kernel)
    assert bits(other(batch()[0])) == bits(layer(batch()[0]))


@pytest.mark.parametrize("name", ["nested", "shared", "own_call", "constrained"])
def test_clone_model(name):
    """clone_model makes a new model that is rewritten as the old one is."""
    model = rewriter.rewrite(EVERY[name]())
    clone = tf_keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert rewriter.verify(model, clone).same
    assert [weight.name for weight in clone.weights] == [weight.name for weight in model.weights]
    assert [found.paths for found in locate_layers(clone)] == [found.paths for found in locate_layers(model)]


def test_a_saved_model_leaves_no_call_behind(tmp_path):
    """Keras leaves the call of the moment on each layer it saves so; it would outlive the layer's class."""
    model = rewriter.rewrite(MODELS["nested"]())
    x, _ = batch()
    expected = model.predict(x, verbose=0)
    model.save(tmp_path / "rewritten", save_format="tf")
    rewriter.split(model)
    assert not any("call" in vars(found.layer) for found in locate_layers(model) if hasattr(found.layer, "kernel"))
    assert bits(model.predict(x, verbose=0)) == bits(expected)
    model.save(tmp_path / "standard", save_format="tf")
    rewriter.rewrite(model)
    assert not any("call" in vars(found.layer) for found in locate_layers(model) if hasattr(found.layer, "kernel"))
    assert bits(model.predict(x, verbose=0)) == bits(expected)


def test_a_legacy_optimizer_is_no_obstacle_to_a_saved_model(tmp_path):
    """Compiled after the rewrite, it has no state this library reads; the model is written and loads all the same."""
    model = rewriter.rewrite(MODELS["sequential"]())
    model.compile(tf_keras.optimizers.legacy.SGD(0.1), "mse")
    rewriter.save_model(model, tmp_path / "model")
    assert rewriter.verify(model, rewriter.load_model(tmp_path / "model")).same


class Attentive(tf_keras.Model):
    """Its attention makes its weights at the first call, and Keras revives it uncalled, and then makes new ones."""

    def __init__(self, **options):
        super().__init__(**options)
        self.attention, self.head = layers.MultiHeadAttention(2, 4), layers.Dense(3)

    def call(self, inputs):
        return self.head(self.attention(inputs, inputs))

    def get_config(self):
        return {}


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["keep", None])
def test_weights_that_keras_would_make_anew_are_read(tmp_path, optimizer):
    """From a SavedModel of a subclassed model, with the optimizer's state; and written from there in any format."""
    x = tf.constant(np.random.default_rng(2).standard_normal((8, 5, 6)), "float32")
    y = np.ones((8, 5, 3))
    objects = {"Attentive": Attentive}
    original = Attentive()
    original.compile("adam", "mse")
    original.fit(x, y, epochs=2, verbose=0)
    original.save(tmp_path / "base")
    model = rewriter.load_model(tmp_path / "base", objects)
    assert rewriter.verify(original, model, inputs=x).same
    rewriter.rewrite(model, optimizer, layers="all")
    assert len(rewriter.plan(model).merged) == 5
    for suffix in (".keras", ""):
        rewriter.save_model(model, tmp_path / f"joint{suffix}")
        again = rewriter.load_model(tmp_path / f"joint{suffix}", objects)
        assert rewriter.verify(original, again, inputs=x).same
        assert len(rewriter.plan(again).merged) == 5
    if optimizer == "keep":
        tf_keras.utils.set_random_seed(1)
        expected = original.fit(x, y, epochs=2, shuffle=False, verbose=0).history
        for trained in (model, again):
            assert trained.fit(x, y, epochs=2, shuffle=False, verbose=0).history == expected
