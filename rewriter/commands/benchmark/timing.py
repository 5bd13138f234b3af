"""Times functions against each other, in turn, in one process, on a machine that may be busy.

What disturbs one round disturbs all that ran in it, so two functions are compared round by round.
"""

from __future__ import annotations

import gc
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rewriter.core import progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Functions = Mapping[str, Callable[[], Any]]

# How long a function runs in one round, in seconds, where the number of its calls is not given.
_ROUND = 0.1
_WARM_UP = 3


@dataclass(frozen=True)
class Ratio:
    """How long one function took, over how long another took.

    Attributes:
        of_medians: The median time of the one over that of the other.
        median: The median over the rounds of the ratio in each round.
        low: The lower quartile of those ratios.
        high: The upper quartile.
    """

    of_medians: float
    median: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """Return ``of_medians``, ``median``, ``low`` and ``high``."""
        return {"of_medians": self.of_medians, "median": self.median, "low": self.low, "high": self.high}

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Timings:
    """Seconds a call took, of each function, in each round."""

    seconds: dict[str, list[float]]

    def median(self, name: str) -> float:
        """Give the median over the rounds of a function's seconds a call."""
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, over: str) -> Ratio:
        """Compare two functions."""
        ratios = [one / other for one, other in zip(self.seconds[name], self.seconds[over], strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        return Ratio(self.median(name) / self.median(over), statistics.median(ratios), low, high)


def time_in_turn(functions: Functions, rounds: int = 15, calls: int | None = None, what: str = "measuring") -> Timings:
    """Time functions in turn, after some calls of each that are not timed, a whole period at least.

    Args:
        functions: What is timed, by name. Each call must return only when its work is done. Of one with a ``period``,
            as a training step has, a turn has that many calls, or a multiple: else the dear ones among them would be in
            some turns and not in others, and the median would not know of them.
        rounds: How often each has its turn. The order is reversed from round to round.
        calls: Calls in a turn, at least; ``None`` makes it as many as take about a tenth of a second, for each.
        what: What to call it while it is under way.
    """
    for function in functions.values():
        for _ in range(max(_WARM_UP, _period(function))):
            function()
    counts = {
        name: _whole_periods(calls or _calls_in_a_round(function), function) for name, function in functions.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    collects = gc.isenabled()
    gc.disable()
    try:
        for name in progress.each([*_turns(list(functions), rounds)], what):
            start = time.perf_counter()
            for _ in range(counts[name]):
                functions[name]()
            seconds[name].append((time.perf_counter() - start) / counts[name])
    finally:
        if collects:
            gc.enable()
    return Timings(seconds)


def _turns(names: list[str], rounds: int) -> Iterator[str]:
    for number in range(rounds):
        yield from names if number % 2 == 0 else reversed(names)


def _whole_periods(calls: int, function: Callable[[], Any]) -> int:
    return -(-calls // _period(function)) * _period(function)


def _period(function: Callable[[], Any]) -> int:
    period: int = getattr(function, "period", 1)
    return period


def _calls_in_a_round(function: Callable[[], Any]) -> int:
    start = time.perf_counter()
    function()
    return max(1, round(_ROUND / (time.perf_counter() - start)))
