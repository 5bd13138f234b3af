"""Pictures show the numbers they claim to, with titles and axes, and are refused before anything takes time."""

import re

import matplotlib as mpl
import numpy as np
import pytest
import tf_keras
from tf_keras import layers

import rewriter
from family_models import recurrent
from hand_made_models import hand_made
from models import MODELS, fit
from rewriter.commands.plots import difference_plot, kernel_plot
from rewriter.rewriting.verification import paired_weights


@pytest.fixture(autouse=True)
def _words():
    """Letters in an SVG stay letters, which a test can read."""
    with mpl.rc_context({"svg.fonttype": "none"}):
        yield


def words(path):
    return re.findall(r">([^<>]+)</text>", path.read_text("utf-8"))


def test_each_kernel_is_drawn_with_its_bias_apart(tmp_path):
    """By name, class and shape, with axes and units; of a model that is merged, and of one that is not yet."""
    model = MODELS["nested"]()
    plan = rewriter.plan(model)
    kernel_plot.draw(plan, tmp_path / "before.svg")
    before = words(tmp_path / "before.svg")
    rewriter.rewrite(model)
    kernel_plot.draw(rewriter.plan(model), tmp_path / "after.svg")
    assert words(tmp_path / "after.svg") == before
    for text in ("inner/first  (Dense, W* 6x6)", "last  (Dense, W* 5x3)", "norm of a unit's column", "weight"):
        assert text in before
    for text in ("bias", "unit", "units", "incoming connection"):
        assert before.count(text) == 3


@pytest.mark.parametrize("builder", [recurrent, hand_made])
def test_what_is_drawn_is_the_augmented_kernel(builder, tmp_path):
    """What would be stacked is what is stacked; a layer with several has a panel for each."""
    model = builder()
    plan = rewriter.plan(model, layers="all", discover=True)
    stacked = [kernel_plot.augmented(decision) for decision in plan.merges]
    rewriter.rewrite(model, layers="all", discover=True)
    merged = rewriter.plan(model)
    assert len(stacked) == len(merged.merged)
    for one, other in zip(stacked, merged.merged, strict=True):
        assert np.array_equal(one, kernel_plot.augmented(other))
    kernel_plot.draw(merged, tmp_path / "kernels.png")
    assert (tmp_path / "kernels.png").stat().st_size > 10_000


def test_gates_and_kernels_are_marked(tmp_path):
    """Of a recurrent cell: whose units stand side by side, and whose rows below each other."""
    model = tf_keras.Sequential([layers.LSTM(4, input_shape=(3, 2), return_sequences=True), layers.GRU(3)])
    kernel_plot.draw(rewriter.plan(model, layers="recurrent"), tmp_path / "cells.svg")
    drawn = words(tmp_path / "cells.svg")
    for text in ("input", "forget", "cell", "output", "update", "reset", "new", "(up to 1)"):
        assert drawn.count(text) == 1
    assert drawn.count("recurrent_kernel | kernel") == 2


@pytest.mark.slow
def test_many_and_none(tmp_path):
    """Of very many the first are drawn, and the title says so; of none there is a picture that says that."""
    many = tf_keras.Sequential([layers.Dense(2, input_shape=(2,)) for _ in range(30)])
    kernel_plot.draw(rewriter.plan(many), tmp_path / "many.svg")
    assert "30 augmented kernels W* = [W; b], the first 24 of them" in words(tmp_path / "many.svg")[-1]
    none = tf_keras.Sequential([layers.Dense(2, use_bias=False, input_shape=(2,))])
    kernel_plot.draw(rewriter.plan(none), tmp_path / "none.svg")
    assert words(tmp_path / "none.svg") == [f"{none.name}: 0 augmented kernels W* = [W; b]: nothing to draw"]


def test_differences_are_drawn(tmp_path):
    """What is the same says so; what differs has its number; the weights that differ most are maps."""
    model = MODELS["nested"]()
    other = tf_keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    path = tmp_path / "differences.svg"

    def drawn():
        difference_plot.draw(rewriter.verify(model, other), paired_weights(model, other), ("a", "b"), path)
        return words(path)

    same = drawn()
    assert same == ["a and b: the same in 6 weights bit for bit, 4 outputs compared"]
    last = other.get_layer("last")
    last.kernel.assign_add(np.eye(4, 3, dtype="float32") / 4)
    different = drawn()
    assert "last  kernel" in different
    assert " 0.25" in different
    assert different.count("the same bit for bit") == 7
    assert "absolute difference" in different
    other.set_weights([weight + 1 for weight in model.get_weights()])
    assert drawn().count("last axis") == 3
    assert (
        path.read_text("utf-8").count('id="axes_') == 1 + 2 * 3
    )  # bars, maps and their scales; the fourth place is empty
    last.kernel.assign(np.full((4, 3), np.nan))
    assert "not comparable: shape or dtype" in drawn()
    other = tf_keras.Sequential([layers.Dense(4, input_shape=(5,))])
    assert "4 layers in one model only" in drawn()


def test_what_was_not_compared_is_not_said_to_be_the_same(tmp_path):
    """Of models that cannot be run weights alone are compared, in JSON too."""
    layered = [layers.InputLayer((None, 3)), layers.Conv1D(4, 40), layers.Dense(2)]
    report = rewriter.verify(tf_keras.Sequential(layered), tf_keras.Sequential(layered))
    assert (report.same, report.weights, report.outputs) == (True, 4, 0)
    assert (report.to_dict()["weights"], report.to_dict()["outputs"]) == (4, 0)
    difference_plot.draw(report, ({}, {}), ("a", "b"), tmp_path / "same.svg")
    assert words(tmp_path / "same.svg") == ["a and b: the same in 4 weights bit for bit, 0 outputs compared"]


def test_on_the_command_line(run, tmp_path):
    """--plot writes the picture beside what is printed; a bad ending is refused before the model is read."""
    base, other = tmp_path / "base.keras", tmp_path / "other.keras"
    model = MODELS["nested"]()
    model.compile("sgd", "mse")
    model.save(base)
    fit(model)
    model.save(other)
    assert run("inspect", base, "--plot", tmp_path / "kernels.pdf")[0] == 0
    assert (tmp_path / "kernels.pdf").read_bytes().startswith(b"%PDF")
    assert run("verify", base, other, "--plot", tmp_path / "differences.png")[0] == 1
    assert (tmp_path / "differences.png").read_bytes().startswith(b"\x89PNG")
    for command in (("inspect", tmp_path / "missing"), ("verify", tmp_path / "missing", base)):
        code, _, err = run(*command, "--plot", tmp_path / "picture.txt")
        assert code == 2
        assert "picture.txt has no ending of a picture; give one of" in err
