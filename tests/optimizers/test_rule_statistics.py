"""Rules of a user that ask their layers what they see, and rules that see all layers of a step at once."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers, optimizers

import rewriter
from arrays import bits
from rewriter.testing import check_joint_optimizer
from rules import Bounded, CenteredByHand

RATE = float(np.float32(0.02))
WAYS = {"graph": {}, "eagerly": {"run_eagerly": True}, "XLA": {"jit_compile": True}}


def images(seed=2):
    tf_keras.utils.set_random_seed(seed)
    return tf_keras.Sequential(
        [
            layers.Conv2D(4, 2, groups=2, activation="tanh", input_shape=(4, 4, 2)),
            layers.DepthwiseConv2D(2, depth_multiplier=2),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


def vectors(seed=2):
    tf_keras.utils.set_random_seed(seed)
    return tf_keras.Sequential([layers.Dense(4, activation="tanh", input_shape=(3,)), layers.Dense(3)])


def data_for(model, steps=5):
    generator = np.random.default_rng(3)
    shape = (6, *model.input_shape[1:])
    return [(generator.normal(1.5, 1.0, shape), generator.standard_normal((6, 3))) for _ in range(steps)]


def fit(model, data):
    for x, y in data:
        model.train_on_batch(x, y)


def differences(one, other):
    return max(np.abs(a - b).max() for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("make", [images, vectors])
@pytest.mark.parametrize("way", WAYS)
def test_a_rule_reads_what_its_layers_saw(make, way):
    """Centered gradient descent in twelve lines, against the one of this library."""
    trained = []
    for rule in (CenteredByHand(RATE), rewriter.Centered(optimizers.SGD(RATE))):
        model = make()
        rewriter.rewrite(model, rule, layers="all")
        model.compile(model.optimizer, "mse", **WAYS[way])
        fit(model, data_for(model))
        model.predict(np.full((6, *model.input_shape[1:]), 99.0), verbose=0)
        fit(model, data_for(model))
        trained.append(model)
    assert differences(*trained) <= 1e-12


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("way", WAYS)
def test_a_rule_sees_all_layers_of_a_step(way):
    """One bound over all layers, which are the same as the gradient of the whole in NumPy."""
    model, plain = vectors(), vectors()
    model.compile("sgd", "mse")
    rewriter.rewrite(model, Bounded(RATE))
    model.compile(model.optimizer, "mse", **WAYS[way])
    for x, y in data_for(model):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((plain(10 * x) - y) ** 2)
        gradients = [each.numpy() for each in tape.gradient(loss, plain.trainable_variables)]
        length = np.sqrt(sum((each**2).sum() for each in gradients))
        assert length > 1
        for variable, each in zip(plain.trainable_variables, gradients, strict=True):
            variable.assign(variable.numpy() - RATE * each / length)
        model.train_on_batch(10 * x, y)
    expected = np.sqrt((gradients[0] ** 2).sum() + (gradients[1] ** 2).sum())
    assert abs(model.optimizer.slot("lengths", model.layers[0].augmented_kernel).numpy() - expected) <= 1e-10
    rewriter.split(model)
    assert differences(model, plain) <= 1e-12


@pytest.mark.usefixtures("float64")
def test_all_layers_together_in_centered_coordinates():
    """Each layer's bias is corrected for its own step: with a bound that is not reached, centered gradient descent."""
    trained = []
    for rule in (Bounded(RATE), optimizers.SGD(RATE)):
        model = vectors()
        rewriter.rewrite(model, rewriter.Centered(rule))
        model.compile(model.optimizer, lambda y, made: 0.01 * tf.reduce_mean((y - made) ** 2))
        fit(model, data_for(model))
        trained.append(model)
    assert differences(*trained) <= 1e-12


@pytest.mark.parametrize("rule", [CenteredByHand, Bounded])
@pytest.mark.parametrize("form", ["keras", "h5", "folder"])
def test_such_a_rule_resumes_bit_for_bit(tmp_path, rule, form):
    model = vectors()
    model.compile("sgd", "mse")
    rewriter.rewrite(model, rule(RATE))
    model.compile(model.optimizer, "mse")
    fit(model, data_for(model))
    path = tmp_path / (f"rule.{form}" if form != "folder" else "rule")
    rewriter.save_model(model, path)
    loaded = rewriter.load_model(path)
    with rewriter.standard_form(model):
        assert all(not hasattr(layer, "augmented_kernel") for layer in model.layers)
    for each in (model, loaded):
        fit(each, data_for(each))
    assert [bits(each) for each in model.get_weights()] == [bits(each) for each in loaded.get_weights()]
    rewriter.split(model)
    fit(model, data_for(model))


@pytest.mark.parametrize("rule", [CenteredByHand, Bounded])
def test_the_check_for_rules_passes(rule):
    check_joint_optimizer(rule)


def test_of_a_layer_whose_input_is_not_known_there_is_no_statistic():
    class Gate(layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight("kernel", (shape[-1], 4))
            self.bias = self.add_weight("bias", (4,))

        def call(self, inputs):
            return tf.sigmoid(inputs @ self.kernel + self.bias)

    said = []

    class Asking(rewriter.JointOptimizer):
        statistics = {"input_mean": 0.9}

        def update_layer(self, gradient, variable, layout):
            del layout
            said.append(self.statistic("input_mean", variable) is None)
            variable.assign_sub(0.1 * gradient)

    model = tf_keras.Sequential([layers.Dense(3, input_shape=(3,)), Gate()])
    model.compile("sgd", "mse")
    rewriter.pair(Gate, kernel="kernel", bias="bias")
    try:
        rewriter.rewrite(model, Asking())
        fit(model, [(np.ones((2, 3)), np.ones((2, 4)))])
    finally:
        rewriter.unpair(Gate)
    assert said == [False, True]


@pytest.mark.parametrize(
    ("statistics", "asked", "message"),
    [
        ({}, "input_mean", "has no statistic 'input_mean'; those that it asks for are none. Ask for it"),
        ({"input_mean": 0.9}, "input_meen", "has no statistic 'input_meen'.*Did you mean 'input_mean'"),
        ({"means": 0.9}, "means", "means"),
        (
            0.5,
            "input_mean",
            r"Asking\.statistics must be a dict, as .*got 0\.5\. Give a setting of your own another name",
        ),
        ({"input_mean": 1.5}, "input_mean", r"the decay of statistic 'input_mean'"),
    ],
)
def test_a_statistic_that_is_not_there_is_named(statistics, asked, message):
    rule = type(
        "Asking",
        (rewriter.JointOptimizer,),
        {
            "statistics": statistics,
            "update_layer": lambda self, gradient, variable, layout: self.statistic(asked, variable),
        },
    )
    model = vectors()
    model.compile("sgd", "mse")
    with pytest.raises((TypeError, ValueError, rewriter.OptimizerError), match=message):  # noqa: PT012
        rewriter.rewrite(model, rule())
        fit(model, data_for(model))


class Mixing(layers.Layer):
    """A layer of a user's own, whose kernel reads its input."""

    def build(self, shape):
        self.w = self.add_weight("w", (shape[-1], 4))
        self.b = self.add_weight("b", (4,))

    def call(self, inputs):
        return tf.tanh(inputs @ self.w + self.b)


@pytest.mark.usefixtures("float64")
def test_a_declared_pair_that_reads_its_input_is_centered(tmp_path):
    """As the Dense layer that it is; the file knows it, and the plan says it."""
    trained, path = [], tmp_path / "told.keras"
    for make in (Mixing, lambda: layers.Dense(4, activation="tanh")):
        tf_keras.utils.set_random_seed(2)
        inputs = tf_keras.Input((3,))
        model = tf_keras.Model(inputs, layers.Dense(3, name="last")(make()(inputs)))
        tf_keras.utils.set_random_seed(5)
        model.set_weights([np.random.default_rng(1).normal(size=each.shape) for each in model.get_weights()])
        model.compile(optimizers.SGD(RATE), "mse")
        if make is Mixing:
            rewriter.pair(Mixing, kernel="w", bias="b", reads_input=True)
        try:
            assert {each.to_dict()["centering"] for each in rewriter.plan(model).decisions} == {"centered"}
            rewriter.rewrite(model, optimizer="centered")
        finally:
            if make is Mixing:
                rewriter.unpair(Mixing)
        fit(model, data_for(model))
        with tf_keras.utils.custom_object_scope({"Mixing": Mixing}):
            rewriter.save_model(model, path, overwrite=True)
            model = rewriter.load_model(path)
        fit(model, data_for(model))
        trained.append(model)
    assert differences(*trained) <= 1e-12


def test_what_is_said_of_a_pair_must_be_possible():
    class Turned(layers.Layer):
        def build(self, shape):
            self.w = self.add_weight("w", (4, shape[-1]))
            self.b = self.add_weight("b", (4,))

        def call(self, inputs):
            return inputs @ tf.transpose(self.w) + self.b

    model = tf_keras.Sequential([Turned(), layers.Dense(2)])
    model.build((None, 3))
    with pytest.raises(rewriter.PairError, match=r"reads_input=True is for one kernel that is a matrix.*got w 4x3"):
        rewriter.pair(model.layers[0], kernel="w", bias="b", units=-2, reads_input=True)


def test_an_input_of_other_features_than_was_said_is_refused():
    class Doubling(Mixing):
        def build(self, shape):
            super().build((shape[0], 2 * shape[-1]))

        def call(self, inputs):
            return super().call(tf.concat([inputs, inputs], axis=-1))

    model = tf_keras.Sequential([Doubling(), layers.Dense(3)])
    model.build((None, 3))
    model.compile("sgd", "mse")
    rewriter.pair(model.layers[0], kernel="w", bias="b", reads_input=True)
    rewriter.rewrite(model, optimizer="centered")
    with pytest.raises(rewriter.ModelError, match=r"reads_input=True, and the layer was called with an input of shape"):
        fit(model, data_for(model))


class Descent(rewriter.JointMomentum):
    """Made of joint momentum, and moves all layers in a way of its own."""

    def update_layers(self, layers):
        for layer in layers:
            layer.variable.assign_sub(tf.cast(self.learning_rate, layer.variable.dtype) * layer.gradient)


@pytest.mark.usefixtures("float64")
def test_a_rule_that_moves_all_layers_in_its_own_way_is_corrected():
    trained = []
    for rule in (Descent(RATE, centered=True), rewriter.Centered(optimizers.SGD(RATE))):
        model = vectors()
        rewriter.rewrite(model, rule)
        model.compile(model.optimizer, "mse")
        fit(model, data_for(model))
        trained.append(model)
    assert differences(*trained) <= 1e-12


def test_a_centered_rule_with_statistics_of_its_own_is_saved(tmp_path):
    """Each has its own sums, under its own name."""
    model = vectors()
    model.compile("sgd", "mse")
    rewriter.rewrite(model, rewriter.Centered(CenteredByHand(RATE)))
    model.compile(model.optimizer, "mse")
    fit(model, data_for(model))
    rewriter.save_model(model, tmp_path / "both.h5")
    loaded = rewriter.load_model(tmp_path / "both.h5")
    for each in (model, loaded):
        fit(each, data_for(each))
    assert differences(model, loaded) == 0
