"""The idea: which rows of an augmented kernel are which weight; errors, and how the library talks."""
