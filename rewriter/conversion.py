"""From file to file: what each command does. Called by the command line, and by nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rewriter import difference_plot, kernel_plot
from rewriter.batches import read_inputs
from rewriter.errors import FileError, ModelError, NotMergeableError
from rewriter.formats import digest, read_manifest
from rewriter.log import warned
from rewriter.manifest import render
from rewriter.optimizer_choice import KEEP, choose_optimizer
from rewriter.pictures import require_drawable
from rewriter.placing import writable
from rewriter.planning import plan
from rewriter.reading import read_model
from rewriter.rewriting import apply
from rewriter.state_size import StateSize, state_sizes
from rewriter.verification import Report, paired_weights, verify
from rewriter.writing import export, exported_state, save_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from rewriter.decisions import Plan
    from rewriter.selection import Selectors
    from rewriter.tables import Parts


@dataclass(frozen=True)
class Inspected:
    """A model file, seen before anything is done.

    Attributes:
        path: The file.
        plan: What a rewrite would do to each layer.
        manifest: What a rewritten file says of itself, ``None`` for a standard model.
        before: The state of the optimizer in standard form.
        after: That of the optimizer a rewrite gives the model, or gave it already, in rewritten form.
        lost: What of the model's optimizer a rewrite would not carry, a line each, unless it is told to keep it.
    """

    path: Path
    plan: Plan
    manifest: dict[str, Any] | None
    before: StateSize
    after: StateSize
    lost: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return ``file``, ``manifest`` (``null`` for a standard model) and the keys of ``Plan.to_dict``.

        Beside them ``optimizer_state``, with ``before`` and ``after``, each as ``StateSize.to_dict``, in bytes, and
        ``not_carried``, what of the optimizer a rewrite leaves behind unless it is told to keep it.
        """
        state = {"before": self.before.to_dict(), "after": self.after.to_dict(), "not_carried": list(self.lost)}
        return {"file": str(self.path), "manifest": self.manifest, "optimizer_state": state, **self.plan.to_dict()}

    def parts(self, width: int) -> Parts:
        """Show the plan with the bytes of state of each layer, and what a rewritten file says of itself."""
        now, then, name = self.before, self.after, "rewritten"
        if self.plan.is_carried_out:
            now, then, name = self.after, self.before, "exported"
        columns = {
            head: {path: f"{size:,}" for path, size in {"": state.total, **state.layers}.items() if size}
            for head, state in (("state", now), (name, then))
        }
        described = [] if self.manifest is None else ["", *render(self.manifest)]
        return [
            *self.plan.parts(width, columns),
            f"optimizer state: {now}; {name} {then}",
            *self.lost,
            *described,
        ]


@dataclass(frozen=True)
class Rewritten:
    """What a rewrite did.

    Attributes:
        source: The file read.
        output: The file written, ``None`` in a dry run.
        plan: What was decided about each layer.
        optimizer: What became of the optimizer and its state, one line each.
    """

    source: Path
    output: Path | None
    plan: Plan
    optimizer: tuple[str, ...]

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
        return [*self.plan.parts(width), *self.optimizer, last]


@dataclass(frozen=True)
class Exported:
    """What an export did.

    Attributes:
        source: The file read.
        output: The file written.
        layers: Paths of the layers whose augmented kernel was split back.
        optimizer: What became of the optimizer and its state, one line each.
    """

    source: Path
    output: Path
    layers: tuple[str, ...]
    optimizer: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return ``file``, ``output``, ``layers`` and ``optimizer``."""
        return {
            "file": str(self.source),
            "output": str(self.output),
            "layers": list(self.layers),
            "optimizer": list(self.optimizer),
        }

    def parts(self, _: int) -> Parts:
        """Show which layers were split, what became of the optimizer, and where the file is."""
        layers = f"{len(self.layers)} layers split back into kernel and bias: {', '.join(self.layers)}"
        return [
            layers if self.layers else "nothing was merged: the model is written as it is",
            *self.optimizer,
            f"written: {self.output}",
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
) -> Inspected:
    """Read a model file and plan its rewrite; draw each ``W*`` if it is said where to."""
    if plot is not None:
        require_drawable(plot)
    model, _ = read_model(path, safe_mode=safe_mode)
    inputs = _inputs(data, model)
    decided = plan(model, include=include, exclude=exclude, layers=layers, discover=discover, inputs=inputs)
    if plot is not None:
        kernel_plot.draw(decided, plot)
    lost = choose_optimizer(model).lost if decided.merges else ()
    return Inspected(path, decided, read_manifest(path), *state_sizes(decided, model), lost)


def rewrite_file(
    path: Path,
    output: Path | None,
    learning_rate: float | None = None,
    momentum: float | None = None,
    keep_optimizer: bool = False,
    include: Selectors = None,
    exclude: Selectors = None,
    layers: str | Iterable[str] = "dense",
    discover: bool = False,
    strict: bool = False,
    dry_run: bool = False,
    overwrite: bool = False,
    data: Path | None = None,
    safe_mode: bool = True,
    announce: Callable[[Iterable[str]], None] = lambda _: None,
) -> Rewritten:
    """Read a model file, rewrite the model and write it. A model that is rewritten already is written as it is.

    ``data`` is an ``.npz`` file with a batch that the model takes, for the check; ``None`` makes one. ``announce`` is
    given what of the optimizer will be lost, before anything is written.

    Raises:
        ModelError: There is nothing to merge.
        NotMergeableError: ``strict``, and a pair cannot be merged or there is nothing to merge.
        RewriterError: As ``load_model``, ``rewrite`` and ``save_model``.
    """
    destination = None if output is None else _destination(path, output, overwrite)
    model, dropped = read_model(path, safe_mode=safe_mode)
    if dropped and keep_optimizer:
        raise FileError(f"{path}: {dropped}. Without --keep-optimizer the model is rewritten all the same.")
    inputs = _inputs(data, model)
    decided = plan(
        model, include=include, exclude=exclude, layers=layers, discover=discover, strict=strict, inputs=inputs
    )
    decided.require_built()
    if not decided.merges and not decided.merged:
        error = NotMergeableError if strict else ModelError
        raise error(f"{path}: nothing to merge. {_reasons(decided)} See rewriter inspect {path}.")
    choice = choose_optimizer(model, KEEP if keep_optimizer else None, learning_rate, momentum)
    lines = _lines(dropped, choice.lines)
    if dry_run or destination is None:
        return Rewritten(path, None, decided, lines)
    announce(choice.lost)
    with warned() as warnings:
        decided = apply(decided, model, choice, inputs=inputs)
        save_model(model, destination, overwrite=overwrite, source_sha256=digest(path))
    return Rewritten(path, destination, decided, _with_warnings(lines, warnings))


def export_file(
    path: Path, output: Path, overwrite: bool = False, data: Path | None = None, safe_mode: bool = True
) -> Exported:
    """Read a model file, rewritten or not, and write its standard form; ``data`` is as in :func:`rewrite_file`.

    Raises:
        RewriterError: As ``load_model`` and ``export``.
    """
    destination = _destination(path, output, overwrite)
    model, dropped = read_model(path, safe_mode=safe_mode)
    said = exported_state(model, destination)
    layers = tuple(dict.fromkeys(decision.path for decision in plan(model).merged))
    with warned() as warnings:
        export(model, destination, overwrite=overwrite, inputs=_inputs(data, model))
    return Exported(path, destination, layers, _with_warnings(_lines(dropped, said), warnings))


def verify_files(
    path: Path, other: Path, data: Path | None = None, safe_mode: bool = True, plot: Path | None = None
) -> Report:
    """Read two model files and compare the models, on a batch from a file if there is one; draw where they differ."""
    if plot is not None:
        require_drawable(plot)
    models = [read_model(each, safe_mode=safe_mode)[0] for each in (path, other)]
    report = verify(models[0], models[1], inputs=_inputs(data, models[0]))
    if plot is not None:
        difference_plot.draw(report, paired_weights(*models), (path.name, other.name), plot)
    return report


def _inputs(data: Path | None, model: Any) -> Any:
    return None if data is None else read_inputs(data, model)


def _lines(dropped: str, said: Iterable[str]) -> tuple[str, ...]:
    return (*([f"note: {dropped}"] if dropped else []), *said)


def _with_warnings(lines: tuple[str, ...], warnings: Iterable[str]) -> tuple[str, ...]:
    """Add what was warned of and is not among the lines that are shown anyway."""
    return (*lines, *(f"note: {message}" for message in warnings if message not in lines))


def _reasons(decided: Plan) -> str:
    """Say why nothing is merged: each reason once, after the first layer it holds of."""
    paths: dict[str, list[str]] = {}
    for decision in decided.decisions:
        paths.setdefault(decision.reason, []).append(decision.path)
    said = [f"{those[0]}{f' and {len(those) - 1} more' if those[1:] else ''}: {why}." for why, those in paths.items()]
    return " ".join(said) or "No layer of it has a kernel."


def _destination(path: Path, output: Path, overwrite: bool) -> Path:
    if path.exists() and output.exists() and path.samefile(output):
        raise FileError(f"{output} is the input itself; give another OUTPUT, the input is never written to.")
    if path.is_dir() and path.resolve() in output.resolve().parents:
        raise FileError(f"{output} is inside the input, which is never written to; give another OUTPUT.")
    return writable(output, overwrite)
