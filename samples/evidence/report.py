"""Tables and pictures of the lines that ``run.py`` and ``step_times.py`` wrote, for the docs.

``python samples/evidence/report.py`` writes ``docs/evidence.rst``, and ``evidence.svg`` and ``gains.svg`` beside
it; with ``--print`` it prints the page alone.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

import statistics
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt

from contestants import CONTESTANTS
from run import TWIN_SEEDS, chosen_rate, epochs_to_aim, is_on, read_lines, seeds_of
from step_times import read_ratios
from tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from contestants import Contestant
    from run import Key
    from tasks import Task

DOCS = Path(__file__).parents[2] / "docs"
_PAGE = Path(__file__).with_name("page.txt")
_TWINS = [
    "A rule as it would be if a layer were two variables, beside the rule, each at its best rate. SOAP and Muon get",
    "the kernel, and Adam the bias; of K-FAC's factor of the inputs the products with the ones are zero; the",
    f"quasi-diagonal rule is the diagonal alone. Three tasks, {len(TWIN_SEEDS)} seeds.",
]
_LEAST = 1e-9  # a training loss below it is taken for this, so that a ratio says something


@dataclass(frozen=True)
class Result:
    """What an optimizer did on a task beside the one that it is compared with, each at its best rates.

    Attributes:
        task: The task.
        optimizer: The optimizer.
        losses: Of each seed, the other's training loss at the end and its own.
        metrics: Likewise of the test metric, at the rates that are best for it.
        rates: The other's best rate for the training loss, and its own.
        budget: The least share of the other's steps after which its training loss is as low as the other's at the end;
            ``None`` if all of them do not suffice.
        step: How long its step takes over the other's; ``None`` if that was not measured.
    """

    task: Task
    optimizer: Contestant
    losses: tuple[tuple[float, float], ...]
    metrics: tuple[tuple[float, float], ...]
    rates: tuple[float, float]
    budget: float | None
    step: float | None

    @property
    def loss_ratio(self) -> float:
        """The geometric mean over the seeds of its training loss over the other's."""
        pairs = [(max(mine, _LEAST), max(other, _LEAST)) for other, mine in self.losses]
        return statistics.geometric_mean(mine / other for mine, other in pairs)

    @property
    def wins(self) -> tuple[int, int]:
        """For how many seeds its training loss, and its test metric, is the better one."""
        sign = 1 if self.task.of_classes else -1
        return (
            sum(mine < other for other, mine in self.losses),
            sum(sign * mine > sign * other for other, mine in self.metrics),
        )

    @property
    def cost(self) -> str:
        """What it takes to the other's training loss: the share of the steps, and of the time where that is known."""
        if self.budget is None:
            return "not reached"
        time = "" if self.step is None else f", {self.budget * self.step:.2f} of the time"
        return f"{self.budget:.2g} of the steps{time}"


def results_of(done: dict[Key, dict[str, Any]], ratios: dict[tuple[str, str], float]) -> list[Result]:
    """Return the results for which all runs are done."""
    found = []
    for task in TASKS.values():
        for optimizer in (each for each in CONTESTANTS.values() if each.name != each.plain and is_on(task, each)):
            try:
                found.append(_result(done, ratios, task, optimizer))
            except (KeyError, ValueError):
                print(f"not done: {task.name}, {optimizer.name}", file=sys.stderr)
    return found


def _result(
    done: dict[Key, dict[str, Any]], ratios: dict[tuple[str, str], float], task: Task, optimizer: Contestant
) -> Result:
    other = CONTESTANTS[optimizer.plain]
    best = {
        (each.name, by): chosen_rate(done, task, each, by)[0]
        for each in (other, optimizer)
        for by in ("loss", "metric")
    }

    # What ended in NaN counts as the worst of both that did not.
    names = {other.name, optimizer.name}
    of_task = [line for line in done.values() if line["task"] == task.name and line["optimizer"] in names]
    losses, metrics = ([line[by] for line in of_task if line[by] is not None] for by in ("loss", "metric"))
    worst = {"loss": max(losses), "metric": (min if task.of_classes else max)(metrics)}

    def value(of: Contestant, by: str, seed: int) -> float:
        found = done[task.name, of.name, best[of.name, by], seed, False, 1.0][by]
        number: float = worst[by] if found is None else found
        return number

    epochs = None if optimizer.is_twin else epochs_to_aim(done, task, optimizer)[0]
    return Result(
        task,
        optimizer,
        tuple((value(other, "loss", seed), value(optimizer, "loss", seed)) for seed in seeds_of(optimizer)),
        tuple((value(other, "metric", seed), value(optimizer, "metric", seed)) for seed in seeds_of(optimizer)),
        (best[other.name, "loss"], best[optimizer.name, "loss"]),
        None if epochs is None else epochs / task.epochs,
        ratios.get((task.name, optimizer.name)),
    )


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (header, *rows):
        first, *rest = row
        lines += [f"   * - {first}", *(f"     - {cell}" for cell in rest)]
    return [*lines, ""]


def _spread(values: Iterable[float], digits: int) -> str:
    listed = list(values)
    return f"{statistics.mean(listed):.{digits}g} ± {statistics.stdev(listed):.1g}"


def _ratio(ratio: float) -> str:
    """Write a ratio with two digits, in the usual way where it is a hundred or more."""
    return f"{float(f'{ratio:.2g}'):g}"


def _spreads(pairs: Iterable[tuple[float, float]], digits: int) -> str:
    return " → ".join(_spread(values, digits) for values in zip(*pairs, strict=True))


def page(results: list[Result]) -> str:
    """Write the page: what it is, a table of all tasks, and one of each optimizer, where it helps least first."""
    names = list(dict.fromkeys(each.optimizer.name for each in results if not each.optimizer.is_twin))
    by_place = {(result.task.name, result.optimizer.name): result for result in results}
    ratios = [
        [task, *(_ratio(by_place[task, name].loss_ratio) if (task, name) in by_place else "" for name in names)]
        for task in TASKS
    ]
    means = ["**geometric mean**"]
    for name in names:
        of_all = [result.loss_ratio for result in results if result.optimizer.name == name]
        means.append(f"**{_ratio(statistics.geometric_mean(of_all))}**")
    heads = [f"{name} / {CONTESTANTS[name].plain}" for name in names]
    lines = [*_PAGE.read_text(encoding="utf-8").splitlines(), ""]
    lines += _table(["training loss", *heads], [*ratios, means])
    for name in names:
        title = f"{name[0].upper()}{name[1:]}, beside {CONTESTANTS[name].plain}"
        lines += [title, "-" * len(title), ""]
        own = sorted((each for each in results if each.optimizer.name == name), key=lambda each: -each.loss_ratio)
        lines += _table(
            ["task", "training loss", "lower for", "test metric", "better for", "best rate", "to the same loss"],
            (
                [
                    each.task.name,
                    _spreads(each.losses, 3),
                    f"{each.wins[0]} of {len(each.losses)}",
                    _spreads(each.metrics, 4),
                    f"{each.wins[1]} of {len(each.losses)}",
                    f"x {each.rates[1] / each.rates[0]:.2g}",
                    each.cost,
                ]
                for each in own
            ),
        )
    return "\n".join(lines + _twins(results)).rstrip() + "\n"


def _twins(results: list[Result]) -> list[str]:
    """Write what each rule ends at with the bias in the matrix and apart from it."""
    own = [each for each in results if each.optimizer.is_twin]
    if not own:
        return []
    rows = (
        [
            each.optimizer.plain,
            each.task.name,
            _spreads([pair[::-1] for pair in each.losses], 3),
            _ratio(1 / each.loss_ratio),
            f"{len(each.losses) - each.wins[0]} of {len(each.losses)}",
            _spreads([pair[::-1] for pair in each.metrics], 4),
        ]
        for each in sorted(own, key=lambda each: each.optimizer.plain)
    )
    title = "The bias in the matrix, beside the bias apart"
    header = ["rule", "task", "training loss, bias apart → in", "ratio", "lower for", "test metric"]
    return [title, "-" * len(title), "", *_TWINS, "", *_table(header, rows)]


def draw(results: list[Result], path: Path) -> None:
    """Draw the ratio of training losses of every task and optimizer, one mark a seed."""
    shown = [each.optimizer for each in results if not each.optimizer.is_twin]
    names = [name for name in dict.fromkeys(each.name for each in shown) if name != "joint momentum"]
    # Two beside each other: so wide is a page.
    figure = plt.figure(figsize=(9, 1.6 * len(names)), layout="constrained", facecolor="white")
    axes = figure.subplots(-(-len(names) // 2), 2, sharey=True)
    for axis in axes.flat[len(names) :]:
        axis.remove()
    for axis, name in zip(axes.flat, names, strict=False):
        for place, task in enumerate(reversed(TASKS)):
            for result in results:
                if (result.task.name, result.optimizer.name) == (task, name):
                    pairs = [(max(other, _LEAST), max(own, _LEAST)) for other, own in result.losses]
                    axis.plot([own / other for other, own in pairs], [place] * len(pairs), "o", ms=3, alpha=0.5, c="C0")
                    axis.plot(result.loss_ratio, place, "|", ms=16, mew=2, c="C1")
        axis.axvline(1, c="gray", lw=0.8)
        axis.set(xscale="log", title=f"{name}\nover {CONTESTANTS[name].plain}", xlabel="ratio of training losses")
        axis.set_yticks(range(len(TASKS)), list(reversed(TASKS)))
    figure.savefig(path, metadata={"Date": None})


def draw_gains(results: list[Result], path: Path) -> None:
    """Draw what each optimizer gains: a mark for each task, and one for the geometric mean over the tasks."""
    names = dict.fromkeys(each.optimizer.name for each in results if not each.optimizer.is_twin)
    figure, axis = plt.subplots(figsize=(9, 0.36 * len(names) + 1), layout="constrained", facecolor="white")
    for place, name in enumerate(reversed(names)):
        ratios = [each.loss_ratio for each in results if each.optimizer.name == name]
        axis.plot(ratios, [place] * len(ratios), "o", ms=6, alpha=0.5, c="C0", mec="none")
        axis.plot(statistics.geometric_mean(ratios), place, "|", ms=18, mew=3, c="C1")
    axis.axvline(1, c="gray", lw=0.8)
    axis.set(xscale="log", xlabel="ratio of final training losses, below 1 where the first named is lower")
    axis.set_yticks(range(len(names)), [f"{name} / {CONTESTANTS[name].plain}" for name in reversed(names)])
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def main(arguments: list[str]) -> None:
    """Write or print."""
    results = results_of(read_lines(), read_ratios())
    if "--print" in arguments:
        sys.stdout.write(page(results))
        return
    (DOCS / "evidence.rst").write_text(page(results), encoding="utf-8")
    plt.rcParams["svg.hashsalt"] = "evidence"
    draw(results, DOCS / "evidence.svg")
    draw_gains(results, DOCS / "gains.svg")


if __name__ == "__main__":
    main(sys.argv[1:])
