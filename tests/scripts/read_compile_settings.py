"""Load compiled models with Keras; print what each was compiled with."""

import json
import sys

import tensorflow as tf
import tf_keras


def absolute_error(target, output):
    return tf.reduce_mean(tf.abs(target - output), axis=-1)


results = []
for path in sys.argv[1:]:
    model = tf_keras.models.load_model(path, {"absolute_error": absolute_error})
    config = model.get_compile_config()
    optimizer = config.pop("optimizer")["config"]
    rate, momentum = optimizer["learning_rate"]["config"], optimizer["momentum"]
    results.append([config, rate, momentum, type(model.optimizer).__name__, int(model.optimizer.iterations)])
print(json.dumps(results))
