"""Centered coordinates, against NumPy in float64: the forward and backward pass, the means, the rule and the step."""

import numpy as np
import pytest
import tf_keras
from tf_keras import layers, optimizers

import rewriter
from arrays import bits
from centered_models import KEPT, RATE, batches, fit, small
from centered_oracle import Adam, Joint, Sgd, train
from rewriter import Centered
from short_cases import cases

BOUNDARIES, RATES = [3, 37], [0.0, 0.01, 0.05]


def rate_at(step):
    """Warm up from nothing, and rise between two steps at which the scales of bias steps are found anew."""
    return RATES[np.searchsorted(BOUNDARIES, step)]


RULES = {
    "SGD": (lambda: optimizers.SGD(RATE), lambda: Sgd(RATE)),
    "momentum": (lambda: optimizers.SGD(RATE, 0.87), lambda: Sgd(RATE, 0.87)),
    "nesterov": (lambda: optimizers.SGD(RATE, 0.87, nesterov=True), lambda: Sgd(RATE, 0.87, nesterov=True)),
    "Adam": (lambda: optimizers.Adam(RATE), lambda: Adam(RATE)),
    "Adam, scheduled": (
        lambda: optimizers.Adam(optimizers.schedules.PiecewiseConstantDecay(BOUNDARIES, RATES)),
        lambda: Adam(rate_at),
    ),
    "joint momentum": (lambda: rewriter.JointMomentum(RATE, 0.87), lambda: Joint(RATE, 0.87)),
}
WAYS = {"graph": {}, "eagerly": {"run_eagerly": True}, "XLA": {"jit_compile": True}}


def network(seed=1):
    tf_keras.utils.set_random_seed(seed)
    return tf_keras.Sequential(
        [layers.Dense(7, activation="tanh", input_shape=(5,), dtype="float64"), layers.Dense(3, dtype="float64")]
    )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rule", cases(RULES, {"SGD", "Adam", "joint momentum"}))
def test_equals_the_rule_in_numpy(generator, rule, way):
    """300 steps of a network of two layers."""
    keras_rule, numpy_rule = RULES[rule]
    model = network()
    rewriter.rewrite(model, Centered(keras_rule()))
    model.compile(model.optimizer, "mse", **WAYS[way])
    model.optimizer.build(model.trainable_variables)
    start = [layer.augmented_kernel.numpy() for layer in model.layers]
    steps = 300 if way == "graph" else 40
    data = batches(generator, steps)
    fit(model, data)
    expected = train(start, data, numpy_rule())
    for layer, weights in zip(model.layers, expected, strict=True):
        assert np.abs(layer.augmented_kernel.numpy() - weights).max() <= 1e-10


def test_a_shift_of_the_inputs_changes_nothing(generator):
    """Inputs x, or x + c with the bias b - cᵀW: the same function after 100 steps. Not so under plain Adam."""
    shift = generator.normal(0.0, 2.0, 5)
    data = [(generator.standard_normal((8, 5)), generator.standard_normal((8, 3))) for _ in range(100)]
    probe = generator.standard_normal((20, 5))
    tf_keras.backend.set_floatx("float64")
    try:
        distance = {}
        for name, wrap in (("centered", Centered), ("plain", lambda optimizer: optimizer)):
            outputs = []
            for moved in (0, 1):
                model = network()
                kernel, bias = model.layers[0].get_weights()
                model.layers[0].set_weights([kernel, bias - moved * shift @ kernel])
                rewriter.rewrite(model, wrap(optimizers.Adam(RATE, epsilon=1e-3)))
                model.compile(model.optimizer, "mse")
                fit(model, [(x + moved * shift, y) for x, y in data])
                outputs.append(model(probe + moved * shift).numpy())
            distance[name] = np.abs(outputs[0] - outputs[1]).max()
        assert distance["centered"] <= 1e-8
        assert distance["plain"] > 1e-3
    finally:
        tf_keras.backend.set_floatx("float32")


def test_layers_that_are_left_out_train_as_under_the_plain_optimizer(generator):
    data = batches(generator, 8)
    trained = []
    for optimizer in (Centered(KEPT["Adam"](), exclude="*"), KEPT["Adam"]()):
        model = small()
        rewriter.rewrite(model, optimizer, exact=False)
        model.compile(model.optimizer, "mse")
        fit(model, data)
        trained.append(model.get_weights())
    assert [*map(bits, trained[0])] == [*map(bits, trained[1])]


def refused():
    scaled = tf_keras.mixed_precision.LossScaleOptimizer(optimizers.SGD(RATE))
    yield optimizers.Ftrl(RATE), r"Ftrl cannot be centered: it sets weights absolutely"
    yield optimizers.Adafactor(RATE), r"Adafactor cannot be centered: it is not elementwise"
    yield scaled, r"goes around a centered optimizer.*LossScaleOptimizer\(rewriter.Centered\(optimizer\)\)"
    yield Centered(optimizers.SGD(RATE)), r"this SGD is centered already"
    yield optimizers.legacy.SGD(RATE), r"takes a current optimizer of tf_keras, got"
    yield "adam", r"takes a current optimizer of tf_keras, got 'adam'"


@pytest.mark.parametrize(
    ("optimizer", "said"), list(refused()), ids=["Ftrl", "Adafactor", "scaled", "twice", "legacy", "name"]
)
def test_what_cannot_be_centered_is_refused(optimizer, said):
    with pytest.raises(rewriter.OptimizerError, match=said):
        Centered(optimizer)


def test_a_model_that_is_not_compiled_is_told_to_be():
    with pytest.raises(
        rewriter.OptimizerError, match=r"optimizer='centered' centers .* is not compiled: compile it before"
    ):
        rewriter.rewrite(small(), "centered")


@pytest.mark.parametrize("decay", [-0.1, 1.5, "much"])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(ValueError, match=r"decay must be a number in \[0, 1\]"):
        Centered(optimizers.SGD(RATE), decay=decay)


def test_it_says_what_it_is():
    """By its own class and address it would not be told from the plain one."""
    assert repr(rewriter.Centered(optimizers.Adam())).startswith("<centered Adam at 0x")
    assert repr(rewriter.Centered(rewriter.JointMomentum())).startswith("<centered JointMomentum at 0x")


def test_joint_momentum_centers_itself(tmp_path):
    """``centered=True`` is a word for it: the same class, files and standard form."""
    by_word, by_hand = rewriter.JointMomentum(RATE, 0.8, centered=True), Centered(rewriter.JointMomentum(RATE, 0.8))
    assert type(by_word) is type(by_hand)
    assert by_word.centered
    assert not rewriter.JointMomentum().centered
    again = type(by_word).from_config(by_word.get_config())
    assert (again.centered, again.momentum, again.get_config()) == (True, 0.8, by_word.get_config())
    model = network()
    model.compile("sgd", "mse")
    rewriter.rewrite(model, by_word)
    model.compile(by_word, "mse")
    fit(model, batches(np.random.default_rng(0), 3))
    rewriter.save_model(model, tmp_path / "joint.keras")
    loaded = rewriter.load_model(tmp_path / "joint.keras")
    assert loaded.optimizer.centered
    rewriter.split(model)
    assert type(model.optimizer) is optimizers.SGD


class Doubled(rewriter.JointMomentum):
    """A rule of a user, made of ours."""

    def update_layer(self, gradient, variable, layout):
        super().update_layer(2 * gradient, variable, layout)


@pytest.mark.usefixtures("float64")
def test_a_rule_that_is_made_of_joint_momentum_is_corrected_once(generator):
    model, double = network(), network()
    for each, rule in ((model, rewriter.JointMomentum(2 * RATE, 0.5)), (double, Doubled(RATE, 0.5))):
        rewriter.rewrite(each, Centered(rule))
        each.compile(each.optimizer, "mse")
    data = batches(generator, 10)
    fit(model, data)
    fit(double, data)
    for one, other in zip(model.get_weights(), double.get_weights(), strict=True):
        assert np.abs(one - other).max() <= 1e-12
