"""Comparing arrays bit for bit."""

import hashlib

import numpy as np


def bits(array):
    """Everything that makes an array the same as another: dtype, shape and each bit of each number."""
    array = np.asarray(array)
    return str(array.dtype), array.shape, array.tobytes()


def digest(array):
    """A short name for the bits of an array's numbers."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
