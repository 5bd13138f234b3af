"""Timing in turn, with a clock that says what it is told."""

import itertools

import pytest

from rewriter.commands.benchmark.timing import Timings, time_in_turn


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
    assert "".join(calls) == "aabbbbaaaabb"
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
