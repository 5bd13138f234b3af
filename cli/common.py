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

from rewriter.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Iterator

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A .keras or .h5 file, or a SavedModel folder.")]
Other = Annotated[Path, typer.Argument(metavar="OTHER", help="Another model, in any of the formats.")]
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
Layers = Annotated[
    list[str] | None,
    typer.Option(
        "--layers",
        metavar="FAMILY",
        help="Which layers to merge: dense, conv, einsum, recurrent or all; several by repeating it.  [default: dense]",
    ),
]
Discover = Annotated[
    bool,
    typer.Option("--discover", help="Look for pairs in layers of no known family, in what the model computes."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 1 unless every selected pair can be merged.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace OUTPUT if it exists.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Import = Annotated[
    list[str] | None,
    typer.Option("--import", metavar="MODULE", help="Import a module first: the one that registers your own layers."),
]
AllowLambda = Annotated[
    bool,
    typer.Option(
        "--allow-lambda", help="Load Lambda layers: they run code from the file. Only if you trust its maker."
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FILE.npz",
        help="A batch to train on: arrays x and y, or one for each input by its name. Random numbers if not given.",
    ),
]
Plot = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE", help="Draw a picture of it: a .png, .svg or .pdf file.")
]


@contextlib.contextmanager
def _silent_standard_error() -> Iterator[None]:
    """Hold back what TensorFlow's C++ side writes while it loads; shown only if loading fails."""
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


def start(imports: list[str] | None, module: str = "rewriter.conversion") -> Any:
    """Import TensorFlow and the library, quietly, and then the user's modules.

    Returns:
        The module of the library that does the work.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.simplefilter("ignore")
    with _silent_standard_error():
        importlib.import_module("tf_keras")
    for name in ("tensorflow", "absl"):
        logging.getLogger(name).setLevel(logging.ERROR)
    sys.path.insert(0, str(Path.cwd()))
    for name in imports or ():
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise FileError(f"--import {name}: {error}. Give a module that Python finds from here.") from error
    return importlib.import_module(module)


def print_json(data: Any) -> None:
    """Print JSON data on standard output."""
    typer.echo(json.dumps(data, indent=2))
