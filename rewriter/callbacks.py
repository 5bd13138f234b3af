"""Callbacks for models that train with joint optimizers."""

from .optimizers.momentum_monitor import JointMomentumMonitor

__all__ = ["JointMomentumMonitor"]
