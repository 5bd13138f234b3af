"""Rewrites a model in place, undoes it, and proves both."""
