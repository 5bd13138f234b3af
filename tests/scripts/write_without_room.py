"""Write over files where there is no room for the new ones; print what was said, and whether the old ones are there."""

import json
import resource
import sys
from pathlib import Path

import tf_keras

import rewriter
from rewriter.files.formats import digest

model = tf_keras.Sequential([tf_keras.layers.Dense(300, input_shape=(300,))])
model.compile("adam", "mse")
rewriter.rewrite(model)
folder = Path(sys.argv[1])
results = {}
for name in ("model.keras", "model.h5", "model"):
    path = folder / name
    rewriter.save_model(model, path)
    before = digest(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    for write in (rewriter.save_model, rewriter.export):
        try:
            write(model, path, overwrite=True)
            message = None
        except rewriter.FileError as error:
            message = str(error)
        results[f"{write.__name__} {name}"] = [message, digest(path) == before]
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(json.dumps({"results": results, "left": sorted(path.name for path in folder.iterdir())}))
