"""What is checked of every optimizer of the process before it makes its slots, be it this library's or not."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rewriter.keras_internals.optimizers import check_before_build

if TYPE_CHECKING:
    from collections.abc import Sequence


def _check(optimizer: Any, variables: Sequence[Any]) -> None:
    # Imported when they are needed: this module is imported as soon as tf_keras is, in the middle of either of them.
    importlib.import_module("rewriter.deferred_state").require_same_form(optimizer, variables)
    importlib.import_module("rewriter.weight_decay").require_rows_known(optimizer, variables)


check_before_build(_check)
