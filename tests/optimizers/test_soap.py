"""SOAP against NumPy in float64, and against Adam."""

import numpy as np
import pytest
import tf_keras
from tf_keras import layers, optimizers

import rewriter
from arrays import bits
from layer_models import network, rewritten
from layer_network import batches, gradients
from layer_rules_oracle import Adam, Soap
from rewriter.optimizers.rules.adam import longest_step
from short_cases import cases

RATE = float(np.float32(0.01))
BOTH = [(0, 1), (0, 1)]  # axes of both layers
WAYS = {"graph": {}, "eagerly": {"run_eagerly": True}, "XLA": {"jit_compile": True}}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("largest", "sides"), [(100, BOTH), (4, [(1,), (1,)]), (3, [(), (1,)])])
@pytest.mark.parametrize("way", WAYS)
def test_a_hundred_steps_are_those_of_the_paper(way, largest, sides):
    """But for the bound on them."""
    shortened_in_a_hundred_steps(way, largest, sides)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("bounded", [True, False])
def test_bases_that_are_seldom_new_are_so_in_the_first_twenty_steps(bounded):
    """If steps are bounded; the rule of the paper waits."""
    shortened_in_a_hundred_steps("graph", 100, BOTH, bounded=bounded, every=30)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("bounded", [True, False])
def test_a_bound_makes_steps_shorter(bounded):
    assert bool(shortened_in_a_hundred_steps("graph", 100, BOTH, bounded=bounded)) is bounded


def shortened_in_a_hundred_steps(way, largest, sides, **more):
    """Compare the steps with those of NumPy; return how many coordinates of these the bound has made shorter."""
    # A small epsilon makes steps of the rounding errors in the null space of the gradients, which all have.
    settings = {"every": 7, "epsilon": 1e-3, **more}
    model = rewritten(network(), rewriter.SOAP(RATE, **settings, largest=largest), **WAYS[way])
    kernels = model.trainable_variables
    weights = [kernel.numpy() for kernel in kernels]
    exact = 1e-6 if way == "XLA" else 1e-11  # on a CPU it finds eigenvectors to 1e-6, of float64 too
    rules = [Soap(RATE, **settings, sides=axes, exact=exact) for axes in sides]
    for x, y in batches(100):
        of_layers = gradients(weights, x, y)
        model.train_on_batch(x, y)
        for place, (kernel, rule) in enumerate(zip(kernels, rules, strict=True)):
            bases = [model.optimizer.slot(name, kernel).numpy() for name in ("row_basis", "unit_basis")]
            weights[place] = weights[place] - rule.step(of_layers[place], bases)
    for kernel, weight in zip(kernels, weights, strict=True):
        assert np.abs(kernel.numpy() - weight).max() <= 1e-9
    return sum(rule.shortened for rule in rules)


@pytest.mark.parametrize("betas", [(0.95, 0.95), (0.9, 0.999), (0.8, 0.65), (0.0, 0.9), (0.0, 0.0)])
def test_the_bound_is_the_longest_step_of_adam(betas):
    """It is that where the inequality of Cauchy and Schwarz is an equality."""
    oracle = Adam(1.0, *betas, epsilon=1e-200)
    growth = betas[0] / betas[1] if betas[0] else 0.0
    steps = [oracle.step(growth**age if age <= 1000 else 0.0) for age in range(20_000, -1, -1)]
    assert steps[-1] == pytest.approx(longest_step(*betas), rel=1e-5)
    assert max(np.abs(steps)) <= longest_step(*betas) * (1 + 1e-12)


def test_where_steps_of_adam_have_no_bound_there_is_none():
    assert longest_step(0.95, 0.9) == longest_step(0.5, 0.0) == np.inf


def test_without_bases_it_is_adam_bit_for_bit():
    settings = {"beta_1": 0.95, "beta_2": 0.99, "epsilon": 1e-7}
    trained = []
    for rule in (optimizers.Adam(RATE, **settings), rewriter.SOAP(RATE, **settings, largest=1)):
        model = network()
        model.add(layers.LayerNormalization())
        rewritten(model, rule, run_eagerly=True)
        for x, y in batches(20):
            model.train_on_batch(x, y)
        trained.append(model.get_weights())
    for one, two in zip(*trained, strict=True):
        assert bits(one) == bits(two)


@pytest.mark.parametrize("way", WAYS)
def test_the_first_step_is_the_gradient_orthogonalized(way):
    """What its own eigenbasis leaves of a gradient beside the diagonal is rounding, and moves nothing."""
    model = rewritten(network(), rewriter.SOAP(RATE), **WAYS[way])
    before = model.get_weights()
    x, y = batches(1)[0]
    of_layers = gradients([np.float64(each) for each in before], x, y)
    model.train_on_batch(x, y)
    for old, new, gradient in zip(before, model.get_weights(), of_layers, strict=True):
        left, values, right = np.linalg.svd(gradient, full_matrices=False)
        seen = values > 1e-3 * values[0]  # of smaller ones epsilon takes a part, and float32 the direction
        step = (np.float64(old) - new) / RATE
        assert np.abs(left[:, seen].T @ step @ right[seen].T - np.eye(seen.sum())).max() <= 1e-3


def test_a_few_examples_a_batch_are_enough():
    """In a basis that knows the gradient most of a step is rounding: by eleven such steps it learnt nothing."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((512, 100)).astype("float32")
    y = (x @ generator.standard_normal((100, 60)) / 10).astype("float32")
    losses = {}
    for bounded in (True, False):
        model = tf_keras.Sequential([layers.Dense(60, kernel_initializer="zeros", input_shape=(100,))])
        model.compile("sgd", "mse")
        rewriter.rewrite(model, rewriter.SOAP(0.01, bounded=bounded))
        first = model.evaluate(x, y, 512, verbose=0)
        model.fit(x[:22], y[:22], 2, shuffle=False, verbose=0)
        losses[bounded] = model.evaluate(x, y, 512, verbose=0) / first
    assert max(losses.values()) <= 0.94
    assert losses[True] <= losses[False] + 0.03


@pytest.mark.parametrize(("way", "width"), [("XLA", 1), ("XLA", 9), ("graph", 1)])
def test_xla_on_a_cpu_is_warned_of(way, width, monkeypatch, caplog):
    """Its eigenvectors take twenty times as long; once for an optimizer, and not where layers are narrow."""
    monkeypatch.setattr("rewriter.optimizers.rules.soap._LONG", width)
    model = rewritten(network(), rewriter.SOAP(RATE), **WAYS[way])
    model.train_on_batch(*batches(1)[0])
    said = [each.getMessage() for each in caplog.records if (each.name, each.levelname) == ("rewriter", "WARNING")]
    assert len(said) == (way == "XLA" and width == 1)
    assert all("compile(jit_compile=False)" in each for each in said)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("power", cases([-28, 36, 60], {-28, 60}))
def test_the_scale_of_the_loss_does_not_matter(power, way):
    """The factors have squares of gradients, and a decomposition squares these: it gave NaN where they left float32."""
    trained = []
    for scale in (1.0, 2.0**power):
        model = network()
        rewriter.rewrite(model, rewriter.SOAP(RATE, every=2, epsilon=1e-25 * scale))
        model.compile(model.optimizer, lambda y, outputs, scale=scale: scale * (y - outputs) ** 2, **WAYS[way])
        for x, y in batches(10):
            model.train_on_batch(x.astype("float32"), y.astype("float32"))
        trained.append(model.get_weights())
    for one, other in zip(*trained, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("centered", [False, True])
def test_a_layer_that_is_merged_later_starts_anew(centered):
    """What Adam kept of a kernel and a bias is in other coordinates: divided by it, dead units took steps of 1e6."""
    generator = np.random.default_rng(0)
    x = (generator.standard_normal((64, 6)) + 2).astype("float32")
    y = np.sin(x[:, :3])
    tf_keras.utils.set_random_seed(0)
    model = tf_keras.Sequential([layers.Dense(8, "tanh", input_shape=(6,), name="first"), layers.Dense(8, "relu")])
    model.add(layers.Dense(3))
    model.layers[1].bias.assign([-100.0] * 3 + [0.0] * 5)  # these units never answer
    model.compile("sgd", "mse")
    rule = rewriter.SOAP(0.003)
    rewriter.rewrite(model, rewriter.Centered(rule) if centered else rule, include="first")
    for _ in range(20):
        model.train_on_batch(x, y)
    kept = [bits(rule.slot(name, model.layers[0].augmented_kernel).numpy()) for name in rule.slots]
    rewriter.rewrite(model)
    assert [bits(rule.slot(name, model.layers[0].augmented_kernel).numpy()) for name in rule.slots] == kept
    for layer in model.layers[1:]:
        for name in ("first_moment", "second_moment"):
            assert not rule.slot(name, layer.augmented_kernel).numpy().any()
    losses = [model.train_on_batch(x, y) for _ in range(20)]
    assert max(losses) <= 1.1 * losses[0]
    assert losses[-1] < losses[0]
