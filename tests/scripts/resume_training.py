"""Go on with trainings that were interrupted in another process; print what each comes to."""

import json
import sys
from pathlib import Path

import tensorflow as tf

import resuming

tf.config.experimental.enable_op_determinism()
folder = Path(sys.argv[1])
ways = [(case, way) for case in resuming.CASES for way in resuming.WAYS]
print(json.dumps({f"{case} {way}": resuming.outcome(resuming.resume(case, way, folder / case)) for case, way in ways}))
