"""One run: a task trained by an optimizer at a rate, from a seed."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
import tf_keras

import rewriter

if TYPE_CHECKING:
    from contestants import Contestant
    from tasks import Task

_WARM_UP = 0.05  # of all steps
_MOST_AT_ONCE = 64  # steps


class Cosine(tf_keras.optimizers.schedules.LearningRateSchedule):
    """A cosine to zero after a linear warm-up, or a constant; both numbers may change without a new trace."""

    def __init__(self, constant: bool) -> None:
        self.constant = constant
        self.peak, self.steps = tf.Variable(0.0, trainable=False), tf.Variable(1.0, trainable=False)

    def __call__(self, step: Any) -> Any:
        """Return the rate of a step."""
        if self.constant:
            return tf.identity(self.peak)
        done = tf.cast(step, tf.float32)
        warm = _WARM_UP * self.steps
        cosine = 0.5 * (1.0 + tf.cos(math.pi * (done - warm) / (self.steps - warm)))
        return self.peak * tf.where(done < warm, (done + 1.0) / warm, cosine)


class Trainer:
    """A task under one optimizer, traced once and begun anew for each run."""

    def __init__(self, task: Task, contestant: Contestant) -> None:
        self.task, self.rate = task, Cosine(task.constant)
        self.begun: dict[tuple[int, bool], Any] = {}
        tf_keras.utils.set_random_seed(0)  # the transformer draws a constant, its table of positions
        self.model = task.model()
        metrics = ["accuracy"] if task.of_classes else []
        optimizer = contestant.make(self.rate, task.loss_factor)
        self.model.compile(optimizer, task.loss_function, metrics, steps_per_execution=_MOST_AT_ONCE)
        if isinstance(optimizer, rewriter.JointOptimizer | rewriter.Centered):
            rewriter.rewrite(self.model, optimizer=optimizer, layers="all")
        optimizer.build(self.model.trainable_variables)
        self.beginning = [variable.numpy() for variable in optimizer.variables]

    def run(self, rate: float, seed: int, tuning: bool, budget: float = 1.0) -> dict[str, float]:
        """Train; return the loss on the training data, the metric on other data, and the seconds of training."""
        fit, other = self.task.split(seed, tuning)
        if (seed, tuning) not in self.begun:
            self.begun[seed, tuning] = _first_weights(self.task, seed, fit)
        if self.task.first is not None:
            left = ~self.task.first(fit[1]) | (np.random.default_rng(seed).random(len(fit[1])) < 0.2)  # noqa: PLR2004
            fit = fit[0][left], fit[1][left]
        epochs = max(1, round(self.task.epochs * budget))
        self.rate.peak.assign(rate)
        self.rate.steps.assign(float(epochs * math.ceil(len(fit[0]) / self.task.batch_size)))
        for variable, value in zip(self.model.optimizer.variables, self.beginning, strict=True):
            variable.assign(value)
        with rewriter.standard_form(self.model):
            self.model.set_weights(self.begun[seed, tuning])
        tf_keras.utils.set_random_seed(seed)
        start = time.perf_counter()
        self.model.fit(*fit, self.task.batch_size, epochs, verbose=0)
        seconds = time.perf_counter() - start
        loss, metric = (self._measure(*data)[which] for which, data in ((0, fit), (-1, other)))
        return {"loss": loss, "metric": metric, "seconds": seconds}

    def _measure(self, x: Any, y: Any) -> list[float]:
        measured: Any = self.model.evaluate(x, y, 512, verbose=0)
        return [float(each) for each in np.atleast_1d(measured)]


def _first_weights(task: Task, seed: int, fit: Any) -> Any:
    """Draw the weights to begin with; train them on the first part of the data where there is one."""
    tf_keras.utils.set_random_seed(seed)
    model = task.model()
    if task.first is not None:
        known = task.first(fit[1])
        model.compile(tf_keras.optimizers.Adam(1e-3), task.loss_function, steps_per_execution=_MOST_AT_ONCE)
        model.fit(fit[0][known], fit[1][known], task.batch_size, epochs=10, verbose=0)
    return model.get_weights()
