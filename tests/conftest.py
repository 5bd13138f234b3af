"""Fixtures. Two runs are compared bit for bit, so every test runs with deterministic ops and the same seed."""

import gc
import json
import logging
import os
import subprocess
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

tf.config.experimental.enable_op_determinism()
# A third of a million objects of TensorFlow's, at which Python would look at every collection, and the library whenever
# it looks for models and optimizers that are alive.
gc.collect()
gc.freeze()

# Whoever imports rewriter in such a process gets an ImportError, installed or not.
WITHOUT_REWRITER = "import sys; sys.modules['rewriter'] = None\n"


@pytest.fixture(autouse=True)
def _seed():
    logging.getLogger("rewriter").setLevel(logging.NOTSET)  # a sample that was run may have silenced it
    tf_keras.backend.clear_session()
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


def run_python(script, *arguments, prelude=""):
    """Run a script in a fresh process; returns what its last line of output says, as JSON."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", prelude + script, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def run_without_rewriter(script, *arguments):
    """Run a script in a fresh process in which ``rewriter`` cannot be imported."""
    return run_python(script, *arguments, prelude=WITHOUT_REWRITER)


def bits(array):
    """Everything that makes an array the same as another: dtype, shape and each bit of each number."""
    array = np.asarray(array)
    return str(array.dtype), array.shape, array.tobytes()
