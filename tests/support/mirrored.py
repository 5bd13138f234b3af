"""A process with two logical devices, in which models are trained under ``MirroredStrategy``."""

import numpy as np
import tensorflow as tf
import tf_keras

import rewriter
from models import MODELS

# Logical devices are made before TensorFlow starts.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


def mirrored():
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice())


def build(optimizer):
    tf_keras.utils.set_random_seed(5)
    model = MODELS["functional"]()
    model.compile(optimizer, "mse")
    return model


def arrays(model):
    with rewriter.standard_form(model):
        return [weight.numpy() for weight in model.weights]


def furthest(model, other):
    """How far two models' weights are apart at most, relative to the largest of each weight."""
    pairs = zip(arrays(model), arrays(other), strict=True)
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)


def refused(call):
    """What a call says that is refused."""
    try:
        call()
    except rewriter.RewriterError as error:
        return str(error)
    return None
