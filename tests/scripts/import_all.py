"""Import the modules of an installed library, but those for torch; print those that came from elsewhere."""

import importlib
import json
import sys

installed, modules = sys.argv[1], [name for name in sys.argv[2:] if ".fused.torch_" not in name]
sys.path.insert(0, installed)
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in str(finder)]
importlib.import_module("tf_keras")
outside = [name for name in modules if not importlib.import_module(name).__file__.startswith(installed)]
print(json.dumps({"outside": outside}))
