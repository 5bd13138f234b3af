"""Load models with Keras; print each one's classes, weight names, weights and outputs, digested."""

import json
import sys

import numpy as np
import tf_keras

from arrays import digest

x = np.load(sys.argv[1])


def state(path):
    model = tf_keras.models.load_model(path)
    return {
        "classes": [type(layer).__module__ + "." + type(layer).__name__ for layer in model.layers],
        "names": [weight.name for weight in model.weights],
        "weights": [[str(w.dtype), list(w.shape), digest(w)] for w in model.get_weights()],
        "outputs": digest(model.predict(x, verbose=0)),
        "optimizer": type(model.optimizer).__name__ if model.optimizer else None,
    }


print(json.dumps([state(path) for path in sys.argv[2:]]))
