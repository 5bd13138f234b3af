"""The optimizers that the evidence compares, plain and centered, and the grid of their rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tf_keras

import rewriter
import twins

if TYPE_CHECKING:
    from collections.abc import Callable

optimizers = tf_keras.optimizers


@dataclass(frozen=True)
class Contestant:
    """An optimizer.

    Attributes:
        name: Its name in the tables.
        make: Makes it, given a learning rate or schedule, and by what the task's loss is multiplied to be a negative
            log-likelihood, which natural gradients have to know.
        plain: The name of what it is compared with; its own if it is plain itself.
        powers: The rates to try first are these powers of two.
        is_twin: Whether it is the rule that it is compared with, the bias apart; such run on some tasks and seeds only.
    """

    name: str
    make: Callable[[Any, float], Any]
    plain: str
    powers: range
    is_twin: bool = False


def _twin(name: str, make: Callable[[Any, float], Any], powers: range) -> Contestant:
    return Contestant(f"{name}, bias apart", make, name, powers, is_twin=True)


def _pair(name: str, make: Callable[[Any], Any], powers: range, plain: str | None = None) -> list[Contestant]:
    centered = Contestant(f"centered {name}", lambda rate, _: rewriter.Centered(make(rate)), plain or name, powers)
    return [Contestant(name, lambda rate, _: make(rate), plain or name, powers), centered]


DECAY = 0.004  # the default of AdamW
_LOW, _HIGH = range(-13, -5), range(-8, 0)
CONTESTANTS = {
    each.name: each
    for each in (
        *_pair("Adam", optimizers.Adam, _LOW),
        *_pair("AdamW", optimizers.AdamW, _LOW),
        *_pair("SGD with momentum", lambda rate: optimizers.SGD(rate, momentum=0.9), _HIGH),
        *_pair("joint momentum", rewriter.JointMomentum, _HIGH, plain="SGD with momentum"),
        *_pair("SOAP", lambda rate: rewriter.SOAP(rate, weight_decay=DECAY), range(-11, -6), plain="AdamW"),
        *_pair("Muon", lambda rate: rewriter.Muon(rate, weight_decay=DECAY), range(-11, -6), plain="AdamW"),
        Contestant(
            "K-FAC",
            lambda rate, factor: rewriter.KFAC(rate, loss_factor=factor, weight_decay=DECAY),
            "AdamW",
            range(-11, -2),
        ),
        Contestant(
            "quasi-diagonal",
            lambda rate, factor: rewriter.QuasiDiagonal(rate, loss_factor=factor, weight_decay=DECAY),
            "AdamW",
            range(-12, -3),
        ),
        _twin("SOAP", lambda rate, _: twins.SOAP(rate, weight_decay=DECAY), range(-11, -6)),
        _twin("Muon", lambda rate, _: twins.Muon(rate, weight_decay=DECAY), range(-11, -6)),
        _twin(
            "K-FAC",
            lambda rate, factor: twins.KFAC(rate, loss_factor=factor, weight_decay=DECAY),
            range(-11, -2),
        ),
        _twin(
            "quasi-diagonal",
            lambda rate, factor: twins.QuasiDiagonal(rate, loss_factor=factor, weight_decay=DECAY),
            range(-12, -3),
        ),
    )
}
