"""Interrupted training goes on in a new process, bit for bit as if it had not been interrupted."""

from pathlib import Path

import resuming
from conftest import run_python

RESUME = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import tensorflow as tf, resuming
tf.config.experimental.enable_op_determinism()
ways = [(case, way) for case in resuming.CASES for way in resuming.WAYS]
print(json.dumps({
    f"{case} {way}": resuming.outcome(resuming.resume(case, way, Path(sys.argv[1]) / case)) for case, way in ways
}))
"""


def test_training_resumes_in_a_new_process(tmp_path):
    """By each file format, tf.train.Checkpoint, ModelCheckpoint and BackupAndRestore, in the middle of an epoch."""
    expected = {}
    for case in resuming.CASES:
        model = resuming.make(case)
        resuming.fit(model)
        expected[case] = resuming.outcome(model)
        (tmp_path / case).mkdir()
        for way in resuming.WAYS:
            resuming.interrupt(case, way, tmp_path / case)
    results = run_python(RESUME, tmp_path, Path(__file__).parent)
    assert results == {f"{case} {way}": expected[case] for case in resuming.CASES for way in resuming.WAYS}
