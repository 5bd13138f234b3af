"""Load files with Keras; print what it says where it cannot."""

import json
import sys

import tf_keras

messages = []
for path in sys.argv[1:]:
    try:
        tf_keras.models.load_model(path)
    except Exception as error:  # noqa: BLE001  whatever Keras raises
        messages.append(str(error))
print(json.dumps(messages))
