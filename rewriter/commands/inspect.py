"""``rewriter inspect``: what a rewrite would do to the model in a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..adapters import keras
from ..files.formats import read_manifest
from ..files.manifest import render
from ..files.reading import read_model
from ..optimizers.observed_model import centering_lines
from ..optimizers.optimizer_choice import choose_optimizer
from ..optimizers.state.state_size import StateSize, state_sizes
from ..planning.planner import plan
from ..rewriting.model_run import run_model
from .arguments import inputs_from
from .plots import kernel_plot
from .plots.drawing import require_drawable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from rewriter.core.tables import Parts

    from ..model.selectors import Selectors
    from ..planning.plan import Plan


@dataclass(frozen=True)
class Inspected:
    """What ``rewriter inspect`` found in a model file.

    Attributes:
        path: The file.
        plan: What a rewrite would do to each layer.
        manifest: What a rewritten file says of itself, ``None`` for a standard model.
        before: The state of the optimizer in standard form, or as it is where it is to be another one.
        after: That of the optimizer a rewrite gives the model, or gave it already, in rewritten form.
        stays: Whether the model is rewritten already and no other optimizer is asked for.
        centering: What a centered optimizer of the model makes of its layers, a line.
        lost: What of the model's optimizer a rewrite loses, a line each, unless it is told to keep it.
        full: Whether all layers are shown, as a tree.
    """

    path: Path
    plan: Plan
    manifest: dict[str, Any] | None
    before: StateSize
    after: StateSize
    stays: bool
    centering: tuple[str, ...]
    lost: tuple[str, ...]
    full: bool

    def to_dict(self) -> dict[str, Any]:
        """Return ``file``, ``manifest`` (``null`` for a standard model) and the keys of ``Plan.to_dict``.

        Beside them ``optimizer_state``, with ``before`` and ``after``, each as ``StateSize.to_dict``, in bytes, and
        ``not_carried``, what of the optimizer a rewrite loses unless it is told to keep it.
        """
        state = {"before": self.before.to_dict(), "after": self.after.to_dict(), "not_carried": list(self.lost)}
        return {"file": str(self.path), "manifest": self.manifest, "optimizer_state": state, **self.plan.to_dict()}

    def parts(self, width: int) -> Parts:
        """Show the plan with the bytes of state of each layer, and what a rewritten file says of itself."""
        now, then, name, arrow = self.before, self.after, "rewritten", " →"
        if self.stays:
            now, then, name, arrow = self.after, self.before, "exported", ", exported"
        columns = {head: {"": state.total or 0, **state.layers} for head, state in (("state", now), (name, then))}
        described = [] if self.manifest is None else ["", *render(self.manifest)]
        # Where nothing can be merged the model is left alone, its optimizer too.
        is_left = not (self.plan.merges or self.plan.merged)
        becomes = "" if is_left else f"{arrow} {then}"
        return [
            *self.plan.parts(width, columns, self.full, f"{self.plan.summary()}; optimizer state {now}{becomes}"),
            *(() if is_left else self.centering),
            *self.lost,
            *described,
        ]


def inspect_file(
    path: Path,
    include: Selectors = None,
    exclude: Selectors = None,
    layers: str | Iterable[str] = "dense",
    discover: bool = False,
    data: Path | None = None,
    safe_mode: bool = True,
    plot: Path | None = None,
    optimizer: str | None = None,
    full: bool = False,
) -> Inspected:
    """Read a model file and plan its rewrite; draw each ``W*`` if ``plot`` is given.

    ``optimizer`` is one of the words that :func:`rewriter.rewrite` takes; ``full`` shows all layers.
    """
    if plot is not None:
        require_drawable(plot)
    model, _ = read_model(path, safe_mode=safe_mode)
    inputs = inputs_from(data, model)
    if inputs is not None:
        run_model(model, inputs)  # a batch that does not fit is a mistake, as it is of every command
    decided = plan(model, include=include, exclude=exclude, layers=layers, discover=discover, inputs=inputs)
    if plot is not None:
        kernel_plot.draw(decided, plot)
    choice = choose_optimizer(model, optimizer)
    is_other = choice.centers or choice.optimizer is not keras.optimizer_of(model)
    stays = decided.is_carried_out and not (is_other and optimizer is not None)
    lost = tuple(map(str, choice.lost)) if decided.merges or (decided.merged and not stays) else ()
    before, after = state_sizes(decided, model, None if stays else choice, inputs)
    centering = tuple(centering_lines(decided, choice))
    return Inspected(path, decided, read_manifest(path), before, after, stays, centering, lost, full)
