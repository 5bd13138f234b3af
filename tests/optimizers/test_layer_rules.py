"""What holds of every rule on whole layers: files, precision, a loss scale, a merge in parts, the way back."""

import re

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import rewriter
from arrays import bits
from layer_network import FEATURES, OUTPUTS, batches
from rewriter.testing import check_joint_optimizer
from short_cases import cases

# SOAP turns axes that are no longer than the other: the null space of a gradient's square has no basis of its own, so
# what is done there hangs on rounding.
RULES = {
    "SOAP": lambda largest=5, **more: rewriter.SOAP(0.01, every=3, largest=largest, **more),
    "Muon": lambda **more: rewriter.Muon(0.01, **more),
    "KFAC": lambda **more: rewriter.KFAC(0.01, factors_every=2, every=4, **more),
    "QuasiDiagonal": lambda **more: rewriter.QuasiDiagonal(0.01, every=2, **more),
}
every_rule = pytest.mark.parametrize("rule", RULES)


def network(dtype="float32"):
    """Layers that are merged and one that is not."""
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(4)
    policy = tf_keras.mixed_precision.Policy(dtype)
    return tf_keras.Sequential(
        [
            layers.InputLayer((FEATURES,)),
            layers.Dense(6, activation="tanh", dtype=policy, name="first"),
            layers.LayerNormalization(dtype=policy),
            layers.Dense(5, activation="tanh", dtype=policy, name="second"),
            layers.Dense(OUTPUTS, dtype=policy, name="head"),
        ]
    )


def rewritten(rule, dtype="float32", **way):
    model = network(dtype)
    model.compile("sgd", "mse", **way)
    return rewriter.rewrite(model, rule)


def train(model, steps, seed=3):
    for x, y in batches(steps, seed=seed):
        model.train_on_batch(x, y)


def furthest(one, other):
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return max(np.abs(np.float64(a) - np.float64(b)).max() for a, b in pairs)


@every_rule
def test_it_is_a_joint_optimizer(rule):
    # In the null space of the first gradients any basis is as good as another, and a graph finds another.
    check_joint_optimizer(getattr(rewriter, rule), **({"largest": 2} if rule == "SOAP" else {}))


@every_rule
def test_autograph_reads_its_step(rule, caplog):
    """In a function of the user's own it goes through our code too, and warns of what it cannot read."""
    model = network()
    model.compile("sgd", "mse")
    rewriter.rewrite(model, RULES[rule]())

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
        variables = model.trainable_variables
        model.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    step(*(tf.constant(each, tf.float32) for each in batches(1)[0]))
    assert "AutoGraph" not in caplog.text


# Each setting with what is illegal, and what the error says is legal.
ILLEGAL = {
    ("SOAP", "beta_1"): (1.0, "a number in [0, 1)"),
    ("SOAP", "beta_2"): (-0.1, "a number in [0, 1)"),
    ("SOAP", "epsilon"): (0.0, "a finite number > 0"),
    ("SOAP", "every"): (0, "a whole number >= 1"),
    ("SOAP", "largest"): (2.5, "a whole number >= 1"),
    ("Muon", "momentum"): (2, "a number in [0, 1]"),
    ("Muon", "newton_schulz_steps"): (0, "a whole number >= 1"),
    ("Muon", "products"): ("half", "one of 'float32', 'bfloat16'"),
    ("KFAC", "damping"): (-1, "a finite number >= 0 or a LearningRateSchedule"),
    ("KFAC", "bound"): (-1, "a finite number >= 0 or None"),
    ("KFAC", "loss_factor"): (float("nan"), "a finite number > 0"),
    ("KFAC", "decay"): (2, "a number in [0, 1]"),
    ("KFAC", "factors_every"): (0, "a whole number >= 1"),
    ("KFAC", "every"): (0, "a whole number >= 1"),
    ("KFAC", "positions"): ("mean", "one of 'expand', 'reduce'"),
    ("QuasiDiagonal", "damping"): ("small", "a finite number >= 0"),
    ("QuasiDiagonal", "momentum"): (None, "a number in [0, 1]"),
    ("QuasiDiagonal", "every"): (-3, "a whole number >= 1"),
    ("SOAP", "learning_rate"): (10**400, "a finite number >= 0 or a LearningRateSchedule"),
    ("KFAC", "momentum"): (np.True_, "a number in [0, 1]"),
    ("KFAC", "beta_1"): (tf.constant(True), "a number in [0, 1)"),
}


@pytest.mark.parametrize(("rule", "setting"), ILLEGAL)
def test_a_setting_that_is_not_legal_is_said(rule, setting):
    value, legal = ILLEGAL[rule, setting]
    said = f"{setting.removeprefix('factors_')} must be {legal}, got {value!r}."
    with pytest.raises(ValueError, match=f"{re.escape(said)}$"):
        getattr(rewriter, rule)(**{setting: value})


@pytest.mark.parametrize(("rule", "flag"), [("Muon", "nesterov"), ("KFAC", "output_factor"), ("SOAP", "bounded")])
def test_a_flag_is_a_flag(rule, flag):
    with pytest.raises(TypeError, match=flag):
        getattr(rewriter, rule)(**{flag: "no"})


@pytest.mark.slow
@every_rule
@pytest.mark.parametrize("suffix", [".keras", ".h5", ""])
def test_training_goes_on_from_a_file(rule, suffix, tmp_path):
    model = rewritten(RULES[rule]())
    train(model, 4)
    rewriter.save_model(model, tmp_path / f"model{suffix}")
    again = rewriter.load_model(tmp_path / f"model{suffix}")
    for each in (model, again):
        train(each, 4, seed=5)
    assert list(map(bits, again.get_weights())) == list(map(bits, model.get_weights()))


@pytest.mark.slow
@every_rule
def test_it_trains_alike_in_a_graph_eagerly_and_under_xla(rule):
    models = [rewritten(RULES[rule](), **way) for way in ({}, {"run_eagerly": True}, {"jit_compile": True})]
    for model in models:
        train(model, 10)
    assert max(furthest(models[0], other) for other in models[1:]) <= 1e-4


@pytest.mark.parametrize("rule", cases(RULES, {"SOAP", "KFAC"}))
def test_a_loss_scale_changes_nothing(rule):
    """Powers of two are exact, so weights are the same bit for bit; state has float32."""
    models = []
    for scale in (2.0**4, 2.0**9):
        model = network("mixed_float16")
        wrapped = tf_keras.mixed_precision.LossScaleOptimizer(RULES[rule](), dynamic=False, initial_scale=scale)
        model.compile("sgd", "mse")
        rewriter.rewrite(model, wrapped)
        train(model, 6)
        models.append(model)
    assert furthest(*models) == 0
    assert {each.dtype.name for each in models[0].optimizer.inner_optimizer.variables[2:]} == {"float32"}


@pytest.mark.slow
@every_rule
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "bfloat16"])
def test_state_has_float32_whatever_the_layer_has(rule, dtype):
    model, exact = rewritten(RULES[rule](), dtype), rewritten(RULES[rule]())
    before = [weight.numpy() for weight in exact.weights]
    for each in (model, exact):
        train(each, 6)
    kernels = [each for each in model.trainable_variables if rewriter.layout_of(each)]
    kept = [model.optimizer.slot(name, kernel) for name in model.optimizer.slots for kernel in kernels]
    assert {each.dtype.name for each in kept} == {"float32"}
    moved = max(np.abs(a - b).max() for a, b in zip(before, exact.get_weights(), strict=True))
    assert dtype == "bfloat16" or furthest(model, exact) <= 0.5 * moved  # weights of eight bits stay where they are


@pytest.mark.parametrize("rule", cases(RULES, {"SOAP", "KFAC"}))
def test_layers_are_merged_in_parts(rule):
    """The rest is rewritten after some steps, and training goes on; the first layer has all its state."""
    model = network()
    model.compile("sgd", "mse")
    rewriter.rewrite(model, RULES[rule](), exclude="second")
    train(model, 4)
    optimizer, first = model.optimizer, model.get_layer("first").augmented_kernel
    before = [bits(optimizer.slot(name, first).numpy()) for name in optimizer.slots]
    rewriter.rewrite(model, optimizer)
    assert [bits(optimizer.slot(name, first).numpy()) for name in optimizer.slots] == before
    train(model, 4)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


@pytest.mark.parametrize("rule", cases(RULES, {"SOAP", "KFAC"}))
def test_what_leaves_is_a_plain_model(rule, tmp_path):
    model = rewritten(RULES[rule](weight_decay=0.1))
    train(model, 4)
    outputs = model.predict(batches(1)[0][0], verbose=0)
    rewriter.export(model, tmp_path / "plain.keras")
    plain = tf_keras.models.load_model(tmp_path / "plain.keras")
    assert bits(plain.predict(batches(1)[0][0], verbose=0)) == bits(outputs)
    assert type(plain.optimizer) is tf_keras.optimizers.Adam
    assert plain.optimizer.weight_decay == 0.1
    assert float(plain.optimizer.learning_rate) == np.float32(0.01)


@pytest.mark.parametrize("rule", ["SOAP", "Muon"])
@pytest.mark.usefixtures("float64")
def test_centered_it_does_not_see_a_shift_of_the_inputs(rule):
    """Training with inputs moved, and the first bias moved back, gives the same function."""
    shift, outputs = np.array([3.0, -1.0, 0.5, 2.0]), []
    for moved in (0, 1):
        tf_keras.utils.set_random_seed(4)
        model = tf_keras.Sequential(
            [layers.Dense(5, activation="tanh", input_shape=(FEATURES,)), layers.Dense(6, activation="tanh")]
        )
        model.add(layers.Dense(OUTPUTS))
        model.compile("sgd", "mse")
        kernel, bias = model.layers[0].get_weights()
        model.layers[0].set_weights([kernel, bias - moved * shift @ kernel])
        rewriter.rewrite(model, rewriter.Centered(RULES[rule](**({"largest": 6} if rule == "SOAP" else {}))))
        for x, y in batches(50):
            model.train_on_batch(x + moved * shift, y)
        outputs.append(model.predict(batches(1)[0][0] + moved * shift, verbose=0))
    assert np.abs(outputs[0] - outputs[1]).max() <= 1e-6


@every_rule
def test_inputs_that_are_no_numbers_give_a_loss_that_is_none(rule):
    """As under Adam, where callbacks such as TerminateOnNaN see it; from the first step on, that decomposes."""
    model = rewritten(RULES[rule]())
    ((x, y),) = batches(1)
    x[3] = np.nan
    for _ in range(5):
        loss = model.train_on_batch(x, y)
    assert np.isnan(loss)


@every_rule
def test_inputs_and_targets_far_from_one(rule):
    """More rows than examples, so that factors have no full rank; nothing but a loss that is large."""
    generator = np.random.default_rng(0)
    x, y = generator.uniform(0, 255, (64, 200)), generator.uniform(0, 1e4, (64, 1))
    tf_keras.utils.set_random_seed(1)
    model = tf_keras.Sequential([layers.InputLayer((200,)), layers.Dense(32, "relu"), layers.Dense(1)])
    model.compile("sgd", "mse")
    rewriter.rewrite(model, RULES[rule]())
    model.fit(x, y, epochs=20, verbose=0)
    assert np.isfinite(model.evaluate(x, y, verbose=0))


def test_factors_without_full_rank_have_an_inverse_all_the_same():
    """More rows than examples and no damping: what is divided by is no less than the rounding errors."""
    model = rewritten(RULES["KFAC"](damping=0.0))
    generator = np.random.default_rng(0)
    x, y = generator.uniform(0, 255, (2, FEATURES)), generator.standard_normal((2, OUTPUTS))
    for _ in range(9):
        loss = model.train_on_batch(x, y)
    assert np.isfinite(loss)


@pytest.mark.parametrize("setting", ["positions", "products"])
def test_an_array_is_none_of_some_words(setting):
    make = rewriter.KFAC if setting == "positions" else rewriter.Muon
    with pytest.raises(ValueError, match=f"^{setting} must be one of"):
        make(**{setting: np.array(["expand", "float32"])})
