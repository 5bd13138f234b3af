"""The peak memory of training a model, measured in a separate process for each model."""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rewriter.core.errors import FileError

from ...files.reading import read_model
from ...rewriting.rewrite import rewrite
from ...rewriting.split import split
from ..data_batches import batch_for
from .compared_optimizers import joint_like, sgd
from .training_steps import training_step

_STATUS = Path("/proc/self/status")
_FORGET_PEAK = Path("/proc/self/clear_refs")
_STEPS = 3


@dataclass(frozen=True)
class Subject:
    """What the process trains: the arguments of ``benchmark_file``, and whether the model is rewritten."""

    path: str
    is_rewritten: bool
    chosen: dict[str, Any]
    batch_size: int
    data: str | None
    safe_mode: bool
    imports: tuple[str, ...]


def peak_memory(subject: Subject) -> int:
    """Train a model for some steps in a new process; returns the bytes it took at most, beside TensorFlow itself.

    On Linux the peak is reset before the first step. Elsewhere reading the model and tracing the step count too, and
    hide what the optimizer adds: without the reset, a model of 16 MB took 121 MB with and without its velocity.
    """
    command = [sys.executable, "-m", __name__, json.dumps(asdict(subject))]
    done = subprocess.run(  # noqa: S603  this interpreter, this module
        command, capture_output=True, text=True, check=False, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    )
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise FileError(f"{subject.path}: its memory could not be measured, the process that trained it said: {last}")
    return int(done.stdout.strip().rpartition("\n")[2])


def _train(subject: Subject) -> int:
    sys.path.insert(0, str(Path.cwd()))
    for module in subject.imports:
        importlib.import_module(module)
    before = _resident()
    model, _ = read_model(Path(subject.path), safe_mode=subject.safe_mode)
    optimizer = joint_like(model.optimizer) if subject.is_rewritten else sgd()
    if subject.is_rewritten:
        rewrite(model, optimizer, check=False, **subject.chosen)
    else:
        split(model)
    batch = batch_for(model, subject.batch_size, None if subject.data is None else Path(subject.data))
    step = training_step(model, optimizer, batch)
    if _FORGET_PEAK.exists():
        _FORGET_PEAK.write_text("5")
    for _ in range(_STEPS):
        step()
    return max(0, _peak() - before)


def _resident() -> int:
    return _in_status("VmRSS") if _STATUS.exists() else _peak()


def _peak() -> int:
    if _STATUS.exists():
        return _in_status("VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _in_status(name: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    print(_train(Subject(**json.loads(sys.argv[1]))))  # noqa: T201  its result
