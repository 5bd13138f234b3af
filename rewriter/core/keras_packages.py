"""The Kerases that there are, by the names of their packages, and which of them an object is of."""

from __future__ import annotations

from typing import Any

TF_KERAS, KERAS = "tf_keras", "keras"
# What each is called, and the library for it.
CALLED = {TF_KERAS: "tf-keras", KERAS: "Keras 3"}
LIBRARY = {TF_KERAS: "rewriter", KERAS: "rewriter.keras3"}


def keras_of(value: Any) -> str | None:
    """Name the package of the Keras that an object, or a class, is of; ``None`` where it is of none."""
    cls = value if isinstance(value, type) else type(value)
    packages = (each.__module__.partition(".")[0] for each in cls.__mro__)
    return next((package for package in packages if package in CALLED), None)
