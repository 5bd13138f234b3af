"""What is checked of every optimizer of the process before it makes its slots, be it this library's or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rewriter import keras_internals
from rewriter.deferred_state import require_same_form
from rewriter.weight_decay import require_rows_known

if TYPE_CHECKING:
    from collections.abc import Sequence


def _check(optimizer: Any, variables: Sequence[Any]) -> None:
    require_same_form(optimizer, variables)
    require_rows_known(optimizer, variables)


keras_internals.check_before_build(_check)
