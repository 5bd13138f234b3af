"""``rewriter rewrite --centered``: the compiled optimizer with its state, centered, and back by ``rewriter export``."""

import json

import numpy as np
import pytest
import tf_keras

import rewriter
from arrays import bits
from models import batch, fit, nested
from rewriter.optimizers.centered.optimizer import is_centered


@pytest.fixture
def base(tmp_path):
    model = nested()
    model.compile("adam", "mse")
    fit(model)
    model.save(tmp_path / "base.keras")
    return model


def test_there_and_back(base, run, tmp_path):
    source, output = tmp_path / "base.keras", tmp_path / "centered.keras"
    code, out, err = run("rewrite", source, output, "--centered")
    assert (code, err) == (0, "")
    assert "optimizer: Adam kept, in centered coordinates\nslots: " in out
    model = rewriter.load_model(output)
    assert is_centered(model.optimizer)
    code, _, err = run("export", output, tmp_path / "plain.keras")
    assert (code, err) == (0, "")
    plain = tf_keras.models.load_model(tmp_path / "plain.keras")
    assert type(plain.optimizer) is tf_keras.optimizers.Adam
    assert [*map(bits, plain.get_weights())] == [*map(bits, base.get_weights())]
    assert [bits(each.numpy()) for each in plain.optimizer.variables] == [
        bits(each.numpy()) for each in base.optimizer.variables
    ]


@pytest.mark.usefixtures("base")
def test_data_is_what_the_means_begin_with(run, tmp_path):
    x, _ = batch()
    np.savez(tmp_path / "data.npz", x=x)
    code, _, err = run(
        "rewrite", tmp_path / "base.keras", tmp_path / "centered.keras", "--centered", "--data", tmp_path / "data.npz"
    )
    assert (code, err) == (0, "")
    kept = rewriter.load_model(tmp_path / "centered.keras").optimizer.variables
    seen = next(each.numpy() for each in kept if each.name.startswith("inputs"))
    assert seen[-1] == len(x)
    assert np.allclose(seen[:-1], x.sum(axis=0), rtol=1e-4, atol=1e-5)


def test_a_model_that_is_not_compiled_is_refused(run, tmp_path):
    nested().save(tmp_path / "bare.keras")
    code, _, err = run("rewrite", tmp_path / "bare.keras", tmp_path / "out.keras", "--centered")
    assert code == 2
    assert "--centered centers the optimizer that a model is compiled with" in err
    assert not (tmp_path / "out.keras").exists()


@pytest.mark.usefixtures("base")
def test_a_rate_beside_it_is_refused(run, tmp_path):
    code, _, err = run("rewrite", tmp_path / "base.keras", tmp_path / "out.keras", "--centered", "--momentum", "0.5")
    assert code == 2
    assert "--centered keeps learning rate and momentum too" in " ".join(err.split())


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize(("option", "line"), [("--centered", "centered: 3 of 3 merged"), ("--keep-optimizer", "")])
def test_inspect_says_it_beforehand(option, line, run, tmp_path):
    """The state that would be kept, what is centered, and that nothing is lost."""
    code, out, err = run("inspect", tmp_path / "base.keras", option, "--json")
    assert (code, err) == (0, "")
    state = json.loads(out)["optimizer_state"]
    assert state["not_carried"] == []
    assert state["after"]["optimizer"] == "Adam"
    assert (state["after"]["total"] > state["before"]["total"]) is bool(line)
    _, out, _ = run("inspect", tmp_path / "base.keras", option)
    assert line in out
    code, _, err = run("inspect", tmp_path / "base.keras", option, "--optimizer", "SOAP")
    assert code == 2
    assert "give one or the other" in err
