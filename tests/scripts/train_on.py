"""Load a model that trains under a rule of the user's own, and train on; print all weights and state."""

import json
import sys

import rewriter
import rules  # noqa: F401  registers them
from models import fit

model = rewriter.load_model(sys.argv[1])
fit(model)
arrays = [*model.get_weights(), *(variable.numpy() for variable in model.optimizer.variables)]
print(json.dumps([array.tobytes().hex() for array in arrays]))
