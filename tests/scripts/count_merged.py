"""Load a rewritten file; print how many layers are merged, and what the model computes."""

import json
import sys

import hand_made_models  # noqa: F401  registers its layers
import rewriter
from models import batch

model = rewriter.load_model(sys.argv[1])
print(json.dumps([len(rewriter.plan(model).merged), model.predict(batch()[0], verbose=0).tolist()]))
