"""What layers see in training: not there for Keras 3 yet. Nothing is observed, and who asks for it is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from rewriter.core.errors import OptimizerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager


def _refuse() -> NoReturn:
    raise OptimizerError(
        "what the layers of a model see in training is known for tf_keras alone so far, and centered coordinates need "
        "it: take the optimizer as it is, optimizer='keep'."
    )


def is_training_call() -> bool:
    """Return ``False``: nobody observes."""
    return False


def can_have_twin(variable: Any) -> bool:
    """Return ``False``."""
    del variable
    return False


def mask_of(inputs: Any) -> Any:
    """Return the mask that came with an input of a layer, ``None`` where there is none."""
    return getattr(inputs, "_keras_mask", None)


def mask_of_outputs(layer: Any, mask: Any) -> Any:
    """Raise ``OptimizerError``."""
    del layer, mask
    _refuse()


def sum_of_features(inputs: Any, axes: Sequence[int], dtype: Any, guarded: bool, mask: Any = None) -> Any:
    """Raise ``OptimizerError``."""
    del inputs, axes, dtype, guarded, mask
    _refuse()


def twin_of(variable: Any) -> Any:
    """Raise ``OptimizerError``."""
    del variable
    _refuse()


def statistic_like(variable: Any, name: str, shape: Sequence[int], summed: bool = True) -> Any:
    """Raise ``OptimizerError``."""
    del variable, name, shape, summed
    _refuse()


def share_over_replicas(statistics: Sequence[Any]) -> None:
    """Do nothing: there are none."""
    del statistics


def corrected_additions(variable: Any, rows: slice, correction: Callable[[Any], Any]) -> AbstractContextManager[None]:
    """Raise ``OptimizerError``."""
    del variable, rows, correction
    _refuse()


def subtract_from_rows(variable: Any, rows: slice, value: Any) -> None:
    """Raise ``OptimizerError``."""
    del variable, rows, value
    _refuse()


def refresh_if(predicate: Any, refreshed: Sequence[tuple[Any, Callable[[], Any], Callable[[Any], Any]]]) -> None:
    """Raise ``OptimizerError``."""
    del predicate, refreshed
    _refuse()


def decay_statistic(statistic: Any, decay: float, value: Any) -> None:
    """Raise ``OptimizerError``."""
    del statistic, decay, value
    _refuse()
