"""What the library says, in the words of the command line: it speaks of arguments, and here they are options."""

from __future__ import annotations

import re
from typing import Any

_OPTIONS = (
    (r"\boverwrite=True", "--overwrite"),
    (r"\bsafe_mode=False", "--allow-lambda"),
    (r"\boptimizer='keep'", "--keep-optimizer"),
    (r"\boptimizer=None", "no --keep-optimizer"),
    (r"\b(strict|discover)=True", r"--\1"),
    (r"\b(?:inputs|data)=", "--data"),
    (r"\brewriter\.split\(model\) splits", "`rewriter export MODEL OUTPUT` splits"),
    (r"\b(include|exclude|layers)=(?=['\"])", r"--\1 "),
    (r"\b(include|exclude|layers)=", r"--\1"),
    (r"\bimport (\S+) first", r"give --import \1"),
    (r", or pass custom_objects=(\{[^}]*\})?", ""),
    (r"\ba callable, lambda layer: isinstance\(layer, \w+\), or paths", "paths"),
    (r"`?\brewriter\.plan\(model\)`?", "`rewriter inspect MODEL`"),
)

_NAMES = ("file", "output", "path", "model", "manifest", "selectors")  # keys of names in JSON data


def in_options(text: Any) -> str:
    """Say a message of the library as the command line would."""
    said = str(text)
    for argument, option in _OPTIONS:
        said = re.sub(argument, option, said)
    return said


def all_in_options(data: Any) -> Any:
    """Say every message in JSON data as the command line would; names of files and layers are no messages."""
    if isinstance(data, dict):
        return {key: value if key in _NAMES else all_in_options(value) for key, value in data.items()}
    if isinstance(data, list):
        return [all_in_options(value) for value in data]
    return in_options(data) if isinstance(data, str) else data
