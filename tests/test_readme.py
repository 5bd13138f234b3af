"""What the README shows works as shown."""

import re
from pathlib import Path

import numpy as np
import tf_keras

from models import MODELS, batch

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def test_python_blocks_run(tmp_path, monkeypatch, capsys):
    """Each Python block runs as it stands, in a folder that has the model it loads."""
    monkeypatch.chdir(tmp_path)
    model = MODELS["nested"]()
    model.compile("sgd", "mse")
    model.save("base.keras")
    x, y = batch()
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {"x": x, "y": y})  # noqa: S102  our own README
    assert "3 to merge" in capsys.readouterr().out
    exported = tf_keras.models.load_model("tuned.keras")
    assert np.isfinite(exported.predict(x, verbose=0)).all()
    assert Path("serving", "saved_model.pb").exists()


def test_make_targets_exist():
    """The README's make commands are targets of the Makefile."""
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    commands = re.findall(r"^make (\w+)", README, re.MULTILINE)
    assert set(commands) == {"demo", "test"}
    assert set(commands) <= set(targets)
