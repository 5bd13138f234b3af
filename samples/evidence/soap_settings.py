"""What two settings of SOAP are worth: the bound on its steps, and how often its bases are brought up to date.

``python samples/evidence/soap_settings.py`` adds what is missing to ``soap_settings.jsonl``: training losses at the
rates and of the seeds below, and what a step with ``every=20`` takes, over one with the default.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

from typing import Any

from rich.console import Console
from rich.progress import track

import rewriter
from contestants import CONTESTANTS, DECAY, Contestant
from step_times import ratio_of_steps
from tasks import TASKS
from training import Trainer

FILE = Path(__file__).parent / "soap_settings.jsonl"
RATES, RARELY = (2**-7.5, 2**-7.0, 2**-6.5), {"every": 20}
# Settings, a task, rates and seeds.
RUNS: tuple[tuple[dict[str, Any], str, tuple[float, ...], range], ...] = (
    ({}, "digits", RATES, range(200, 206)),
    ({"bounded": False}, "digits", RATES, range(200, 206)),
    ({}, "characters, transformer", (2**-7.0,), range(200, 203)),
    (RARELY, "characters, transformer", (2**-7.0,), range(200, 203)),
)
TIMED = ("digits", "digits, convolutions", "digits, autoencoder, tanh", "characters, transformer")


def read_lines() -> list[dict[str, Any]]:
    """Return what was measured."""
    return [json.loads(line) for line in FILE.read_text().splitlines()] if FILE.exists() else []


def soap(settings: dict[str, Any]) -> Contestant:
    """Return SOAP with some settings."""
    return Contestant(
        f"SOAP {settings}", lambda rate, _: rewriter.SOAP(rate, weight_decay=DECAY, **settings), "AdamW", range(0)
    )


def add(measured: dict[str, Any]) -> None:
    """Add a line."""
    with FILE.open("a") as file:
        file.write(json.dumps(measured) + "\n")


def main() -> None:
    """Do what is not done."""
    done, console = read_lines(), Console(stderr=True)
    for settings, task, rates, seeds in track(RUNS, "training", console=console):
        trainer = Trainer(TASKS[task], soap(settings))
        for rate in rates:
            for seed in seeds:
                run = {"task": task, "settings": settings, "rate": rate, "seed": seed}
                if not any(run.items() <= line.items() for line in done):
                    add(run | {"loss": float(f"{trainer.run(rate, seed, tuning=False)['loss']:.5g}")})
    for task in track(TIMED, "measuring", console=console):
        timed = {"task": task, "settings": RARELY}
        if not any(timed.items() <= line.items() and "step" in line for line in done):
            add(timed | {"step": ratio_of_steps(TASKS[task], soap(RARELY), CONTESTANTS["SOAP"])})


if __name__ == "__main__":
    main()
