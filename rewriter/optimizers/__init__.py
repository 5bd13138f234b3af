"""Rules that see a layer whole."""
