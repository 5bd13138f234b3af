"""What becomes of the optimizer is said line by line, and what is lost as a warning."""

import warnings

import keras
import pytest
import tf_keras
from tf_keras import optimizers

import rewriter
from models import MODELS, fit, trained_pair
from rewriter.optimizers.optimizer_choice import choose_standard_optimizer


def test_what_becomes_of_the_optimizer_is_said_line_by_line(caplog):
    """Carried, converted, reset: one line each, in the log of every rewrite."""
    caplog.set_level("INFO", "rewriter")

    def lines(compiled, **arguments):
        _, model = trained_pair(MODELS["sequential"], compiled)
        caplog.clear()
        rewriter.rewrite(model, **arguments)
        return [each for each in caplog.messages[1:] if not each.startswith("variable names")]

    assert lines(lambda: optimizers.SGD(0.05, momentum=0.75, nesterov=True, weight_decay=0.1)) == [
        "optimizer: SGD converted to centered JointMomentum",
        "learning_rate: 0.05 kept",
        "momentum: 0.75 kept",
        "nesterov: True kept",
        "weight_decay: 0.1 kept, from now on on kernel rows only",
        "velocity: 6 slots converted, divided by the learning rate, to their mean per unit where merged",
        "iterations: 3 kept",
        "centered: 2 of 2 merged",
    ]
    assert lines(lambda: optimizers.Adam(0.01, clipnorm=2.0), optimizer="keep") == [
        "optimizer: Adam kept",
        "slots: 12 kept",
        "iterations: 3 kept",
        "clipnorm: 2 kept; it bounds a merged kernel and bias as one",
    ]
    schedule = optimizers.schedules.CosineDecay(0.01, 100)
    assert lines(lambda: optimizers.AdamW(schedule, weight_decay=0.125, clipnorm=2.0)) == [
        "optimizer: centered JointMomentum, new, learning rate 0.01, momentum 0.9",
        "settings of AdamW: lost, CosineDecay, weight_decay 0.125, clipnorm 2; give them to JointMomentum",
        "state of AdamW: lost, 12 slots and 3 iterations; optimizer='keep' or optimizer='centered' keeps it",
        "centered: 2 of 2 merged",
    ]
    assert lines(lambda: optimizers.Adam(1e-5))[0] == (
        "optimizer: centered JointMomentum, new, learning rate 0.01, momentum 0.9; "
        "that of Adam, 1e-05, is not taken over"
    )
    scaled = lambda: tf_keras.mixed_precision.LossScaleOptimizer(optimizers.legacy.Adam(0.01))  # noqa: E731
    assert lines(scaled) == [
        "optimizer: centered JointMomentum, new, learning rate 0.01, momentum 0.9",
        "state of legacy Adam: lost, 12 slots and 3 iterations; optimizer='keep' keeps it",
        "loss scale: 32768 kept",
        "centered: 2 of 2 merged",
    ]


def test_export_and_split_say_what_becomes_of_the_optimizer(caplog, tmp_path):
    """Under joint momentum a plain SGD without velocity; under a kept optimizer that one with its slots."""
    caplog.set_level("INFO", "rewriter")
    reset = [
        "optimizer: centered JointMomentum replaced by SGD of the same learning rate and momentum",
        "velocity: reset, SGD starts without",
        "iterations: 3 kept",
    ]
    kept = ["optimizer: Adam kept", "slots: 12 kept", "iterations: 3 kept"]
    for compiled, choice, expected in ((lambda: optimizers.SGD(0.05), None, reset), (optimizers.Adam, "keep", kept)):
        _, model = trained_pair(MODELS["sequential"], compiled)
        rewriter.rewrite(model, optimizer=choice)
        caplog.clear()
        rewriter.export(model, tmp_path / "model.keras", overwrite=True)
        assert caplog.messages == expected
        caplog.clear()
        rewriter.split(model)
        assert caplog.messages == expected


def test_a_model_without_weights_has_no_slots():
    """To split it, or to say what an export would do, asks none of it."""
    model = tf_keras.Sequential([tf_keras.layers.Dense(2)])
    model.compile("adam", "mse")
    rewriter.split(model)
    assert tuple(map(str, choose_standard_optimizer(model).lines)) == (
        "optimizer: Adam kept",
        "slots: 0 kept",
        "iterations: 0 kept",
    )


def test_a_state_that_is_not_carried_is_a_warning(caplog):
    """A week of Adam is not lost with a line that nobody sees; all else is information."""
    _, model = trained_pair(MODELS["nested"])
    with caplog.at_level("INFO", "rewriter"), pytest.warns(UserWarning, match="lost") as warned:
        rewriter.rewrite(model)
    lost = "state of Adam: lost, 12 slots and 3 iterations; optimizer='keep' or optimizer='centered' keeps it"
    assert [str(each.message) for each in warned] == [f"{model.name}: {lost}."]
    assert lost in caplog.messages
    assert {record.levelname for record in caplog.records} == {"INFO"}  # said once
    caplog.clear()
    model = MODELS["sequential"]()
    model.compile("adam", "mse")
    with caplog.at_level("INFO", "rewriter"):
        rewriter.rewrite(model)
    assert len(caplog.records) > 1
    assert not [line for line in caplog.messages if "lost" in line]  # there is none yet


def test_a_rule_by_name_says_its_rate_and_that_the_other_is_gone(caplog):
    """It is one that was chosen for the rule, and the user may have chosen one for Adam with care."""
    caplog.set_level("INFO", "rewriter")
    _, model = trained_pair(MODELS["sequential"], lambda: optimizers.Adam(0.02))
    rewriter.rewrite(model, "SOAP")
    said = "optimizer: SOAP, new, learning rate 0.003; that of Adam, 0.02, is not taken over"
    assert said in caplog.messages


@pytest.mark.parametrize(("word", "name"), [("soap", "SOAP"), ("KEEP", "SGD"), ("jointmomentum", "JointMomentum")])
def test_a_word_may_be_in_upper_or_lower_case(word, name):
    model = MODELS["sequential"]()
    model.compile(optimizers.SGD(0.5), "mse")
    assert type(rewriter.rewrite(model, word).optimizer).__name__ == name


def test_what_is_centered_afterwards_is_said(caplog):
    """What is centered already stays as it is."""
    caplog.set_level("INFO", "rewriter")
    expected = {
        optimizers.Adam: "Adam kept, in centered coordinates",
        optimizers.SGD: "SGD kept, in centered coordinates",
        rewriter.JointMomentum: "JointMomentum kept, in centered coordinates",
    }
    for optimizer, said in expected.items():
        model = MODELS["sequential"]()
        model.compile("sgd" if optimizer is rewriter.JointMomentum else optimizer(), "mse")
        if optimizer is rewriter.JointMomentum:
            rewriter.rewrite(model, "JointMomentum")
        rewriter.rewrite(model, "centered")
        assert f"optimizer: {said}" in caplog.messages
    rewriter.rewrite(model, "centered")
    assert "optimizer: centered JointMomentum kept" in caplog.messages


@pytest.mark.parametrize("given", ["adam", optimizers.Adam, keras.optimizers.Adam()], ids=["name", "class", "Keras 3"])
def test_what_cannot_be_centered_says_what_to_give(given):
    with pytest.raises(
        rewriter.OptimizerError,
        match=r"takes a current optimizer of tf_keras, got .*([Mm]ake one|for rewriter\.keras3\.Centered)",
    ):
        rewriter.Centered(given)


@pytest.mark.parametrize("trains_already", [False, True])
def test_centered_without_merged_layers_says_that_it_centers_nothing(trains_already):
    """It would be the plain optimizer, in silence."""
    model = MODELS["sequential"]()
    model.compile(optimizers.Adam() if trains_already else rewriter.Centered(optimizers.Adam()), "mse")
    if trains_already:
        fit(model)
        rewriter.Centered(model.optimizer)
    with pytest.warns(UserWarning, match="none of them is an augmented kernel, so it centers nothing"):
        fit(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(model)
