"""Optimizer state that cannot be carried is said before anything changes: refused, or warned of with what keeps it."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers, optimizers

import rewriter
from arrays import bits
from model_state import state
from models import batch


@tf_keras.saving.register_keras_serializable("tests")
class Accumulating(optimizers.SGD):
    """Sums gradients over two steps; made once, as tutorials have it."""

    def build(self, var_list):
        super().build(var_list)
        if not hasattr(self, "sums"):
            self.sums = [self.add_variable_from_reference(each, "sum") for each in var_list]

    def update_step(self, gradient, variable):
        total = self.sums[self._index_dict[self._var_key(variable)]]
        total.assign_add(gradient)
        due = tf.cast(self.iterations % 2 == 1, variable.dtype)
        variable.assign_sub(due * 0.03 * total)
        total.assign((1 - due) * total)


class Lazily(optimizers.SGD):
    """Makes its state at the first step, and is not asked to build it."""

    def apply_gradients(self, grads_and_vars, **kwargs):
        pairs = list(grads_and_vars)
        if not hasattr(self, "seen"):
            self.seen = [tf.Variable(tf.zeros_like(variable)) for _, variable in pairs]
        return super().apply_gradients(pairs, **kwargs)


class InADict(optimizers.SGD):
    """Keeps its state by name."""

    def build(self, var_list):
        super().build(var_list)
        self.by_name = {each.name: tf.Variable(tf.zeros_like(each)) for each in var_list}


class Wrapper(optimizers.Optimizer):
    """Trains by another optimizer, as Lookahead and its kin do."""

    def __init__(self, inner, attribute="inner"):
        super().__init__(name="Wrapper")
        self._learning_rate = self._build_learning_rate(0.03)
        self.attribute = attribute
        setattr(self, attribute, inner)

    def build(self, var_list):
        super().build(var_list)
        self.wrapped.build(var_list)
        self._built = True

    @property
    def wrapped(self):
        return getattr(self, self.attribute)

    def update_step(self, gradient, variable):
        self.wrapped.update_step(gradient, variable)

    def get_config(self):
        return {}


NOT_KEPT = {
    "a guarded build": (lambda: Accumulating(0.03, momentum=0.87), "its build makes no new sums"),
    "at the first step": (lambda: Lazily(0.03), "its build makes no new seen"),
    "in a dict": (lambda: InADict(0.03, momentum=0.87), "by_name holds state for single weights"),
    "a wrapper": (lambda: Wrapper(optimizers.Adam(0.03)), "inner holds state for single weights"),
    "a wrapper like a loss scale": (
        lambda: Wrapper(optimizers.Adam(0.03), "inner_optimizer"),
        "inner_optimizer holds state for single weights",
    ),
}


def build(optimizer):
    tf_keras.utils.set_random_seed(5)
    model = tf_keras.Sequential([layers.Dense(4, "tanh", input_shape=(5,), name="a"), layers.Dense(3, name="b")])
    model.compile(optimizer, "mse", run_eagerly=True)
    return model


def train(model, steps=3):
    x, y = batch()
    for _ in range(steps):
        model.train_on_batch(x, y)
    return [bits(weight) for weight in model.get_weights()]


@pytest.mark.parametrize("kind", NOT_KEPT)
def test_a_state_that_cannot_be_carried_is_refused(kind):
    """By rewrite, with its name; the model and the optimizer go on as if nobody had asked."""
    make, said = NOT_KEPT[kind]
    original, model = build(make()), build(make())
    train(original)
    train(model)
    before = state(model)
    with pytest.raises(rewriter.OptimizerError, match=said):
        rewriter.rewrite(model, optimizer=model.optimizer)
    assert state(model) == before
    assert train(model) == train(original)


def test_a_split_refuses_what_it_cannot_carry():
    """What was built on the rewritten model is as little carried back."""
    model = build("sgd")
    rewriter.rewrite(model, optimizer=Accumulating(0.03))
    train(model)
    with pytest.raises(rewriter.OptimizerError, match="its build makes no new sums"):
        rewriter.split(model)
    assert len(model.get_weights()) == 2
    train(model)


def test_what_has_no_state_yet_is_taken():
    """Such an optimizer that was not built is built for the merged weights, at the first step."""
    for make, _ in NOT_KEPT.values():
        model = build(make())
        rewriter.rewrite(model, optimizer=model.optimizer)
        train(model)


@pytest.mark.filterwarnings("ignore:.*lost, sums")
def test_a_subclass_of_sgd_says_what_joint_momentum_does_not_start_from():
    """And counts the velocities alone."""
    model = build(Accumulating(0.03, momentum=0.87))
    train(model)
    plan = rewriter.rewrite(model)
    assert isinstance(plan.optimizer, rewriter.JointMomentum)


@pytest.mark.parametrize("optimizer", ["adam", "custom", "sgd", "untrained", "keep", "given", "SOAP"])
def test_what_is_lost_is_warned_of(optimizer):
    """Before it is lost, and with what keeps it; not where nothing is lost."""
    make = {"custom": lambda: Lazily(0.03), "sgd": lambda: optimizers.SGD(0.03, momentum=0.87)}
    model = build(make.get(optimizer, lambda: optimizers.Adam(0.03))())
    if optimizer != "untrained":
        train(model)
    if optimizer == "adam":
        with pytest.warns(
            UserWarning, match="state of Adam: lost, 8 slots and 3 .*optimizer='keep' or optimizer='centered' keeps it"
        ):
            rewriter.rewrite(model)
    elif optimizer == "custom":
        with pytest.warns(UserWarning, match="state of Lazily: lost, seen"):
            rewriter.rewrite(model)
    elif optimizer in ("given", "SOAP"):
        with pytest.warns(UserWarning, match="state of Adam: lost, 8 slots and 3 iterations"):
            rewriter.rewrite(model, optimizers.SGD(0.03) if optimizer == "given" else optimizer)
    else:
        rewriter.rewrite(model, optimizer="keep" if optimizer == "keep" else None)  # a warning would be an error


def test_the_command_says_what_will_be_lost_before_it_writes(run, tmp_path, monkeypatch):
    """With the option that keeps it; where that is given, or nothing is lost, nothing is said."""
    model = build(optimizers.Adam(0.03))
    train(model)
    model.save(tmp_path / "adam.keras")
    monkeypatch.setattr("rewriter.commands.rewrite.save_model", lambda *_, **__: 1 / 0)
    code, _, err = run("rewrite", tmp_path / "adam.keras", tmp_path / "joint.keras")
    assert code != 0
    assert "warning: state of Adam: lost, 8 slots and 3 iterations; --keep-optimizer or --centered keeps it" in err
    monkeypatch.undo()
    assert not (tmp_path / "joint.keras").exists()


@pytest.mark.parametrize("options", [["--keep-optimizer"], []])
def test_the_command_warns_of_nothing_where_nothing_is_lost(run, tmp_path, options):
    """An optimizer that is kept, and an SGD that goes on as joint momentum."""
    model = build(optimizers.Adam(0.03) if options else optimizers.SGD(0.03, momentum=0.87))
    train(model)
    model.save(tmp_path / "base.keras")
    code, out, err = run("rewrite", tmp_path / "base.keras", tmp_path / "joint.keras", *options)
    assert (code, "warning" in err) == (0, False)
    assert "written: " in out
    assert np.isfinite(rewriter.load_model(tmp_path / "joint.keras").get_weights()[0]).all()


def test_the_state_of_another_form_is_not_taken_for_that_of_this_one(tmp_path):
    """Of two layers a plain Adam has as many variables as a centered one. The weights are loaded all the same."""
    plain, model = (tf_keras.Sequential([layers.Dense(4, input_shape=(5,)), layers.Dense(3)]) for _ in range(2))
    for each in (plain, model):
        each.compile("adam", "mse")
        each.train_on_batch(*batch())
    plain.save_weights(tmp_path / "plain.weights.h5")
    rewriter.rewrite(model, "centered")
    with pytest.warns(UserWarning, match=r"is not loaded into this Adam.*inside rewriter\.standard_form"):
        tf_keras.Model.load_weights(model, tmp_path / "plain.weights.h5")  # past this library's own
    with rewriter.standard_form(model):
        assert [bits(each) for each in model.get_weights()] == [bits(each) for each in plain.get_weights()]
