"""Run the sample two_workers.py; print how far its two workers were from one."""

import io
import json
import re
import runpy
import sys
from contextlib import redirect_stdout

from processes import ROOT

sys.argv = ["two_workers.py", sys.argv[1]]
sys.path.insert(0, str(ROOT / "samples"))
with redirect_stdout(io.StringIO()) as output:
    runpy.run_path(str(ROOT / "samples" / "two_workers.py"), run_name="__main__")
print(json.dumps(float(re.search(r"relative: (.*)", output.getvalue()).group(1))))
