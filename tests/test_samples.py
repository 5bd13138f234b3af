"""Every sample runs, and does what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_digits(tmp_path):
    """The demo goes from a saved model to an exported one that another process finds equal, and draws a picture."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, str(ROOT / "samples" / "digits.py"), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    assert re.findall(r"^\$ rewriter (\w+)", result.stdout, re.MULTILINE) == ["inspect", "rewrite", "export", "verify"]
    accuracies = [float(number) for number in re.findall(r"│ (0\.\d{4}) ", result.stdout)]
    base, _, tuned, elsewhere = accuracies
    assert elsewhere == tuned > base
    assert (tmp_path / "learning_curves.png").read_bytes().startswith(b"\x89PNG")
