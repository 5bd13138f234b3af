"""The tasks of the evidence: small ones that run anywhere, of data that ships with scikit-learn or with Python."""

from __future__ import annotations

import functools
import pydoc_data.topics
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import tf_keras
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.model_selection import train_test_split

if TYPE_CHECKING:
    from collections.abc import Callable

    Data = tuple[Any, Any]

layers = tf_keras.layers
_CLASSES, _SQUARES = "sparse_categorical_crossentropy", "mean_squared_error"


@dataclass(frozen=True)
class Task:
    """Something to train.

    Attributes:
        name: Its name in the tables.
        data: Returns inputs and targets.
        model: Makes a model, its weights drawn from Keras's seed.
        loss: The loss, by its name; of classes, on logits.
        epochs: How many of them a whole run has.
        batch_size: The size of a batch.
        constant: Whether the rate stays as it is, instead of a cosine after a warm-up.
        loss_factor: By what the loss is multiplied to be a negative log-likelihood: of a mean square, half its outputs.
        first: Which part of the training data a base model is trained on before, ``None`` for none.
    """

    name: str
    data: Callable[[], Data]
    model: Callable[[], Any]
    loss: str
    epochs: int
    batch_size: int = 32
    constant: bool = False
    loss_factor: float = 1.0
    first: Callable[[Any], Any] | None = None

    @property
    def loss_function(self) -> Any:
        """The loss as Keras takes it."""
        return tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True) if self.of_classes else self.loss

    @property
    def of_classes(self) -> bool:
        """Whether the test metric is an accuracy; else it is the loss."""
        return self.loss == _CLASSES

    def split(self, seed: int, tuning: bool) -> tuple[Data, Data]:
        """Return what to train on and what to measure: the test set, or for tuning a split of the training set."""
        x, y = self.data()
        rest_x, test_x, rest_y, test_y = train_test_split(x, y, test_size=0.25, random_state=0)
        if not tuning:
            return (rest_x, rest_y), (test_x, test_y)
        fit_x, held_x, fit_y, held_y = train_test_split(rest_x, rest_y, test_size=0.25, random_state=seed)
        return (fit_x, fit_y), (held_x, held_y)


@functools.cache
def _digits() -> Data:
    x, y = load_digits(return_X_y=True)
    return (x / 16).astype("float32"), y


def _images() -> Data:
    x, y = _digits()
    return x.reshape(-1, 8, 8, 1), y


def _rows() -> Data:
    x, y = _digits()
    return x.reshape(-1, 8, 8), y


def _itself() -> Data:
    return _digits()[0], _digits()[0]


@functools.cache
def _cancer() -> Data:
    x, y = load_breast_cancer(return_X_y=True)
    return (x / x.std(axis=0)).astype("float32"), y


@functools.cache
def _diabetes() -> Data:
    x, y = load_diabetes(return_X_y=True, scaled=False)
    return (x / x.std(axis=0)).astype("float32"), ((y - y.mean()) / y.std()).astype("float32")[:, np.newaxis]


_CONTEXT, _WINDOWS = 32, 4096


@functools.cache
def _text() -> Data:
    """Windows of Python's own help texts, each character a number, and the same one character on."""
    text = "".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics))
    _, numbers = np.unique(list(text), return_inverse=True)
    starts = np.random.default_rng(0).choice(len(numbers) - _CONTEXT - 1, _WINDOWS, replace=False)
    windows = np.stack([numbers[start : start + _CONTEXT + 1] for start in starts]).astype("int32")
    return windows[:, :-1], windows[:, 1:]


def _perceptron() -> Any:
    return tf_keras.Sequential(
        [layers.Dense(256, "relu", input_shape=(64,)), layers.Dense(256, "relu"), layers.Dense(10)]
    )


def _convolutions(normalized: bool) -> Any:
    model = tf_keras.Sequential([layers.Input((8, 8, 1))])
    for filters, strides in ((16, 1), (32, 2), (64, 2)):
        model.add(layers.Conv2D(filters, 3, strides, "same"))
        if normalized:
            model.add(layers.BatchNormalization())
        model.add(layers.ReLU())
    model.add(layers.Flatten())
    model.add(layers.Dense(10))
    return model


def _autoencoder() -> Any:
    model = tf_keras.Sequential([layers.Input((64,))])
    for units in (128, 64, 16, 64, 128):
        model.add(layers.Dense(units, "tanh"))
    model.add(layers.Dense(64))
    return model


def _small(features: int, outputs: int) -> Any:
    return tf_keras.Sequential(
        [layers.Dense(64, "relu", input_shape=(features,)), layers.Dense(64, "relu"), layers.Dense(outputs)]
    )


def _transformer(width: int = 64, blocks: int = 2) -> Any:
    symbols = int(_text()[0].max()) + 1
    inputs = layers.Input((_CONTEXT,), dtype="int32")
    positions = layers.Embedding(_CONTEXT, width)(np.arange(_CONTEXT)[np.newaxis])
    flow = layers.Embedding(symbols, width)(inputs) + positions
    for _ in range(blocks):
        normal = layers.LayerNormalization()(flow)
        flow += layers.MultiHeadAttention(4, width // 4)(normal, normal, use_causal_mask=True)
        normal = layers.LayerNormalization()(flow)
        flow += layers.Dense(width)(layers.Dense(4 * width, "gelu")(normal))
    return tf_keras.Model(inputs, layers.Dense(symbols)(layers.LayerNormalization()(flow)))


def _recurrent() -> Any:
    return tf_keras.Sequential([layers.GRU(64, input_shape=(8, 8)), layers.Dense(10)])


_CLASSIFIER = Task("digits", _digits, _perceptron, _CLASSES, 20)
TASKS = {
    task.name: task
    for task in (
        _CLASSIFIER,
        replace(_CLASSIFIER, name="digits, constant rate", constant=True),
        replace(_CLASSIFIER, name="digits, fine-tuning", first=lambda y: y < 8, epochs=10),  # noqa: PLR2004
        Task("digits, convolutions", _images, lambda: _convolutions(normalized=False), _CLASSES, 10),
        Task("digits, convolutions, BatchNorm", _images, lambda: _convolutions(normalized=True), _CLASSES, 10),
        Task("digits, autoencoder, tanh", _itself, _autoencoder, _SQUARES, 40, loss_factor=32),
        Task("cancer, not centered", _cancer, lambda: _small(30, 2), _CLASSES, 20),
        Task("diabetes, not centered", _diabetes, lambda: _small(10, 1), _SQUARES, 20, loss_factor=0.5),
        Task("characters, transformer", _text, _transformer, _CLASSES, 5),
        Task("digits by rows, GRU", _rows, _recurrent, _CLASSES, 20),
    )
}
