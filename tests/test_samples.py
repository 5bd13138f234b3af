"""Every sample runs, and does what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import fine_tuning
import joint_rules
import lamb_bias

ROOT = Path(__file__).resolve().parent.parent
PNG = b"\x89PNG"


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
    assert (tmp_path / "learning_curves.png").read_bytes().startswith(PNG)


def test_joint_rules(capsys):
    """Each rule trains the digits, to better than chance in an epoch."""
    joint_rules.main(epochs=1)
    accuracies = [float(number) for number in re.findall(r"│ (0\.\d{4}) ", capsys.readouterr().out)]
    assert len(accuracies) == len(joint_rules.RULES)
    assert min(accuracies) > 0.2


def test_lamb_bias(capsys, tmp_path):
    """Biases move further with one trust ratio a layer, in few steps too, and the picture is drawn."""
    lamb_bias.main(tmp_path, 150)
    separate, merged = re.findall(r"hidden_2 (\d\.\d+)", capsys.readouterr().out)
    assert float(merged) > float(separate) > 0
    assert (tmp_path / "lamb_bias.png").read_bytes().startswith(PNG)


def test_fine_tuning(capsys, tmp_path, monkeypatch):
    """A small run of the comparison: the three optimizers start alike, and all learn."""
    monkeypatch.setattr(fine_tuning, "EPOCHS", 4)
    fine_tuning.main(tmp_path, range(1), range(100, 101), [0.0625])
    accuracies = [float(number) for number in re.findall(r"│ (0\.\d{4}) ± ", capsys.readouterr().out)]
    assert len(accuracies) == 3
    assert min(accuracies) > 0.5
    assert (tmp_path / "fine_tuning.png").read_bytes().startswith(PNG)
