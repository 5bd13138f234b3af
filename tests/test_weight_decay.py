"""Weight decay under kept optimizers: what was excluded stays excluded, row by row."""

import numpy as np
import pytest
import tf_keras
from tf_keras import optimizers

import rewriter
from conftest import bits
from models import MODELS, fit


def excluding(model, names=None, variables=None, **settings):
    """An AdamW that decays fast, told what to leave out as its users do before training."""
    optimizer = optimizers.AdamW(0.01, weight_decay=0.5, **settings)
    optimizer.exclude_from_weight_decay(var_list=variables and variables(model), var_names=names)
    return optimizer


def pair(**excluded):
    models = []
    for _ in range(2):
        tf_keras.backend.clear_session()  # for the same layer names
        tf_keras.utils.set_random_seed(5)
        model = MODELS["whole_vectors"]()
        model.compile(excluding(model, **excluded), "mse", run_eagerly=True)
        models.append(model)
    return models


def standard_weights(model):
    with rewriter.standard_form(model):
        return [bits(weight.numpy()) for weight in model.weights]


@pytest.mark.parametrize(
    "excluded",
    [
        {"names": ["bias"]},
        {"names": ["bias:0$"]},
        {"names": ["kernel"]},
        {"names": ["dense_1/"]},
        {"variables": lambda model: [model.layers[0].bias, model.layers[1].kernel]},
        {"names": [], "variables": lambda model: [model.layers[0].kernel, model.layers[0].bias]},
    ],
    ids=["bias", "end of name", "kernel", "layer", "variables", "both of a layer"],
)
def test_exclusions_go_on(excluded):
    """Patterns and variables that were excluded leave out the same rows, there and back, bit for bit."""
    original, model = pair(**excluded)
    trained = "variables" in excluded  # told to a new optimizer and kept by one that has state: each half of the table
    if trained:
        fit(original)
        fit(model)
    rewriter.rewrite(model, optimizer="keep")
    for _ in range(2):
        fit(original)
        fit(model)
        assert standard_weights(model) == standard_weights(original)
    rewriter.split(model)
    assert type(model.optimizer) is optimizers.AdamW
    fit(original)
    fit(model)
    assert standard_weights(model) == standard_weights(original)


def test_exclusions_go_on_when_the_rest_is_merged():
    """An optimizer that leaves out rows is known for what it is, and keeps doing so."""
    original, model = pair(variables=lambda model: [model.layers[0].bias, model.layers[1].bias])
    rewriter.rewrite(model, optimizer="keep", include="dense")
    for each in (original, model):
        fit(each)
    rewriter.rewrite(model, optimizer="keep")
    for each in (original, model):
        fit(each)
    assert standard_weights(model) == standard_weights(original)


def test_exclusions_survive_a_failed_rewrite(monkeypatch):
    """After a rollback the same variables are excluded, by an optimizer of the same class."""
    original, model = pair(variables=lambda model: [model.layers[0].bias])
    monkeypatch.setattr("rewriter.slots.carry", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        rewriter.rewrite(model, optimizer="keep")
    assert type(model.optimizer) is optimizers.AdamW
    fit(original)
    fit(model)
    assert [bits(weight.numpy()) for weight in model.weights] == [bits(weight.numpy()) for weight in original.weights]


def test_joint_momentum_takes_exclusions_too():
    """Its kernel rows decay unless the kernel is excluded; what it excludes may be said before the rewrite."""
    _, model = pair()
    joint = rewriter.JointMomentum(0.5, 0.0, weight_decay=0.5)
    joint.exclude_from_weight_decay(var_list=[model.layers[0].kernel], var_names=["dense_2"])
    rewriter.rewrite(model, optimizer=joint)
    first, second, last = model.trainable_variables
    before = [variable.numpy() for variable in (first, second, last)]
    joint.apply_gradients([(variable * 0, variable) for variable in (first, second, last)])
    assert last.name == "dense_2/kernel:0"
    assert [bits(first.numpy()), bits(last.numpy())] == [bits(before[0]), bits(before[2])]
    assert bits(second.numpy()[-1]) == bits(before[1][-1])
    assert bits(second.numpy()[:-1]) == bits(before[1][:-1] * np.float32(0.75))
