"""Training that is interrupted in one process and goes on in another; both import this."""

import hashlib

import numpy as np
import tensorflow as tf
import tf_keras

import rewriter
from models import MODELS
from zoo import ZOO

EPOCHS, STEPS, ROWS = 3, 4, 32
STOP = 6  # steps: in the middle of the second epoch


def adam():
    """Adam under a loss scale that changes every other step, and so must be resumed too."""
    inner = tf_keras.optimizers.Adam(tf_keras.optimizers.schedules.ExponentialDecay(0.01, 2, 0.5), amsgrad=True)
    return tf_keras.mixed_precision.LossScaleOptimizer(inner, dynamic_growth_steps=4)


# A model whose merged layers its config does not name, and one of plain layers under an optimizer that is kept.
CASES = {
    "hidden-joint": (ZOO["custom_layer"], lambda: tf_keras.optimizers.SGD(0.05, momentum=0.9), None),
    "plain-adam": (MODELS["whole_vectors"], adam, "keep"),
}
WAYS = ["model.keras", "model.h5", "model", "checkpoint", "callback.keras", "callback.h5", "callback", "backup"]


def make(case):
    """A rewritten model, compiled and not trained yet, always from the same start."""
    builder, optimizer, choice = CASES[case]
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(5)
    model = builder()
    model.compile(optimizer(), "mse", metrics=["mae"])
    return rewriter.rewrite(model, optimizer=choice)


def data():
    """Input and target."""
    generator = np.random.default_rng(3)
    x, y = generator.standard_normal((ROWS, 5)), generator.standard_normal((ROWS, 3))
    return x.astype("float32"), y.astype("float32")


class Interrupt(tf_keras.callbacks.Callback):
    """Stops the training as a crash does."""

    def __init__(self):
        super().__init__()
        self.steps = 0

    def on_train_batch_end(self, _batch, _logs=None):
        self.steps += 1
        if self.steps == STOP:
            raise KeyboardInterrupt


def fit(model, callbacks=(), steps=None):
    """All epochs, or the steps that are left of them."""
    x, y = data()
    if steps is None:
        model.fit(x, y, epochs=EPOCHS, batch_size=ROWS // STEPS, shuffle=False, verbose=0, callbacks=list(callbacks))
        return
    batches = np.split(x, STEPS), np.split(y, STEPS)
    for step in steps:
        model.train_on_batch(batches[0][step % STEPS], batches[1][step % STEPS], reset_metrics=False)


def interrupt(case, way, folder):
    """Train until the interruption, leaving behind in a folder what the way leaves there."""
    model = make(case)
    callbacks = []
    if way == "backup":
        callbacks = [tf_keras.callbacks.BackupAndRestore(str(folder / way), delete_checkpoint=False)]
    elif way.startswith("callback"):
        callbacks = [tf_keras.callbacks.ModelCheckpoint(str(folder / way), save_freq=3)]
    try:
        fit(model, [*callbacks, Interrupt()])
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError("the training was not interrupted")
    if way == "checkpoint":
        tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(str(folder / way))
    elif way.startswith("model"):
        rewriter.save_model(model, folder / way)


def resume(case, way, folder):
    """Go on to the end with what an interrupted training left behind."""
    if way == "backup":
        # It goes on from the last whole epoch: in the middle of one, tf-keras would begin the data anew.
        model = make(case)
        fit(model, [tf_keras.callbacks.BackupAndRestore(str(folder / way), delete_checkpoint=False)])
        return model
    if way == "checkpoint":
        model = make(case)
        tf.train.Checkpoint(model=model, optimizer=model.optimizer).read(str(folder / way))
    else:
        model = rewriter.load_model(folder / way)
    fit(model, steps=range(STOP, EPOCHS * STEPS))
    return model


def outcome(model):
    """A digest of all that a training has made: weights, state of the optimizer, loss scale."""
    optimizer = model.optimizer
    values = [*model.weights, *optimizer.variables]
    if hasattr(optimizer, "loss_scale"):
        values += [optimizer.loss_scale, optimizer.dynamic_counter]
    return hashlib.sha256(b"".join(np.asarray(value).tobytes() for value in values)).hexdigest()
