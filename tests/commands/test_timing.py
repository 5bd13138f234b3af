"""Timing in turn, with a clock that says what it is told."""

import itertools
from typing import ClassVar

import pytest
import tf_keras

import rewriter
from rewriter.commands.benchmark.timing import Timings, time_in_turn
from rewriter.commands.benchmark.training_steps import TrainingStep, training_step
from rewriter.commands.data_batches import batch_for


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the timed functions move."""
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    return now


def test_ratios_are_of_what_ran_in_one_round():
    timings = Timings({"slow": [2.0, 30.0, 6.0], "fast": [1.0, 10.0, 4.0]})
    ratio = timings.ratio("slow", "fast")
    assert (ratio.of_medians, ratio.median, ratio.low, ratio.high) == (6.0 / 4.0, 2.0, 1.5, 3.0)
    assert str(ratio) == "2.00 (1.50 to 3.00)"


def test_one_round_has_no_spread():
    ratio = Timings({"one": [3.0], "other": [2.0]}).ratio("one", "other")
    assert (ratio.median, ratio.low, ratio.high) == (1.5, 1.5, 1.5)


def test_functions_take_turns_and_the_order_is_reversed(clock):
    calls = []

    def function(name, seconds):
        def run():
            calls.append(name)
            clock[0] += seconds

        return run

    timings = time_in_turn({"a": function("a", 1), "b": function("b", 2)}, rounds=3, calls=2)
    # Three calls each before: the first one traces, and in few rounds it would be most of what is measured.
    assert "".join(calls) == "aaabbb" + "aabbbbaaaabb"
    assert timings.seconds == {"a": [1.0] * 3, "b": [2.0] * 3}


def test_short_functions_are_called_more_often(clock):
    counts = {"short": itertools.count(), "long": itertools.count()}

    def function(name, seconds):
        def run():
            next(counts[name])
            clock[0] += seconds

        return run

    timings = time_in_turn({"short": function("short", 1 / 64), "long": function("long", 1)}, rounds=2)
    # Warmed up by three calls and measured by one, then about a tenth of a second in each round, one call at least.
    assert (next(counts["short"]), next(counts["long"])) == (4 + 2 * 6, 4 + 2)
    assert timings.median("short") == 1 / 64


@pytest.mark.parametrize("calls", [None, 2])
def test_what_a_step_does_now_and_then_is_in_its_cost(clock, calls):
    """Of four steps one takes ten times as long: each turn has it, and the median is of what they cost together.

    The first four are no turn.
    """
    counted = itertools.count()

    def step():
        count = next(counted)
        clock[0] += 10 if count % 4 == 0 else 100 if count < 4 else 1

    timings = time_in_turn({"step": TrainingStep(step, period=4)}, rounds=3, calls=calls)
    assert timings.seconds == {"step": [13 / 4] * 3}


def test_the_period_of_an_optimizer_is_that_of_all_it_does_now_and_then():
    class Measuring(rewriter.JointOptimizer):
        statistics: ClassVar = {"input_mean": 0.9, "input_moment": rewriter.RunningMean(0.9, every=6)}

        def update_layer(self, gradient, variable, layout):
            del gradient, variable, layout

    model = tf_keras.Sequential([tf_keras.layers.Dense(3, input_shape=(2,))])
    rewriter.rewrite(model)
    batch = batch_for(model, 4)
    periods = {
        (rewriter.JointMomentum, ()): 1,
        (Measuring, ()): 6,
        (rewriter.SOAP, (("every", 7),)): 7,
        (rewriter.KFAC, (("every", 6), ("factors_every", 4))): 12,
        (rewriter.QuasiDiagonal, (("every", 5),)): 5,
        (tf_keras.optimizers.Adam, ()): 1,
    }
    for (make, settings), period in periods.items():
        assert training_step(model, make(**dict(settings)), batch).period == period
    # Centered, Adam has a scale of its bias steps that is made anew every 32 steps, and SOAP has not.
    centered = rewriter.Centered(tf_keras.optimizers.Adam())
    assert training_step(model, tf_keras.mixed_precision.LossScaleOptimizer(centered), batch).period == 32
    assert training_step(model, rewriter.Centered(rewriter.SOAP(every=7)), batch).period == 7
