"""Load models with Keras and train each on; print the digests of its weights."""

import json
import sys

import numpy as np
import tensorflow as tf
import tf_keras

from arrays import digest

tf.config.experimental.enable_op_determinism()
mode, data, paths = sys.argv[1], np.load(sys.argv[2]), sys.argv[3:]


def trained(path):
    model = tf_keras.models.load_model(path)
    model.run_eagerly = mode == "eager"
    tf_keras.utils.set_random_seed(5)
    model.fit(data["x"], data["y"], batch_size=8, shuffle=False, verbose=0)
    return [digest(weight) for weight in model.get_weights()]


print(json.dumps([trained(path) for path in paths]))
