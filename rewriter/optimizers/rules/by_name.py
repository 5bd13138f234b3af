"""The optimizers on whole layers that go by their names: in ``rewrite``, and on the command line."""

from __future__ import annotations

from typing import Any

from rewriter.core import hints
from rewriter.core.errors import OptimizerError
from rewriter.core.suggestions import closest, did_you_mean

from ..joint_momentum import JointMomentum
from .kfac import KFAC
from .muon import Muon
from .quasi_diagonal import QuasiDiagonal
from .soap import SOAP

RULES: dict[str, Any] = {rule.__name__: rule for rule in (JointMomentum, SOAP, KFAC, Muon, QuasiDiagonal)}


def rule_named(name: str) -> Any:
    """Return the class of a rule; ``OptimizerError`` if there is none of that name."""
    if name not in RULES:
        hint = did_you_mean(closest(name, list(RULES)))
        raise OptimizerError(f"{hints.Argument('optimizer', name)} is no rule: {', '.join(RULES)}.{hint}")
    return RULES[name]
