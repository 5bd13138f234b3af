"""Recurrent layers in centered coordinates: the means of inputs and states, against the plain model trained by hand."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers, optimizers

import rewriter
from rewriter import Centered

pytestmark = pytest.mark.usefixtures("float64")

RATE, DECAY = float(np.float32(0.02)), 0.99

RECURRENT = {
    "SimpleRNN": lambda: layers.SimpleRNN(4),
    "SimpleRNN, sequences": lambda: layers.SimpleRNN(4, return_sequences=True),
    "LSTM": lambda: layers.LSTM(4),
    "LSTM, sequences": lambda: layers.LSTM(4, return_sequences=True),
    "GRU": lambda: layers.GRU(4),
    "GRU, sequences": lambda: layers.GRU(4, return_sequences=True),
    "GRU, reset before": lambda: layers.GRU(4, reset_after=False, return_sequences=True),
    "LSTM, backwards": lambda: layers.LSTM(4, go_backwards=True, return_sequences=True),
    "GRU, backwards, last": lambda: layers.GRU(4, go_backwards=True),
    "RNN over a cell": lambda: layers.RNN(layers.LSTMCell(4), return_sequences=True),
}


class Unmasked(layers.Layer):
    """So that the loss counts every position."""

    def call(self, inputs):
        return tf.identity(inputs)

    def compute_mask(self, inputs, mask=None):
        del inputs, mask


def model_of(make, masked=False):
    tf_keras.utils.set_random_seed(5)
    inputs = tf_keras.Input((6, 3))
    if masked == "told":
        flow = make()(inputs, mask=tf.reduce_any(inputs != 0.0, axis=-1))
    else:
        flow = make()(layers.Masking(0.0)(inputs) if masked else inputs)
    return tf_keras.Model(inputs, Unmasked()(layers.Dense(2, use_bias=False)(flow)))


def data_for(model, generator, masked):
    data = []
    for _ in range(6):
        x = generator.normal(1.5, 1.0, (5, 6, 3))
        if masked:
            x[np.arange(6)[np.newaxis] >= generator.integers(2, 7, 5)[:, np.newaxis]] = 0.0
        data.append((x, generator.standard_normal((5, *model.output_shape[1:]))))
    return data


def mean_of(values, mask):
    values = np.asarray(values)
    if mask is None or values.ndim == 2:
        return values.reshape(-1, values.shape[-1]).mean(axis=0)
    return values[mask].mean(axis=0)


def trained_by_hand(model, data, masked):
    """Centered SGD on the recurrent layer; its states are known by what it returns."""
    layer = next(each for each in model.layers if isinstance(each, layers.RNN))
    returned = tf_keras.Model(model.input, layer.output)
    cell, kept = layer.cell, np.zeros(3 + 4 + 1)
    for x, y in data:
        mask = (x != 0).any(axis=-1) if masked else None
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
        weights = [cell.kernel, cell.recurrent_kernel, cell.bias, model.layers[-2].kernel]
        of_input, of_state, of_bias, of_last = map(np.asarray, tape.gradient(loss, weights))
        of_outputs = mask if mask is None or not layer.go_backwards else mask[:, ::-1]
        count = x[..., 0].size if mask is None else mask.sum()
        kept = kept + count * np.concatenate([mean_of(x, mask), mean_of(returned(x), of_outputs), [1.0]])
        means = kept[:-1] / kept[-1]
        m, h = means[:3], means[3:]
        first, last = (of_bias[0], of_bias[-1]) if of_bias.ndim == 2 else (of_bias, of_bias)
        moved_input = -RATE * (of_input - np.outer(m, first))
        moved_state = -RATE * (of_state - np.outer(h, last))
        if of_bias.ndim == 2:
            moved_bias = -RATE * of_bias - np.stack([m @ moved_input, h @ moved_state])
        else:
            moved_bias = -RATE * of_bias - m @ moved_input - h @ moved_state
        for weight, moved in zip(weights, (moved_input, moved_state, moved_bias, -RATE * of_last), strict=True):
            weight.assign(weight.numpy() + moved)
        kept = DECAY * kept
    return model.get_weights()


CASES = [(kind, {}, False) for kind in RECURRENT]
CASES += [
    (kind, {}, True)
    for kind in ("LSTM", "GRU, sequences", "RNN over a cell", "LSTM, backwards", "GRU, backwards, last")
]
CASES += [("LSTM", {}, "told"), ("GRU, sequences", {}, "told")]
CASES += [(kind, {"run_eagerly": True}, True) for kind in ("SimpleRNN, sequences", "GRU")]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "way", "masked"), CASES)
def test_inputs_and_states_are_centered(generator, kind, way, masked):
    plain, model = model_of(RECURRENT[kind], masked), model_of(RECURRENT[kind], masked)
    data = data_for(plain, generator, masked)
    rewriter.rewrite(model, Centered(optimizers.SGD(RATE)), layers="all")
    assert hasattr(next(each for each in model.layers if isinstance(each, layers.RNN)).cell, "augmented_kernel")
    model.compile(model.optimizer, "mse", **way)
    for x, y in data:
        model.train_on_batch(x, y)
    expected = trained_by_hand(plain, data, masked)
    trained = rewriter.split(model).get_weights()
    for one, other in zip(trained, expected, strict=True):
        assert np.abs(one - other).max() <= 1e-10
