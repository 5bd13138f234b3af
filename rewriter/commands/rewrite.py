"""``rewriter rewrite``: from the file of a model to that of the rewritten model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rewriter.core import hints
from rewriter.core.errors import FileError, ModelError, NotMergeableError
from rewriter.core.log import warned

from ..adapters import keras
from ..files.formats import digest
from ..files.reading import read_model
from ..files.writing import save_model
from ..optimizers.observed_model import centering_lines, lines_of_rule
from ..optimizers.optimizer_choice import CENTERED, KEEP, NOT_COMPILED, choose_optimizer
from ..planning.planner import plan
from ..rewriting.rewrite import apply
from .arguments import inputs_from, output_path
from .result_lines import lines_of, with_warnings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from rewriter.core.messages import Message
    from rewriter.core.tables import Parts

    from ..model.selectors import Selectors
    from ..planning.plan import Plan


@dataclass(frozen=True)
class Rewritten:
    """What a rewrite did.

    Attributes:
        source: The file read.
        output: The file written, ``None`` in a dry run.
        plan: What was decided about each layer.
        optimizer: What became of the optimizer and its state, one line each.
        full: Whether all layers are shown, as a tree.
    """

    source: Path
    output: Path | None
    plan: Plan
    optimizer: tuple[str, ...]
    full: bool

    def to_dict(self) -> dict[str, Any]:
        """Return ``file``, ``output`` (``null`` in a dry run), ``optimizer`` and the keys of ``Plan.to_dict``."""
        output = None if self.output is None else str(self.output)
        return {
            "file": str(self.source),
            "output": output,
            "optimizer": list(self.optimizer),
            **self.plan.to_dict(),
        }

    def parts(self, width: int) -> Parts:
        """Show the plan, what became of the optimizer, and where the file is."""
        last = "dry run: nothing written" if self.output is None else f"written: {self.output}"
        first = self.plan.summary(done=self.output is not None)
        return [*self.plan.parts(width, full=self.full, first=first), *self.optimizer, last]


def rewrite_file(
    path: Path,
    output: Path | None,
    learning_rate: float | None = None,
    momentum: float | None = None,
    optimizer: str | None = None,
    include: Selectors = None,
    exclude: Selectors = None,
    layers: str | Iterable[str] = "dense",
    discover: bool = False,
    strict: bool = False,
    dry_run: bool = False,
    overwrite: bool = False,
    data: Path | None = None,
    safe_mode: bool = True,
    full: bool = False,
    announce: Callable[[Iterable[str]], None] = lambda _: None,
) -> Rewritten:
    """Read a model file, rewrite the model and write it. A model that is rewritten already is written as it is.

    ``data`` is an ``.npz`` file with a batch that the model takes, for the check; ``None`` makes one. ``announce`` is
    given what of the optimizer will be lost, before anything is written. ``optimizer`` is one of the words that
    :func:`rewriter.rewrite` takes. ``full`` shows all layers.

    Raises:
        ModelError: There is nothing to merge.
        NotMergeableError: ``strict``, and a pair cannot be merged or there is nothing to merge.
        RewriterError: As ``load_model``, ``rewrite`` and ``save_model``.
    """
    destination = None if output is None else output_path(path, output, overwrite)
    model, dropped = read_model(path, safe_mode=safe_mode)
    if dropped and optimizer in (KEEP, CENTERED):
        option = hints.Argument("optimizer", optimizer)
        raise FileError(f"{path}: {dropped}. Without {option} the model is rewritten all the same.")
    inputs = inputs_from(data, model)
    decided = plan(
        model, include=include, exclude=exclude, layers=layers, discover=discover, strict=strict, inputs=inputs
    )
    decided.require_built()
    if not decided.merges and not decided.merged:
        error = NotMergeableError if strict else ModelError
        raise error(f"{path}: nothing to merge. {_reasons(decided)} See rewriter inspect {path}.")
    chooses = keras.is_compiled(model) or optimizer in (KEEP, CENTERED)
    choice = choose_optimizer(model, optimizer, learning_rate, momentum) if chooses else NOT_COMPILED
    lines = (*lines_of(dropped, choice.lines), *centering_lines(decided, choice))
    if dry_run or destination is None:
        return Rewritten(path, None, decided, lines, full)
    announce(map(str, choice.lost))
    with warned() as warnings:
        decided = apply(decided, model, choice, inputs=inputs)
        lines = (*lines, *lines_of_rule(choice.optimizer, model))
        save_model(model, destination, overwrite=overwrite, source_sha256=digest(path))
    return Rewritten(path, destination, decided, with_warnings(lines, warnings), full)


def _reasons(decided: Plan) -> str:
    """Return why nothing is merged, in words: each reason once, after its first layer."""
    paths: dict[Message, list[str]] = {}
    for decision in decided.decisions:
        paths.setdefault(decision.why, []).append(decision.path)
    said = [f"{those[0]}{f' and {len(those) - 1} more' if those[1:] else ''}: {why}." for why, those in paths.items()]
    return " ".join(said) or "No layer of it has a kernel."
