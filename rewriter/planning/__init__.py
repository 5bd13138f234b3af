"""Decides which layers to merge and why; touches nothing."""
