"""What is checked for every optimizer in the process before it makes its slots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..adapters import keras
from . import weight_decay
from .state import pending_restore

if TYPE_CHECKING:
    from collections.abc import Sequence


def _check(optimizer: Any, variables: Sequence[Any]) -> None:
    pending_restore.require_same_form(optimizer, variables)
    weight_decay.require_rows_known(optimizer, variables)


keras.check_before_build(_check)
