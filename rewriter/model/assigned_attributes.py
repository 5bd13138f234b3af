"""Which attributes of a layer a user's code assigns to, read from the code's bytecode.

A merged kernel is a view, which can neither be replaced nor assigned to. So a layer whose kernel is written to is left
alone. The plan must know that before anything runs, and without inputs, so it cannot run or trace the user's code. The
bytecode also shows a ``train_step``, which a call of the model never reaches. It does not show what a helper function
outside of the class does. That is seen by the check, which calls the model in training mode.
"""

from __future__ import annotations

import dis
import inspect
import itertools
from typing import TYPE_CHECKING

from .variable_holders import is_of_a_library

if TYPE_CHECKING:
    from types import CodeType

_ASSIGNMENTS = frozenset({"assign", "assign_add", "assign_sub", "scatter_update", "scatter_add", "scatter_sub"})
_LOADS = frozenset({"LOAD_ATTR", "LOAD_METHOD"})


def assigned_attributes(cls: type, own: bool) -> set[str]:
    """List the attributes of a layer that a user's class writes to, outside ``build`` and constructors.

    The code may replace it, ``self.layer.kernel = normalized``, or assign in place, ``layer.kernel.assign(...)``. The
    bytecode is there even where the source is not.

    Args:
        cls: The class of the layer, or of one that holds it.
        own: It is the class of the layer, so that what it writes to itself counts.
    """
    written: set[str] = set()
    for base in cls.__mro__:
        if is_of_a_library(base):
            continue
        for name, function in vars(base).items():
            code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
            if code is not None and name not in {"__init__", "build"}:
                written |= _writes(code, own)
    return written


def _writes(code: CodeType, own: bool) -> set[str]:
    this = code.co_varnames[:1]
    written = set()
    for before, after in itertools.pairwise(dis.get_instructions(code)):
        loaded = before.argval if isinstance(before.argval, tuple) else (before.argval,)
        if after.opname == "STORE_ATTR" and (own or loaded[-1:] != this):
            written.add(after.argval)
        elif before.opname in _LOADS and after.opname in _LOADS and after.argval in _ASSIGNMENTS:
            written.add(before.argval)
    return written
