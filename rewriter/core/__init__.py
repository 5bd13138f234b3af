"""The idea: which rows of an augmented kernel are which weight. Errors, messages, progress and tables."""
