"""Callbacks for models that train with joint optimizers."""

from rewriter.optimizers.momentum_monitor import JointMomentumMonitor

__all__ = ["JointMomentumMonitor"]
