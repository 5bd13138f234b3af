"""The state of an optimizer, there and back across a rewrite."""
