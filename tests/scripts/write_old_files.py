"""Writes the files in ``written_by_0e88912``, with the library of that commit: files of users that must stay readable.

    git worktree add /tmp/old 0e88912 && PYTHONPATH=/tmp/old python tests/files/write_old_files.py

Each case is a rewritten model trained for two steps, in each format, and what it holds: its outputs, its weights in
standard form, the state of its optimizer, and the weights after two more steps.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras

sys.path.insert(0, str(Path(__file__).parent))

import old_file_models
import rewriter

FOLDER = Path(__file__).parent / "written_by_0e88912"


def main():
    for name, case in old_file_models.CASES.items():
        tf_keras.utils.set_random_seed(5)
        model = case.build()
        model.compile(case.optimizer(), "mse")
        model = rewriter.rewrite(model, optimizer=case.choice, layers=case.layers)
        old_file_models.train(model)
        with tempfile.TemporaryDirectory() as folder:
            written = Path(folder)
            rewriter.save_model(model, written / f"{name}.keras")
            rewriter.save_model(model, written / f"{name}.h5")
            rewriter.save_model(model, written / name)
            shutil.make_archive(str(FOLDER / name), "zip", written / name)
            for suffix in (".keras", ".h5"):
                shutil.copy(written / f"{name}{suffix}", FOLDER / f"{name}{suffix}")
        if case.weights:
            model.save_weights(FOLDER / f"{name}.weights.h5")
            tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(str(FOLDER / f"{name}.checkpoint"))
        held = {"outputs": model.predict(old_file_models.batch()[0], verbose=0)}
        held |= {f"state_{index}": each.numpy() for index, each in enumerate(model.optimizer.variables)}
        with rewriter.standard_form(model):
            held |= {f"weight_{index}": each for index, each in enumerate(model.get_weights())}
        old_file_models.train(model)
        rewriter.split(model)
        held |= {f"later_{index}": each for index, each in enumerate(model.get_weights())}
        np.savez_compressed(FOLDER / f"{name}.npz", **held)


if __name__ == "__main__":
    main()
