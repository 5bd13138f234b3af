"""What the commands share: options, reading a model without TensorFlow's chatter, and printing."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from rewriter.choice import keras_of_file
from rewriter.core import tables
from rewriter.core.errors import FileError, first_line
from rewriter.core.keras_packages import LIBRARY, TF_KERAS
from rewriter.core.progress import stage
from rewriter.core.suggestions import closest, did_you_mean

from .progress_bars import drawn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

OptionalPath = Path | None

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A .keras or .h5 file, or a SavedModel folder.")]
Other = Annotated[Path, typer.Argument(metavar="OTHER", help="Another model, in any of the formats.")]
OptionalOutput = Annotated[
    Path | None,
    typer.Argument(
        metavar="OUTPUT",
        help="Where to; .keras, .h5, or no ending for a SavedModel folder. Not needed with --dry-run.",
        show_default=False,
    ),
]
Output = Annotated[
    Path,
    typer.Argument(metavar="OUTPUT", help="Where to; .keras, .h5, or no ending for a SavedModel folder."),
]
Include = Annotated[
    list[str] | None,
    typer.Option("--include", metavar="GLOB", help="Merge only layers whose path matches, as in 'encoder/*/ffn'."),
]
Exclude = Annotated[
    list[str] | None, typer.Option("--exclude", metavar="GLOB", help="Leave layers alone whose path matches.")
]
_FAMILIES = ("dense", "conv", "einsum", "recurrent", "all")  # rewriter.model.families has them, and needs TensorFlow
Layers = Annotated[
    list[str] | None,
    typer.Option(
        "--layers",
        metavar="FAMILY",
        autocompletion=lambda incomplete: [name for name in _FAMILIES if name.startswith(incomplete)],
        help="Which layers to merge: dense (if not given), conv, einsum, recurrent or all; or conv,recurrent.",
    ),
]
Discover = Annotated[
    bool,
    typer.Option("--discover", help="Look for pairs in layers of no known family, in what the model computes."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 1 unless every selected pair can be merged.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace OUTPUT if it exists.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Draw no progress on standard error.")]
Full = Annotated[bool, typer.Option("--full", help="Show all layers, as a tree.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
KeepOptimizer = Annotated[bool, typer.Option("--keep-optimizer", help="Keep the compiled optimizer, with its state.")]
Centered = Annotated[
    bool, typer.Option("--centered", help="Keep the compiled optimizer, with its state, and center it.")
]
_RULES = ("JointMomentum", "SOAP", "KFAC", "Muon", "QuasiDiagonal")  # rewriter.optimizers.rules.by_name has them


def _rule(name: str) -> str:
    """Return the name of a rule that is written in upper or lower case."""
    by_lower = {each.lower(): each for each in _RULES}
    if name.lower() not in by_lower:
        instead = did_you_mean(closest(name, _RULES)) or " In Python rewriter.rewrite takes any optimizer."
        raise typer.BadParameter(f"{name!r} is none of {', '.join(_RULES)}.{instead}")
    return by_lower[name.lower()]


Optimizer = Annotated[
    str | None,
    typer.Option(
        "--optimizer",
        metavar="NAME",
        parser=_rule,
        autocompletion=lambda incomplete: [name for name in _RULES if name.lower().startswith(incomplete.lower())],
        help=f"A rule: {', '.join(_RULES[:-1])} or {_RULES[-1]}.",
    ),
]
Import = Annotated[
    list[str] | None,
    typer.Option(
        "--import", metavar="MODULE", help="Import a module first: one that registers your own layers or optimizer."
    ),
]
AllowLambda = Annotated[
    bool,
    typer.Option(
        "--allow-lambda", help="Load Lambda layers: they run code from the file. Only if you trust its maker."
    ),
]
_ARRAYS = "an array x, or an array for each input, by its name"


def data_for(what: str) -> Any:
    """Make the option that names a file of data."""
    return typer.Option("--data", metavar="FILE.npz", help=f"A batch {what}. Random numbers if not given.")


Data = Annotated[Path | None, data_for(f"to run the model on: {_ARRAYS}")]
TrainingData = Annotated[Path | None, data_for(f"to train on: {_ARRAYS}; and y, the targets")]


def picture_of(what: str) -> Any:
    """Make the option that draws a picture."""
    return typer.Option("--plot", metavar="FILE", help=f"Draw {what}: a .png, .svg or .pdf file.")


@contextlib.contextmanager
def _silent_standard_error() -> Iterator[None]:
    """Hold back what TensorFlow's C++ side writes while it loads, and show it only if loading fails."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)


@contextlib.contextmanager
def working(imports: list[str] | None, quiet: bool, model: Path, module: str) -> Iterator[Any]:
    """Import Keras and the library, quietly, and then the user's modules; inside, progress is drawn.

    Args:
        imports: The user's modules.
        quiet: Draw nothing.
        model: The model's file: it says which Keras it needs.
        module: Which module of the library's ``commands`` does the work.

    Yields:
        That module.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.simplefilter("ignore")
    with drawn(quiet):
        package = keras_of_file(model)
        with stage(f"loading {'TensorFlow' if package == TF_KERAS else 'Keras'}"), _silent_standard_error():
            try:
                keras = importlib.import_module(package)
            except (ImportError, ValueError) as error:
                if "KERAS_BACKEND" not in os.environ or package == TF_KERAS:
                    raise
                raise FileError(
                    f"KERAS_BACKEND={os.environ['KERAS_BACKEND']}: Keras cannot be imported with it: "
                    f"{first_line(error)}. It is tensorflow, jax or torch, and has to be installed."
                ) from error
            # Keras 3 looks for TensorFlow when it first makes a config, whatever its backend is.
            keras.saving.serialize_keras_object(keras.initializers.Zeros())
            if "tensorflow" in sys.modules:
                # It looks for devices at the first operation, and says what it does not find.
                importlib.import_module("tensorflow").config.list_logical_devices()
        for name in ("tensorflow", "absl"):
            logging.getLogger(name).setLevel(logging.ERROR)
        sys.path.insert(0, str(Path.cwd()))
        for name in imports or ():
            _import(name)
        with importlib.import_module("rewriter.core.log").warned():  # what the library logs, the command prints
            yield importlib.import_module(f"{LIBRARY[package]}.commands.{module}")


def _import(name: str) -> None:
    if not all(part.isidentifier() for part in name.split(".")) or name.endswith(".py"):
        module = Path(name).stem
        raise FileError(f"--import {name}: give the name of a module that Python finds from here, as in {module}.")
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise FileError(f"--import {name}: it imports {error.name}, which is not installed.") from error
        raise FileError(f"--import {name}: {error}. Give a module that Python finds from here.") from error
    except Exception as error:  # whatever the user's own module raises
        raise FileError(f"--import {name}: it raised {type(error).__name__}: {first_line(error)}") from error


def warn(lines: Iterable[str]) -> None:
    """Print warnings on standard error, at once."""
    for line in lines:
        typer.echo(f"warning: {line}", err=True)


def show(result: Any, as_json: bool, picture: Path | None = None) -> None:
    """Print a result on standard output: as JSON, in colours on a terminal, as plain text elsewhere."""
    console = Console(markup=False, highlight=False, emoji=False)
    if as_json:
        typer.echo(json.dumps(result.to_dict(), indent=2))
    elif console.is_terminal:
        tables.show(result, console)
    else:
        typer.echo(tables.text(result))
    if picture is not None and not as_json:
        typer.echo(f"picture: {picture}")


def optimizer_word(keep_optimizer: bool, centered: bool, optimizer: str | None) -> str | None:
    """Return the word for the optimizer that is asked for; ``BadParameter`` if options ask for different ones."""
    if keep_optimizer and centered:
        raise typer.BadParameter("--centered keeps the optimizer too, and centers it; give one or the other.")
    if optimizer is not None and (keep_optimizer or centered):
        raise typer.BadParameter("--optimizer gives the model another optimizer than it has; give one or the other.")
    return "centered" if centered else "keep" if keep_optimizer else optimizer
