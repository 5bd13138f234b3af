"""What is in it for a user: every optimizer of ``contestants`` on every task of ``tasks``, plain and centered.

``python samples/evidence/run.py [MINUTES] [NAME ...]`` goes on where it stopped, with the tasks and optimizers named.
Each run is a line of ``runs.jsonl``. The rates of all are chosen alike, on seeds and on a split of their own: the best
by each of the two metrics, of a grid that grows until the best is not at its end, and is then made finer around it. Six
further seeds train on all of the training data at that rate; as long as one of them fails, the next lower rate is
taken. After how many epochs an optimizer is as low as the one beside it at the end is found by halves. ``report.py``
makes tables and pictures of the lines.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# The networks are small: a second thread would gain nothing, and the order of sums would hang on how many there are.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

from typing import TYPE_CHECKING, Any

from rich.console import Console

from contestants import CONTESTANTS
from tasks import TASKS
from training import Trainer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from contestants import Contestant
    from tasks import Task

FILE = Path(__file__).parent / "runs.jsonl"
CONFIRMING_SEEDS = range(200, 206)
TUNING_SEEDS, SEEDS, BUDGET_SEEDS = range(100, 102), range(10), range(3)
TWIN_TASKS, TWIN_SEEDS = ("digits", "digits, autoencoder, tanh", "cancer, not centered"), range(5)
_FAR = 1.5
_WIDEST = 12  # times that a grid may grow

Key = tuple[str, str, float, int, bool, float]


def read_lines() -> dict[Key, dict[str, Any]]:
    """Return the runs that there are, by what they are of."""
    lines = FILE.read_text().splitlines() if FILE.exists() else []
    return {key_of(line): line for line in map(json.loads, lines)}


def key_of(line: dict[str, Any]) -> Key:
    """Return what a run is of: task, optimizer, rate, seed, whether it is for tuning, and budget."""
    return line["task"], line["optimizer"], line["rate"], line["seed"], line["tuning"], line["budget"]


def score(line: dict[str, Any], task: Task, by: str) -> float:
    """Return what a run is chosen by, less being better; a run that ended in NaN is the worst."""
    value = math.inf if line[by] is None else line[by]
    return -value if by == "metric" and task.of_classes and math.isfinite(value) else value


def rate_at(place: int) -> float:
    """Return the rate at a place of the grid, whose steps are a factor of √2."""
    return float(2.0 ** (place / 2))


def best_place(done: dict[Key, dict[str, Any]], task: Task, contestant: Contestant, by: str) -> tuple[int, set[int]]:
    """Return the place of the best of the rates tried, and all places tried."""
    scores: dict[int, list[float]] = {}
    for line in done.values():
        if line["tuning"] and (line["task"], line["optimizer"]) == (task.name, contestant.name):
            scores.setdefault(round(2 * math.log2(line["rate"])), []).append(score(line, task, by))
    mean = {place: sum(each) / len(each) for place, each in scores.items()}
    return min(sorted(mean), key=lambda place: mean[place]), set(mean)


def has_failed(done: dict[Key, dict[str, Any]], key: Key) -> bool:
    """Tell whether a run ended in NaN, or far above the loss of the lowest rate: it did not train."""
    of_all = {
        other[2]: done[other]["loss"]
        for other in done
        if other[:2] == key[:2] and other[3:5] == (TUNING_SEEDS[0], True)
    }
    loss, slowest = done[key]["loss"], of_all[min(of_all)]
    return loss is None or (slowest is not None and loss > _FAR * slowest)


def chosen_rate(
    done: dict[Key, dict[str, Any]], task: Task, contestant: Contestant, by: str
) -> tuple[float, list[Key]]:
    """Return the rate that is chosen as far as is known, and the runs that are to confirm it and are not done."""
    place, _ = best_place(done, task, contestant, by)
    while True:
        keys = [(task.name, contestant.name, rate_at(place), seed, False, 1.0) for seed in CONFIRMING_SEEDS]
        if not any(has_failed(done, key) for key in keys if key in done):
            return rate_at(place), [key for key in keys if key not in done]
        place -= 1


def wanted(done: dict[Key, dict[str, Any]], task: Task, contestant: Contestant) -> Iterator[Key]:
    """Yield the runs that a task and an optimizer need, each when those before are done."""

    def tried(places: Iterable[int]) -> Iterator[Key]:
        for place in places:
            yield from ((task.name, contestant.name, rate_at(place), seed, True, 1.0) for seed in TUNING_SEEDS)

    yield from tried(2 * power for power in contestant.powers)
    for by in ("loss", "metric"):
        for _ in range(_WIDEST):
            best, known = best_place(done, task, contestant, by)
            # First by factors of two until both neighbours are known, then by the two places between.
            missing = {best - 2, best + 2} - known if best % 2 == 0 else set()
            missing = missing or {best - 1, best + 1} - known
            if not missing:
                break
            yield from tried(sorted(missing))
    for by in ("loss", "metric"):
        while unconfirmed := chosen_rate(done, task, contestant, by)[1]:
            yield unconfirmed[0]
        rate, _ = chosen_rate(done, task, contestant, by)
        yield from ((task.name, contestant.name, rate, seed, False, 1.0) for seed in seeds_of(contestant))
    if contestant.is_twin or contestant.name == contestant.plain:
        return
    rate, _ = chosen_rate(done, task, contestant, "loss")
    while (epochs := epochs_to_aim(done, task, contestant)[1]) is not None:
        yield from ((task.name, contestant.name, rate, seed, False, epochs / task.epochs) for seed in BUDGET_SEEDS)


def epochs_to_aim(done: dict[Key, dict[str, Any]], task: Task, contestant: Contestant) -> tuple[int | None, int | None]:
    """Return the fewest epochs after which the training loss is that of the plain optimizer at its end, or less.

    A run of fewer epochs has a schedule of its own. They are halved, and the half in which the fewest are halved again.

    Returns:
        The fewest of those tried, ``None`` if none suffices; and how many to try next, ``None`` if that is not needed.
    """

    def loss(of: Contestant, share: float) -> float:
        rate, _ = chosen_rate(done, task, of, "loss")
        losses = [done[task.name, of.name, rate, seed, False, share]["loss"] for seed in BUDGET_SEEDS]
        return math.inf if None in losses else statistics.mean(losses)

    aim, rate = loss(CONTESTANTS[contestant.plain], 1.0), chosen_rate(done, task, contestant, "loss")[0]
    tried = {key[5] for key in done if key[:5] == (task.name, contestant.name, rate, BUDGET_SEEDS[-1], False)}
    suffices = {round(share * task.epochs): loss(contestant, share) <= aim for share in tried}
    fewest = min((epochs for epochs, enough in suffices.items() if enough), default=None)
    if fewest is None:
        return None, None
    below = max((epochs for epochs in suffices if epochs < fewest), default=0)
    return fewest, (below + fewest) // 2 if fewest - below > 1 else None


def seeds_of(contestant: Contestant) -> range:
    """Return the seeds that an optimizer is reported for."""
    return TWIN_SEEDS if contestant.is_twin else SEEDS


def is_on(task: Task, contestant: Contestant) -> bool:
    """Tell whether an optimizer is tried on a task."""
    return not contestant.is_twin or task.name in TWIN_TASKS


def _short(number: float) -> float | None:
    return float(f"{number:.5g}") if math.isfinite(number) else None


def main(minutes: float, names: list[str]) -> None:
    """Do the runs that are not done, for some minutes."""
    stop, done = time.monotonic() + 60 * minutes, read_lines()
    console = Console(stderr=True)
    tasks = [task for name, task in TASKS.items() if name in names] or [*TASKS.values()]
    named = [each for name, each in CONTESTANTS.items() if name in names] or [*CONTESTANTS.values()]
    beside = {each.plain for each in named} | {each.name for each in named}
    contestants = [each for name, each in CONTESTANTS.items() if name in beside]
    for task in tasks:
        for contestant in (each for each in contestants if is_on(task, each)):
            trainer = None
            for key in wanted(done, task, contestant):
                if key in done:
                    continue
                if time.monotonic() > stop:
                    console.print("stopped; run it again to go on")
                    return
                trainer = trainer or Trainer(task, contestant)
                _, _, rate, seed, tuning, budget = key
                results = trainer.run(rate, seed, tuning, budget)
                measured = {name: _short(each) for name, each in results.items()}
                names_of_key = ("task", "optimizer", "rate", "seed", "tuning", "budget")
                done[key] = dict(zip(names_of_key, key, strict=True)) | measured
                with FILE.open("a") as file:
                    file.write(json.dumps(done[key]) + "\n")
            console.print(f"{task.name}: {contestant.name} done")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("minutes", type=float, nargs="?", default=math.inf, help="when to stop; if not given, never")
    parser.add_argument("names", nargs="*", metavar="name", help="a task or an optimizer; all, if none is named")
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in {*TASKS, *CONTESTANTS}]:
        parser.error(f"{', '.join(unknown)}: no task and no optimizer; there are {', '.join([*TASKS, *CONTESTANTS])}")
    main(given.minutes, given.names)
