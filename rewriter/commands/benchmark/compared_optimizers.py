"""The optimizers that a benchmark compares."""

from __future__ import annotations

from typing import Any

from ...adapters import keras
from ...optimizers.joint_momentum import JointMomentum
from ...optimizers.joint_optimizer import is_joint
from ...optimizers.rules.by_name import RULES

# Small enough that no model leaves the region in which its numbers are ordinary, however many steps are timed.
LEARNING_RATE = 1e-4
MOMENTUM = 0.9


def sgd() -> Any:
    """Make the SGD with momentum that every comparison is with."""
    return keras.optimizer_classes("SGD")[0](LEARNING_RATE, momentum=MOMENTUM)


def joint_like(optimizer: Any = None) -> Any:
    """Make the joint optimizer that is compared with it: joint momentum, or one like that of a model that has one."""
    if not is_joint(optimizer):
        return JointMomentum(LEARNING_RATE, MOMENTUM)
    rule = keras.inner_optimizer(optimizer)
    config = rule.get_config()
    return type(rule).from_config({**config, **({"learning_rate": LEARNING_RATE} if "learning_rate" in config else {})})


def rule_like(name: str) -> Any:
    """Make a rule by its name, as it is compared with the others."""
    return RULES[name](LEARNING_RATE)
