"""Muon against NumPy in float64, and which layers it takes for those that give a model its outputs."""

import logging
import warnings

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import rewriter
from arrays import bits
from layer_models import network, rewritten
from layer_network import batches, gradients
from layer_rules_oracle import Adam, Muon
from rewriter.core.layout import layouts_in
from rewriter.model.output_layers import output_layers
from rewriter.optimizers.rules.muon import orthogonalized

RATE = float(np.float32(0.01))
WAYS = {"graph": {}, "eagerly": {"run_eagerly": True}, "XLA": {"jit_compile": True}}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("units", "nesterov"), [(4, True), (9, False)])
@pytest.mark.parametrize("way", WAYS)
def test_a_hundred_steps_are_those_of_the_paper(way, units, nesterov):
    """With weight decay, of the kernel rows alone."""
    model = rewritten(network(units), rewriter.Muon(RATE, nesterov=nesterov, weight_decay=0.5), **WAYS[way])
    weights = [kernel.numpy() for kernel in model.trainable_variables]
    rules = [Muon(RATE, nesterov=nesterov), Adam(RATE)]
    for x, y in batches(100):
        of_layers = gradients(weights, x, y)
        for place, (rule, gradient) in enumerate(zip(rules, of_layers, strict=True)):
            weights[place][:-1] *= 1 - RATE * 0.5
            weights[place] -= rule.step(gradient)
        model.train_on_batch(x, y)
    for kernel, weight in zip(model.trainable_variables, weights, strict=True):
        assert np.abs(kernel.numpy() - weight).max() <= 1e-9


@pytest.mark.parametrize("shape", [(65, 64), (64, 200), (300, 7), (2, 1)])
def test_singular_values_come_near_one(shape):
    """Those of at least a hundredth of the Frobenius norm; directions stay, and zeros are zeros."""
    matrix = np.random.default_rng(1).standard_normal(shape).astype("float32")
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    spread = (u * np.geomspace(1, 1e-2, len(s))) @ v
    for each in (matrix, spread):
        u, s, v = np.linalg.svd(each, full_matrices=False)
        made = u.T @ orthogonalized(each, 5).numpy() @ v.T
        large = s / np.linalg.norm(s) >= 0.01
        assert np.all((np.diag(made)[large] >= 0.68) & (np.diag(made)[large] <= 1.21))
        assert np.abs(made - np.diag(np.diag(made))).max() <= 1e-4
    assert not orthogonalized(np.zeros(shape, "float32"), 5).numpy().any()


def test_bfloat16_is_near():
    matrix = np.random.default_rng(1).standard_normal((65, 64)).astype("float32")
    made, exact = (orthogonalized(matrix, 5, each).numpy() for each in ("bfloat16", "float32"))
    assert made.dtype == exact.dtype
    assert 0 < np.abs(made - exact).max() <= 0.05


def sequential(*stack):
    return tf_keras.Sequential([layers.InputLayer((6,)), *stack])


def two_outputs():
    x = tf_keras.Input((6,))
    hidden = layers.Dense(5, "relu", name="hidden")(x)
    beside = layers.LayerNormalization()(layers.Dense(3, name="second")(hidden) + layers.Dense(3, name="skip")(x))
    return tf_keras.Model(x, {"one": layers.Dense(2, "softmax", name="first")(hidden), "two": beside})


class Own(tf_keras.Model):
    """The head comes first, and a layer is called twice."""

    def __init__(self):
        super().__init__()
        self.head, self.twice = layers.Dense(2, name="head"), layers.Dense(6, name="twice")

    def call(self, inputs):
        return self.head(self.twice(self.twice(inputs)))


def own():
    model = Own()
    model(np.zeros((1, 6), "float32"))
    return model


def recurrent():
    return tf_keras.Sequential(
        [layers.InputLayer((5, 6)), layers.LSTM(4, return_sequences=True), layers.Bidirectional(layers.GRU(3))]
    )


def attention():
    x = tf_keras.Input((5, 6))
    return tf_keras.Model(x, layers.MultiHeadAttention(2, 3, name="attention")(layers.Dense(6)(x), x))


OUTPUTS = {
    "sequential": (lambda: sequential(layers.Dense(4), layers.Dense(2), layers.ReLU()), {"dense_1"}),
    "nested": (lambda: sequential(layers.Dense(6), sequential(layers.Dense(2, name="inner"))), {"inner"}),
    "two outputs": (two_outputs, {"first", "second", "skip"}),
    "subclassed": (own, {"head"}),
    "recurrent": (recurrent, {"forward_gru", "backward_gru"}),
    "attention": (attention, {"attention_output"}),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_output_layers_are_found_in_a_run(name):
    tf_keras.backend.clear_session()
    make, expected = OUTPUTS[name]
    model = make()
    rewriter.rewrite(model, layers="all")
    found = output_layers(model)
    merged = [each for each in model.submodules if isinstance(each, layers.Layer) and layouts_in(each)]
    loops = {id(each.cell): each.name for each in model.submodules if isinstance(each, layers.RNN)}
    assert {loops.get(id(each), each.name) for each in merged if id(each) in found} == expected


def test_the_log_names_what_gets_adam(caplog):
    model = two_outputs()
    with caplog.at_level(logging.INFO, logger="rewriter"):
        rewriter.rewrite(model, rewriter.Muon(exclude="skip"))
    lines = [each.getMessage() for each in caplog.records if "AdamW" in each.getMessage()]
    assert lines == [
        "Muon: AdamW for second, from which an output is reached through no merged layer",
        "Muon: AdamW for skip, from which an output is reached through no merged layer",
        "Muon: AdamW for first, from which an output is reached through no merged layer",
    ]


def test_what_a_run_does_not_show_the_user_says():
    def make():
        return sequential(layers.Dense(4), layers.Dense(3, name="head"), layers.Lambda(lambda x: tf.argmax(x, axis=-1)))

    with pytest.raises(rewriter.OptimizerError, match=r"does not show which those are\. Say so: Muon\(output_layers="):
        rewriter.rewrite(make(), rewriter.Muon())
    for said, with_second_moment in (("head", [(), (5, 3)]), ([], [(), ()])):
        model = rewriter.rewrite(make(), rewriter.Muon(output_layers=said))
        assert second_moments(model) == with_second_moment


def second_moments(model):
    """Shapes, of each augmented kernel in turn: only what gets AdamW has one."""
    model.optimizer.build(model.trainable_variables)
    return [tuple(model.optimizer.slot("second_moment", each).shape) for each in model.trainable_variables]


def test_without_the_model_it_refuses():
    model = rewriter.rewrite(sequential(layers.Dense(4), layers.Dense(3)))
    model.compile(rewriter.Muon(), "mse")
    with pytest.raises(rewriter.OptimizerError, match=r"Give it to the model with rewriter\.rewrite"):
        model.train_on_batch(np.zeros((2, 6)), np.zeros((2, 3)))


def test_a_layer_that_gave_the_output_of_what_was_merged_is_orthogonalized_once_the_rest_is(generator):
    """Its momentum goes on; the second moment, which AdamW had of it, is gone."""
    model = network()
    last = model.layers[-1].name
    rewriter.rewrite(model, rewriter.Muon(), exclude=last)
    model.compile(model.optimizer, "mse")
    shapes = [(8, *each[1:]) for each in (model.input_shape, model.output_shape)]
    x, y = (generator.standard_normal(shape) for shape in shapes)
    model.train_on_batch(x, y)
    inner = [each for each in model.trainable_variables if each.name.endswith("augmented_kernel:0")][-1]
    assert model.optimizer.slot("second_moment", inner).shape == inner.shape
    momentum = model.optimizer.slot("first_moment", inner).numpy()
    rewriter.rewrite(model, "keep")
    assert model.optimizer.slot("second_moment", inner).shape == ()
    assert bits(model.optimizer.slot("first_moment", inner).numpy()) == bits(momentum)
    assert [each.partition("/")[0] for each in model.optimizer.adam_kernels] == [last]
    model.train_on_batch(x, y)


def test_layers_with_inputs_of_their_own_get_adam():
    model = tf_keras.Sequential(
        [
            layers.InputLayer((4, 4, 2)),
            layers.Conv2D(4, 2, name="whole"),
            layers.Conv2D(4, 2, groups=2, name="grouped"),
            layers.DepthwiseConv2D(2, name="depthwise"),
            layers.Flatten(),
            layers.Dense(2, name="head"),
        ]
    )
    rewriter.rewrite(model, rewriter.Muon(), layers="all")
    assert [bool(shape) for shape in second_moments(model)] == [False, True, True, True]
    assert [each.partition("/")[0] for each in model.optimizer.adam_kernels] == ["grouped", "depthwise", "head"]


def test_a_file_says_what_gets_adam_before_the_first_step(tmp_path):
    model = rewritten(network(), rewriter.Muon())
    rewriter.save_model(model, tmp_path / "model.keras")
    for load in (tf_keras.models.load_model, rewriter.load_model):
        assert second_moments(load(tmp_path / "model.keras")) == [(), (5, 3)]


@pytest.mark.filterwarnings("ignore:.*does not fit the model")  # that of the frozen layer
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_file_with_a_frozen_layer_says_it_too(tmp_path, when):
    model = sequential(layers.Dense(4, name="a"), layers.Dense(4, name="b"), layers.Dense(1, name="c"))
    model.compile("sgd", "mse")
    model.get_layer("a").trainable = when == "after"
    rewriter.rewrite(model, rewriter.Muon(0.01))
    data = np.ones((4, 6)), np.ones((4, 1))
    model.fit(*data, verbose=0)
    model.get_layer("a").trainable = False
    model.compile(model.optimizer, "mse")
    model.fit(*data, verbose=0)
    model.save(tmp_path / "model.keras")
    for load in (tf_keras.models.load_model, rewriter.load_model):
        again = load(tmp_path / "model.keras")
        again.optimizer.build(again.trainable_variables)
        kernels = [again.get_layer(name).augmented_kernel for name in ("b", "c")]
        assert [again.optimizer.leaves_to_adam(each) for each in kernels] == [False, True]
        assert again.optimizer.adam_kernels == ["c/augmented_kernel"]


def test_kernels_are_named_by_words():
    """A word by itself is one name, and not its letters."""
    assert rewriter.Muon(adam_kernels="head/augmented_kernel").adam_kernels == ["head/augmented_kernel"]
    for wrong in (3, [3]):
        with pytest.raises(ValueError, match="adam_kernels must be names, or None, got"):
            rewriter.Muon(adam_kernels=wrong)


def test_kernels_of_one_name_are_told_apart(tmp_path):
    def inner():
        return tf_keras.Sequential([layers.Dense(6, name="same")])

    model = sequential(inner(), inner())
    model.compile("sgd", "mse")
    rewriter.rewrite(model, rewriter.Muon())
    model.save(tmp_path / "model.keras")
    again = rewriter.load_model(tmp_path / "model.keras")
    assert model.optimizer.adam_kernels == again.optimizer.adam_kernels == ["same/augmented_kernel#1"]


def test_a_frozen_output_layer_is_known_when_it_is_thawed(tmp_path):
    model = sequential(layers.Dense(4, name="a"), layers.Dense(1, name="head"))
    model.get_layer("head").trainable = False
    model.compile("sgd", "mse")
    rewriter.rewrite(model, rewriter.Muon())
    model.save(tmp_path / "model.keras")
    again = rewriter.load_model(tmp_path / "model.keras")
    again.get_layer("head").trainable = True
    optimizer = rewriter.Muon.from_config(again.optimizer.get_config())
    optimizer.build(again.trainable_variables)
    assert optimizer.leaves_to_adam(again.get_layer("head").augmented_kernel)
    assert not optimizer.leaves_to_adam(again.get_layer("a").augmented_kernel)


@tf_keras.saving.register_keras_serializable("tests_of_muon")
class Subclassed(tf_keras.Model):
    """Keras names its layers anew whenever it is made."""

    def __init__(self, frozen=None, **kwargs):
        super().__init__(**kwargs)
        self.frozen = frozen
        self.each = [layers.Dense(units, activation="relu") for units in (5, 4, 3)]
        if frozen is not None:
            self.each[frozen].trainable = False

    def call(self, inputs):
        for layer in self.each:
            inputs = layer(inputs)
        return inputs

    def get_config(self):
        return {**super().get_config(), "frozen": self.frozen}


@pytest.mark.parametrize(
    ("path", "frozen"), [("model.keras", None), ("model.keras", 0), ("model.keras", 2), ("model", None)]
)
@pytest.mark.parametrize("before", [1, 2])
def test_layers_that_are_named_anew_are_known_by_their_order(generator, tmp_path, path, frozen, before):
    """Their new names are others, or those that other layers had; of frozen ones there is no state."""
    x, y = generator.standard_normal((4, 6)), generator.standard_normal((4, 3))
    for _ in range(before):
        layers.Dense(1)  # the numbers in the names go on from it
    model = Subclassed(frozen)
    model(x)
    model.compile("sgd", "mse")
    rewriter.rewrite(model, rewriter.Muon(0.01))
    model.train_on_batch(x, y)
    rewriter.save_model(model, tmp_path / path)
    tf_keras.backend.clear_session()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        again = rewriter.load_model(tmp_path / path)
    for each in (model, again):
        each.train_on_batch(x, y)
        left = [each.optimizer.leaves_to_adam(layer.augmented_kernel) for layer in each.each]
        assert left == [False, False, True]
    assert [*map(bits, again.get_weights())] == [*map(bits, model.get_weights())]


def test_a_folder_that_does_not_say_what_was_frozen_is_read_without_state(generator, tmp_path):
    x, y = generator.standard_normal((4, 6)), generator.standard_normal((4, 3))
    model = Subclassed(0)
    model(x)
    model.compile("sgd", "mse")
    rewriter.rewrite(model, rewriter.Muon(0.01))
    model.train_on_batch(x, y)
    rewriter.save_model(model, tmp_path / "model")
    with pytest.warns(UserWarning, match="the state of its Muon does not fit the model"):
        again = rewriter.load_model(tmp_path / "model")
    assert [*map(bits, again(x))] == [*map(bits, model(x))]
    again.train_on_batch(x, y)
