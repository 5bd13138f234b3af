"""Two workers train one rewritten model: ``MultiWorkerMirroredStrategy`` over two processes on this machine.

    python samples/two_workers.py [FOLDER]

The chief exports the model, and a run on one worker is compared with it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

import rewriter
from handwriting import LOSS, classifier, split_digits

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else "demo-output")
EXPORTED = FOLDER / "two_workers.keras"
BATCH_SIZE, EPOCHS, WORKERS, SECONDS = 32, 3, 2, 300


def train(strategy: Any) -> Any:
    """Train, rewrite, and train on; the same lines whatever the strategy."""
    x, y = split_digits()["train"]
    whole = len(x) // BATCH_SIZE * BATCH_SIZE  # the replicas share each batch alike
    fit = {"batch_size": BATCH_SIZE, "epochs": EPOCHS, "shuffle": False, "verbose": 0}
    # In float64, so that the comparison at the end is one: in float32 a rounding apart can grow, within some hundred
    # steps, into a ReLU that fires on one side only.
    tf_keras.backend.set_floatx("float64")
    with strategy.scope():
        model = classifier()
        model.compile(tf_keras.optimizers.SGD(0.05, momentum=0.9), LOSS)
    model.fit(x[:whole], y[:whole], **fit)
    rewriter.rewrite(model)  # inside the scope or outside; joint momentum goes on with SGD's velocity
    model.fit(x[:whole], y[:whole], **fit)
    return model


def work() -> None:
    """Be one worker: which one is in TF_CONFIG, as TensorFlow wants it."""
    model = train(tf.distribute.MultiWorkerMirroredStrategy())
    rewriter.export(model, EXPORTED, overwrite=True)  # each worker calls it, and the chief's file is kept


def start(ports: list[int], index: int) -> subprocess.Popen[bytes]:
    """Start one worker process."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
    return subprocess.Popen([sys.executable, __file__, str(FOLDER)], env={**os.environ, "TF_CONFIG": config})


def free_ports(count: int) -> list[int]:
    """Find ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def main() -> None:
    """Start the workers, wait for them, and compare."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    ports = free_ports(WORKERS)
    workers = [start(ports, index) for index in range(WORKERS)]
    try:
        codes = [worker.wait(SECONDS) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    if any(codes):
        sys.exit(f"the workers ended with {codes}")
    exported = tf_keras.models.load_model(EXPORTED).get_weights()
    single = rewriter.split(train(tf.distribute.get_strategy())).get_weights()
    furthest = max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(exported, single, strict=True))
    print(
        f"{WORKERS} workers, {EPOCHS} epochs of SGD and {EPOCHS} of joint momentum; exported by the chief to {EXPORTED}"
    )
    print(f"largest difference from a run on one worker, relative: {furthest:.1e}")


if __name__ == "__main__":
    if "TF_CONFIG" in os.environ:
        work()
    else:
        main()
