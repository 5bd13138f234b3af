"""Fixtures. Two runs are compared bit for bit, so every test runs with deterministic ops and the same seed."""

import gc
import logging
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# One test runs on each core, and models as small as these only lose by sharing it out among threads: half of the time.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from rewriter.cli import main

from short_cases import left_to_slow_tests
from warm_python import serving

tf.config.experimental.enable_op_determinism()


def pytest_collection_modifyitems(items):
    """Call slow what others cover."""
    for item in left_to_slow_tests(items):
        item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def _warm_python():
    with serving():
        yield


@pytest.fixture(autouse=True)
def _seed():
    # TensorFlow has a third of a million objects, and leaves some thousand behind with every model. Python would look
    # at them in every collection, and the library whenever it looks for models and optimizers that are alive.
    gc.collect()
    gc.freeze()
    logging.getLogger("rewriter").setLevel(logging.NOTSET)  # a sample that was run may have silenced it
    tf_keras.backend.clear_session()
    tf_keras.mixed_precision.set_global_policy(None)  # while one is set, the default dtype of Keras means nothing
    tf_keras.utils.set_random_seed(7)


@pytest.fixture
def generator():
    return np.random.default_rng(11)


@pytest.fixture
def run(monkeypatch, capfd):
    """Run the command line in this process; returns exit code, standard output and standard error."""
    # Warnings are for the reader of a program's output; tests want them as errors.
    monkeypatch.setattr("warnings.simplefilter", lambda _: None)

    def run(*arguments):
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["rewriter", *map(str, arguments)])
        with pytest.raises(SystemExit) as raised:
            main()
        captured = capfd.readouterr()
        return raised.value.code or 0, captured.out, captured.err

    return run


@pytest.fixture
def float64():
    """Models are made in float64, so that they can be compared with NumPy."""
    tf_keras.backend.set_floatx("float64")
    yield
    tf_keras.backend.set_floatx("float32")
