"""What a benchmark measured, as data and as a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.text import Text

from rewriter.core import tables

if TYPE_CHECKING:
    from rewriter.core.tables import Parts

    from .timing import Ratio


class Row(NamedTuple):
    """One comparison.

    Attributes:
        what: What is done: ``"training step"``, ``"training step, XLA"``, ``"inference"``, ``"inference, XLA"``.
        rewritten: What the rewritten model trains with.
        original_seconds: The median time of the original under Keras's SGD with momentum.
        rewritten_seconds: That of the rewritten model.
        ratio: The rewritten model's over the original's.
    """

    what: str
    rewritten: str
    original_seconds: float
    rewritten_seconds: float
    ratio: Ratio

    def to_dict(self) -> dict[str, Any]:
        """Return ``what``, ``rewritten``, ``original_seconds``, ``rewritten_seconds`` and ``ratio`` as JSON data."""
        return {**self._asdict(), "ratio": self.ratio.to_dict()}


@dataclass(frozen=True)
class Benchmark(tables.Display):
    """What was measured.

    Attributes:
        model: The model's file.
        keras: Which Keras it is of, in words.
        batch_size: Rows in a batch.
        rounds: How often each was measured.
        rows: The times.
        joint_optimizer: The class of the joint optimizer: that of the model, or else ``"JointMomentum"``.
        optimizer_state: Bytes of slots of the original and of the rewritten model under the joint optimizer.
        peak_memory: Bytes that training takes at most beside TensorFlow itself, of the same two, each in a process of
            its own.
    """

    model: str
    keras: str
    batch_size: int
    rounds: int
    rows: tuple[Row, ...]
    joint_optimizer: str
    optimizer_state: dict[str, int]
    peak_memory: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return the benchmark as JSON data; times in seconds, sizes in bytes.

        The keys are ``file``, ``batch_size``, ``rounds``, ``times``, each as ``Row.to_dict``, ``joint_optimizer``, its
        class, and ``optimizer_state`` and ``peak_memory``, each with ``original`` and ``rewritten``.
        """
        return {
            "file": self.model,
            "batch_size": self.batch_size,
            "rounds": self.rounds,
            "times": [row.to_dict() for row in self.rows],
            "joint_optimizer": self.joint_optimizer,
            "optimizer_state": self.optimizer_state,
            "peak_memory": self.peak_memory,
        }

    def parts(self, width: int) -> Parts:
        """Show the times and sizes as a table, the ratios alone where it is narrow, and how they were measured."""
        times = [
            (
                row.what,
                row.rewritten,
                f"{row.original_seconds * 1e3:.2f} ms",
                f"{row.rewritten_seconds * 1e3:.2f} ms",
                str(row.ratio),
            )
            for row in self.rows
        ]
        sizes = [
            (what, self.joint_optimizer, *(f"{size:,} bytes" for size in sizes.values()), _share(*sizes.values()))
            for what, sizes in (("optimizer state", self.optimizer_state), ("peak memory", self.peak_memory))
        ]
        columns = ("measured", "rewritten with", "original", "rewritten", "ratio (quartiles)")
        rounds = tables.counted(self.rounds, "round")
        said = f"batch of {self.batch_size}, {rounds} in turn; original: {self.keras} SGD with momentum"
        said += "; ratio: rewritten / original"
        both = ["original", "rewritten"]
        cells = [[Text(cell) for cell in row] for row in (*times, *sizes)]
        return [tables.fitting(columns, cells, width, right=both, dropped=[both]), said]


def _share(before: int, after: int) -> str:
    return f"{after / before:.3f}" if before else ""
