"""Interrupted training goes on in a new process, bit for bit as if it had not been interrupted."""

import pytest

import resuming
from processes import run_script

pytestmark = pytest.mark.slow


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
    results = run_script("resume_training", tmp_path)
    assert results == {f"{case} {way}": expected[case] for case in resuming.CASES for way in resuming.WAYS}
