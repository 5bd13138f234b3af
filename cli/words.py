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


def in_options(text: Any) -> str:
    """Say a message of the library as the command line would."""
    said = str(text)
    for argument, option in _OPTIONS:
        said = re.sub(argument, option, said)
    return said
