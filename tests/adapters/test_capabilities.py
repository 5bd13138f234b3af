"""A Keras that lacks what is optional: everything else works, and what needs it says so."""

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

import rewriter
from arrays import bits
from models import batch, nested
from momentum_oracle import MOMENTUM, RATE, augmented, oracle, relative_error, train
from rewriter.adapters import keras

CAPABILITIES = ("functions", "graphs", "tracing", "fused", "checkpoints", "legacy", "loss_scale")


@pytest.fixture
def bare(monkeypatch):
    for capability in CAPABILITIES:
        monkeypatch.setattr(keras, capability, None)


@pytest.mark.usefixtures("bare")
def test_a_model_is_rewritten_trained_saved_and_split(tmp_path):
    model, (x, y) = nested(), batch()
    model.compile("adam", "mse")
    before = model.get_weights()
    rewriter.rewrite(model, optimizer="keep")
    rewriter.split(model)
    assert [*map(bits, model.get_weights())] == [*map(bits, before)]
    rewriter.rewrite(model)
    model.fit(x, y, epochs=2, verbose=0)
    with rewriter.standard_form(model):
        trained = model.get_weights()
    rewriter.save_model(model, tmp_path / "rewritten.keras")
    rewriter.export(model, tmp_path / "standard.keras")
    assert [*map(bits, tf_keras.models.load_model(tmp_path / "standard.keras").get_weights())] == [*map(bits, trained)]
    again = rewriter.split(rewriter.load_model(tmp_path / "rewritten.keras"))
    assert [*map(bits, again.get_weights())] == [*map(bits, trained)]
    assert any(np.any(one != other) for one, other in zip(before, trained, strict=True))


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("nesterov", [False, True])
def test_joint_momentum_without_its_fused_update_is_the_rule(generator, nesterov):
    value, gradients = generator.standard_normal((6, 5)), generator.standard_normal((40, 6, 5))
    variable = augmented(value, "dense")
    train(rewriter.JointMomentum(RATE, MOMENTUM, nesterov=nesterov), [variable], [gradients])
    expected = oracle(value, gradients, 0, np.full(40, RATE), MOMENTUM, nesterov)
    assert relative_error(variable.numpy(), expected) <= 1e-12


@pytest.mark.usefixtures("bare")
def test_what_needs_a_capability_says_so():
    model = tf_keras.Sequential([layers.Dense(3, input_shape=(4,))])
    with pytest.raises(rewriter.ModelError, match=r"discover=True is not there .*rewriter.pair"):
        rewriter.plan(model, discover=True)
