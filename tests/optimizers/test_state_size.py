"""The bytes of optimizer state that `rewriter inspect` shows, against the slots of optimizers that did train."""

import json

import numpy as np
import pytest
import tf_keras
from tf_keras import layers, optimizers

import rewriter
from models import MODELS, fit
from rewriter.optimizers.optimizer_choice import choose_optimizer
from rewriter.optimizers.state.state_size import state_sizes


def mixed():
    policy = tf_keras.mixed_precision.Policy("mixed_bfloat16")
    return tf_keras.Sequential([layers.Dense(7, input_shape=(5,), dtype=policy), layers.Dense(3, dtype="float32")])


# Of centered joint momentum: a number for each unit, and for each input of a layer and one more.
JOINT = (7 + 7 + 7 + 3 + (5 + 1) + (7 + 1)) * 4


def slot_bytes(optimizer):
    """What a trained optimizer holds beside its counters."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    variables = inner.variables() if callable(inner.variables) else inner.variables
    return sum(np.asarray(variable).nbytes for variable in variables if np.asarray(variable).dtype != np.int64)


CASES = {
    "sgd": (MODELS["sequential"], lambda: optimizers.SGD(0.1, 0.9)),
    "adam": (MODELS["sequential"], lambda: optimizers.Adam(0.1, amsgrad=True)),
    "adafactor": (MODELS["nested"], optimizers.Adafactor),
    "legacy": (MODELS["nested"], optimizers.legacy.Adam),
    "loss scale": (mixed, lambda: tf_keras.mixed_precision.LossScaleOptimizer(optimizers.SGD(0.1, 0.9))),
    "moving average": (MODELS["functional"], lambda: optimizers.SGD(0.1, 0.9, use_ema=True)),
    "frozen": (MODELS["partly_frozen"], optimizers.RMSprop),
}


@pytest.mark.parametrize("name", CASES)
def test_counted_as_trained(name):
    """Before and after, in all: what the model's optimizer has once it has trained, and the rewritten model's."""
    build, optimizer = CASES[name]
    model = build()
    model.compile(optimizer(), "mse", run_eagerly=True)
    before, after = state_sizes(rewriter.plan(model), model)
    fit(model)
    assert before.total == slot_bytes(model.optimizer)
    assert before.optimizer == type(getattr(model.optimizer, "inner_optimizer", model.optimizer)).__name__
    rewriter.rewrite(model)
    fit(model)
    assert after.total == slot_bytes(model.optimizer)
    again = state_sizes(rewriter.plan(model), model)
    assert again[1] == after
    if name in {"sgd", "loss scale", "moving average"}:
        assert again[0] == before


def test_what_cannot_be_counted_is_unknown():
    """An optimizer of the user's own may not let itself be made again; a legacy SGD without momentum keeps nothing."""

    class Mine(optimizers.SGD):
        def __init__(self, *, needed):  # noqa: ARG002
            super().__init__()

    model = MODELS["sequential"]()
    model.compile(Mine(needed=1), "mse")
    before, after = state_sizes(rewriter.plan(model), model)
    assert (str(before), before.layers) == ("unknown under Mine", {})
    assert after.total == JOINT
    model.compile(optimizers.legacy.SGD(0.1), "mse")
    assert str(state_sizes(rewriter.plan(model), model)[0]) == "0 bytes under SGD"


def test_counted_by_layer():
    """Units numbers for a merged layer, and nothing for one that is frozen."""
    model = MODELS["partly_frozen"]()
    model.compile(optimizers.SGD(0.1, 0.9), "mse")
    plan = rewriter.plan(model)
    before, after = state_sizes(plan, model)
    last = plan.decisions[-1].path
    norm = {"batch_normalization": 2 * 7 * 4}
    assert before.layers == {last: (7 * 3 + 3) * 4, **norm}
    assert after.layers == {last: (3 + 7 + 1) * 4, **norm}
    assert (before.total, after.total) == (sum(before.layers.values()), sum(after.layers.values()))


def test_a_model_that_is_not_compiled_has_none():
    """Before there is no state; after, that of the optimizer which is ready for compile."""
    model = MODELS["sequential"]()
    before, after = state_sizes(rewriter.plan(model), model)
    assert (before.optimizer, before.layers, before.total) == (None, {}, 0)
    assert after.total == JOINT
    assert model.optimizer is None


def test_of_a_rewritten_model_it_is_what_it_has():
    """And not what another rewrite would give it; exported, what its standard form has."""
    model = MODELS["sequential"]()
    model.compile("adam", "mse")
    rewriter.rewrite(model, "keep")
    exported, now = state_sizes(rewriter.plan(model), model)
    assert (exported.optimizer, now.optimizer) == ("Adam", "Adam")
    assert exported.total == now.total > 0


def test_inspect_says_what_is_left_behind(run, tmp_path):
    """A smaller state is no gain for one who trained the larger for a week; of an SGD nothing is left."""
    for optimizer, left in {
        "adam": ["state of Adam: lost, 12 slots and 3 iterations; --keep-optimizer or --centered keeps it"],
        "sgd": [],
    }.items():
        model = MODELS["sequential"]()
        model.compile(optimizer, "mse")
        fit(model)
        model.save(tmp_path / f"{optimizer}.keras")
        _, out, _ = run("inspect", tmp_path / f"{optimizer}.keras")
        assert out.splitlines()[-1 - len(left) :][1:] == left
        _, out, _ = run("inspect", tmp_path / f"{optimizer}.keras", "--json")
        assert json.loads(out)["optimizer_state"]["not_carried"] == left


@pytest.mark.parametrize("rule", ["SOAP", "KFAC", "Muon", "QuasiDiagonal"])
def test_of_a_rule_it_is_counted_before_it_is_given(rule):
    """What Muon keeps depends on which layers give the outputs: found in the model as it is, and written into files."""
    model = MODELS["functional"]()
    model.compile("adam", "mse")
    _, after = state_sizes(rewriter.plan(model), model, choose_optimizer(model, rule))
    rewriter.rewrite(model, rule)
    _, again = state_sizes(rewriter.plan(model), model)
    fit(model)
    kept = [each for each in model.optimizer.variables if each.dtype.is_floating and each.shape.rank > 0]
    assert after.total == again.total
    assert 0 <= after.total - sum(each.numpy().nbytes for each in kept) <= 4 * 8 * len(model.trainable_variables)


def test_muon_in_loops_is_counted_before_it_is_given():
    model = tf_keras.Sequential(
        [layers.GRU(4, input_shape=(3, 2), return_sequences=True), layers.LSTM(5), layers.Dense(1)]
    )
    model.compile("adam", "mse")
    sizes = []
    for _ in range(2):
        choice = None if sizes else choose_optimizer(model, "Muon")
        sizes.append(state_sizes(rewriter.plan(model, layers="all"), model, choice)[1])
        rewriter.rewrite(model, "Muon", layers="all")
    assert sizes[0] == sizes[1]
    assert sizes[0].layers["dense"] >= 2 * 6 * 4  # both moments of Adam
