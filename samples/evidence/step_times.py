"""How long a step takes under each optimizer, over one under the optimizer that it is compared with, on each task.

``python samples/evidence/step_times.py`` adds what is missing to ``step_times.jsonl``.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import statistics
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track

from contestants import CONTESTANTS
from tasks import TASKS
from training import Trainer

if TYPE_CHECKING:
    from contestants import Contestant
    from tasks import Task

FILE = Path(__file__).parent / "step_times.jsonl"
_ROUNDS = 15
_RATE = 1e-4  # at which nothing leaves the region in which its numbers are ordinary


def read_ratios() -> dict[tuple[str, str], float]:
    """Return the ratios that there are, by task and optimizer."""
    lines = FILE.read_text().splitlines() if FILE.exists() else []
    return {(line["task"], line["optimizer"]): line["ratio"] for line in map(json.loads, lines)}


def seconds_of(trainer: Any, data: Any) -> float:
    """Train for one epoch; return the seconds of it."""
    start = time.perf_counter()
    trainer.model.fit(*data, trainer.task.batch_size, verbose=0)
    return time.perf_counter() - start


def ratio_of_steps(task: Task, contestant: Contestant, other: Contestant) -> float:
    """Measure in turn, the order reversed from round to round; return the median of the ratios of one to the other."""
    data, _ = task.split(0, tuning=False)
    trainers = [Trainer(task, each) for each in (other, contestant)]
    for trainer in trainers:
        trainer.rate.peak.assign(_RATE)
        seconds_of(trainer, data)
    ratios = []
    for turn in range(_ROUNDS):
        order = trainers if turn % 2 else trainers[::-1]
        taken = {id(trainer): seconds_of(trainer, data) for trainer in order}
        ratios.append(taken[id(trainers[1])] / taken[id(trainers[0])])
    return round(statistics.median(ratios), 3)


def main() -> None:
    """Measure what is missing."""
    done = read_ratios()
    for task in track(TASKS.values(), "measuring", console=Console(stderr=True)):
        wanted = [each for each in CONTESTANTS.values() if each.name != each.plain and not each.is_twin]
        for contestant in (each for each in wanted if (task.name, each.name) not in done):
            ratio = ratio_of_steps(task, contestant, CONTESTANTS[contestant.plain])
            line = {"task": task.name, "optimizer": contestant.name, "ratio": ratio}
            with FILE.open("a") as file:
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
