"""The network of ``layer_network`` in tf-keras."""

import tf_keras
from tf_keras import layers

import rewriter
from layer_network import FEATURES, OUTPUTS


def network(units=4, seed=2):
    tf_keras.utils.set_random_seed(seed)
    return tf_keras.Sequential([layers.Dense(units, activation="tanh", input_shape=(FEATURES,)), layers.Dense(OUTPUTS)])


def rewritten(model, rule, **way):
    rewriter.rewrite(model, rule)
    model.compile(model.optimizer, "mse", **way)
    return model
