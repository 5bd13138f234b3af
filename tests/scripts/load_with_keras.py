"""Load a rewritten file with Keras, split the model, and print its weights."""

import json
import sys

import tf_keras

import old_file_models  # noqa: F401  registers its layers
import rewriter

model = tf_keras.models.load_model(sys.argv[1])
rewriter.split(model)
print(json.dumps([[str(each.dtype), list(each.shape), each.tobytes().hex()] for each in model.get_weights()]))
