"""The optimizers on whole layers that go by their names: in ``rewrite``, and on the command line."""

from __future__ import annotations

from typing import Any

from ..joint_momentum import JointMomentum
from .kfac import KFAC
from .muon import Muon
from .quasi_diagonal import QuasiDiagonal
from .soap import SOAP

RULES: dict[str, Any] = {rule.__name__: rule for rule in (JointMomentum, SOAP, KFAC, Muon, QuasiDiagonal)}
