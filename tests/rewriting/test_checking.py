"""The gate: what computes something else once it is merged or split is put back, whatever fails."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import rewriter
from arrays import bits
from model_state import assert_untouched, merged_layers, state
from models import MODELS, ReadsClass, batch, fit, trained_pair
from rewriter.adapters import keras
from rewriter.model import surgery


class Contrary(layers.Dense):
    """A Dense that computes something else once its class is not its own."""

    def call(self, inputs):
        return super().call(inputs) * (1.0 if type(self) is Contrary else 2.0)


def test_a_layer_that_computes_something_else_once_merged_rolls_everything_back():
    """The gate names the layer, and the model, its optimizer included, is as it was."""
    preserved, model = trained_pair(
        lambda: tf_keras.Sequential([layers.Dense(4, input_shape=(5,)), Contrary(3, name="contrary")])
    )
    before = state(model)
    with pytest.raises(rewriter.DifferenceError, match=r"contrary: its outputs differ by up to"):
        rewriter.rewrite(model, optimizer="keep")
    assert_untouched(model, before, preserved)


def watched_model(suspicious):
    inputs = tf_keras.Input((5,))
    dense = layers.Dense(4, name="watched")
    outputs = ReadsClass(dense, suspicious, name="watcher")(dense(inputs))
    return tf_keras.Model(inputs, layers.Dense(3, name="last")(outputs))


def test_a_model_that_computes_something_else_as_a_whole_rolls_everything_back():
    """Each merged layer alone is as it was; the first layer that gives something else is named, be it not merged."""
    preserved, model = trained_pair(lambda: watched_model(suspicious=True))
    before = state(model)
    with pytest.raises(rewriter.DifferenceError, match=r"^watcher: its outputs differ by up to .* run as a whole"):
        rewriter.rewrite(model, optimizer="keep")
    assert state(model) == before
    fit(preserved)
    fit(model)
    assert rewriter.verify(preserved, model).same
    rewriter.rewrite(model, check=False)
    report = rewriter.verify(preserved, model)
    assert [(one.path, one.what) for one in report.differing] == [
        ("watcher", "outputs"),
        ("last", "outputs"),
        ("model", "outputs"),
    ]


def test_an_export_that_computes_something_else_is_not_written(tmp_path):
    """The rewritten model stays as it is, with its optimizer, and no file is there."""
    _, model = trained_pair(lambda: watched_model(suspicious=False))
    rewriter.rewrite(model, optimizer="keep", check=False)
    optimizer = model.optimizer
    merged, states = state(model), [bits(variable.numpy()) for variable in optimizer.variables]
    with pytest.raises(rewriter.DifferenceError, match=r"^watcher: its outputs differ"):
        rewriter.export(model, tmp_path / "model.keras")
    assert list(tmp_path.iterdir()) == []
    assert state(model) == merged
    assert model.optimizer is optimizer
    assert [bits(variable.numpy()) for variable in optimizer.variables] == states
    fit(model)


def test_the_check_takes_inputs_of_ones_own(caplog):
    """A model that does not say what it takes is compared on what is given; what its call changes is put back."""

    class Open(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(4, name="watched")
            self.norm = layers.BatchNormalization()
            self.watcher = ReadsClass(self.dense)

        def call(self, inputs):
            return self.watcher(self.norm(self.dense(inputs["a"] + inputs["b"]), training=True))

    x = tf.constant(batch()[0])
    model = Open()
    model({"a": x, "b": x})
    model._saved_model_inputs_spec = model._build_input_shape = None
    with caplog.at_level("WARNING", logger="rewriter"):
        rewriter.split(rewriter.rewrite(model))
    assert caplog.messages == [
        "outputs of open as a whole not compared: the model does not say what it takes; pass inputs="
    ]
    before = state(model)
    with pytest.raises(rewriter.DifferenceError, match=r"^watcher: its outputs differ"):
        rewriter.rewrite(model, inputs={"a": x, "b": x})
    assert state(model) == before


class Noisy(layers.Dense):
    """A Dense that draws random numbers in each call, as exploring agents have it."""

    def call(self, inputs):
        return super().call(inputs) + tf.random.normal((self.units,))


def test_a_layer_that_draws_random_numbers_is_merged():
    """It differs from itself in each call, so a difference says nothing about the merge."""
    model = tf_keras.Sequential([layers.Dense(4, input_shape=(5,)), Noisy(3)])
    rewriter.rewrite(model)
    assert len(merged_layers(model)) == 2


def test_any_failure_rolls_everything_back(monkeypatch):
    """Whatever is raised while layers are merged, the model is as it was."""
    model = MODELS["nested"]()
    before = state(model)
    real, calls = surgery.merge, []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise MemoryError("third layer")
        real(*arguments)

    monkeypatch.setattr(surgery, "merge", failing)
    with pytest.raises(MemoryError, match="third layer"):
        rewriter.rewrite(model)
    assert state(model) == before


def test_a_failure_in_the_optimizer_rolls_everything_back(monkeypatch):
    """When its slots cannot be carried after all, the optimizer has the old ones again, and training goes on."""
    preserved, model = trained_pair(MODELS["nested"])
    before, optimizer = state(model), [bits(variable.numpy()) for variable in model.optimizer.variables]

    real = keras.rebuild_slots

    def fail(*arguments):
        real(*arguments)
        raise MemoryError("no room for slots")

    monkeypatch.setattr(keras, "rebuild_slots", fail)
    with pytest.raises(MemoryError, match="no room for slots"):
        rewriter.rewrite(model, optimizer="keep")
    assert state(model) == before
    assert [bits(variable.numpy()) for variable in model.optimizer.variables] == optimizer
    fit(preserved)
    fit(model)
    assert rewriter.verify(preserved, model).same


class TiedDecoder(layers.Layer):
    """Reads the weights of an encoder by their place, as tutorials of tied autoencoders do."""

    def __init__(self, encoder, **options):
        super().__init__(**options)
        self.encoder = encoder

    def call(self, inputs):
        return tf.matmul(inputs, self.encoder.weights[0], transpose_b=True)


class InAClosure(layers.Layer):
    def __init__(self, encoder, **options):
        super().__init__(**options)
        self.decode = lambda inputs: tf.matmul(inputs, encoder.trainable_weights[0], transpose_b=True)

    def call(self, inputs):
        return self.decode(inputs)


def tied(decoder):
    encoder = layers.Dense(3, name="enc")
    return tf_keras.Sequential(
        [tf_keras.Input((5,)), encoder, decoder(encoder, name="dec"), layers.Dense(2, name="head")]
    )


class TiedModel(tf_keras.Model):
    def __init__(self):
        super().__init__()
        self.enc = layers.Dense(3)

    def call(self, inputs):
        return tf.matmul(self.enc(inputs), self.enc.weights[0], transpose_b=True)


@pytest.mark.parametrize("decoder", [TiedDecoder, InAClosure])
@pytest.mark.parametrize("inputs", [None, batch()[0]], ids=["made", "given"])
def test_a_layer_that_fails_once_another_is_merged_is_named_with_its_error(decoder, inputs):
    """And so is the layer that is read otherwise than by a call, which to leave out works."""
    preserved, model = tied(decoder), tied(decoder)
    before = state(model)
    with pytest.raises(rewriter.DifferenceError, match=r"^head: it failed.*exclude=\['enc'\] what is") as error:
        rewriter.rewrite(model, "keep", inputs=inputs)
    assert error.value.path == "head"
    assert "expected axis -1 of input shape to have value 5, but received input with shape" in str(error.value)
    assert state(model) == before
    rewriter.rewrite(model, "keep", exclude=["enc"], inputs=inputs)
    assert [layer.name for layer in merged_layers(model)] == ["head"]
    assert bits(model(batch()[0])) == bits(model(batch()[0]))
    assert type(preserved.layers[0]) is layers.Dense


def test_a_result_of_another_shape_is_said_to_be_that():
    """Where nothing fails, as nothing comes after the layer that reads another's weights."""
    encoder = layers.Dense(3, name="enc")
    model = tf_keras.Sequential([tf_keras.Input((5,)), encoder, TiedDecoder(encoder, name="dec")])
    with pytest.raises(rewriter.DifferenceError, match=r"differ in shape, dtype or where .*exclude=\['enc'\] what is"):
        rewriter.rewrite(model)


def test_a_model_that_differs_as_a_whole_names_what_was_merged():
    """Its own call reads the weights by their place."""
    model = TiedModel()
    model(batch()[0])
    with pytest.raises(rewriter.DifferenceError, match=r"^model: its outputs differ in shape.*exclude=\['enc'\]"):
        rewriter.rewrite(model)


class ByPlace(layers.Dense):
    """A Dense that reads its own weights by their place."""

    def call(self, inputs):
        return tf.matmul(inputs, self.weights[0]) + self.weights[1]


def test_a_layer_that_fails_once_it_is_merged_says_with_what():
    """Run by itself, before the model is."""
    model = tf_keras.Sequential([layers.Dense(4, input_shape=(5,)), ByPlace(3, name="by_place")])
    with pytest.raises(rewriter.DifferenceError, match=r"^by_place: it failed once .*exclude=\['by_place'\]"):
        rewriter.rewrite(model)
    rewriter.rewrite(model, exclude=["by_place"])


def over_all_but_biases(model):
    model.add_loss(lambda: 0.1 * sum(tf.nn.l2_loss(v) for v in model.trainable_variables if "bias" not in v.name))


def by_place(model):
    for layer in model.layers:
        model.add_loss(lambda layer=layer: 0.1 * tf.nn.l2_loss(layer.trainable_weights[0]))


def by_rank(model):
    model.add_loss(lambda: 0.1 * sum(tf.nn.l2_loss(v) for v in model.trainable_weights if len(v.shape) > 1))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("penalty", [over_all_but_biases, by_place, by_rank])
@pytest.mark.parametrize("trained", [False, True], ids=["biases of zero", "trained"])
def test_a_penalty_that_becomes_another_is_refused(penalty, trained):
    """Where biases are zero too, of which it could not be seen; and what the error leaves out makes it pass."""
    model = tf_keras.Sequential([layers.Dense(4, input_shape=(5,), name="a"), layers.Dense(3, name="b")])
    penalty(model)
    model.compile("sgd", "mse")
    if trained:
        fit(model)
    before = state(model)
    with pytest.raises(rewriter.DifferenceError, match=r"its losses differ by up to .*exclude=\['a', 'b'\]"):
        rewriter.rewrite(model)
    assert state(model) == before
    fit(model)


class Normalized(tf_keras.Model):
    """Divides by the norm of a weight that it takes by its place."""

    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(4)

    def call(self, inputs):
        return self.hidden(inputs) / tf.norm(self.hidden.weights[0])


def test_biases_of_zero_hide_nothing():
    """The norm of a kernel is that of W* as long as they are."""
    model = Normalized()
    model(batch()[0])
    with pytest.raises(rewriter.DifferenceError, match=r"outputs differ by up to .*exclude=\['hidden'\]"):
        rewriter.rewrite(model)
    assert not np.any(model.hidden.bias.numpy())


@pytest.mark.parametrize("layers_", ["conv", "einsum", "recurrent"])
def test_biases_are_zero_again_after_the_check(layers_):
    """In every family, merged and split."""
    model = tf_keras.Sequential(
        {
            "conv": [layers.Conv1D(3, 2, input_shape=(5, 2)), layers.Flatten(), layers.Dense(2)],
            "einsum": [layers.EinsumDense("ab,bc->ac", 5, bias_axes="c", input_shape=(4,)), layers.Dense(2)],
            "recurrent": [layers.GRU(3, input_shape=(5, 2)), layers.Dense(2)],
        }[layers_]
    )
    weights = [bits(weight) for weight in model.get_weights()]
    rewriter.rewrite(model, layers=["dense", layers_])
    rewriter.split(model)
    assert [bits(weight) for weight in model.get_weights()] == weights


def test_a_function_of_ones_own_trains_the_model_after_a_rewrite_that_failed():
    """The layers that were merged and separated again have new variables, of the same values."""
    model = tf_keras.Sequential([layers.Dense(4, input_shape=(3,)), Contrary(2)])

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(x, training=True) ** 2)
        for variable, gradient in zip(model.weights, tape.gradient(loss, model.weights), strict=True):
            variable.assign_sub(0.1 * gradient)

    x = tf.ones((2, 3))
    step(x)
    before = model.get_weights()
    with pytest.raises(rewriter.DifferenceError):
        rewriter.rewrite(model)
    assert [each.tobytes() for each in model.get_weights()] == [each.tobytes() for each in before]
    step(x)
    assert all((one != other).any() for one, other in zip(before, model.get_weights(), strict=True))
