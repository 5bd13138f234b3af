"""Centered coordinates: any elementwise optimizer, as if the inputs of each layer had no mean."""
