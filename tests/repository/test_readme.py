"""What the README shows works as shown: each Python block, each command with its output, each figure and link."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tf_keras

import rewriter
from handwriting import LOSS, classifier, split_digits
from models import MODELS, batch
from processes import ROOT, path_with_rewriter, run

README = (ROOT / "README.md").read_text("utf-8")
FILE = "# fine_tune.py\n"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_every_block_is_of_a_kind_that_is_run():
    """Python, a console session with its output, make targets, and formulas, which are indented."""
    assert set(re.findall(r"```(\w+)\n", README)) == {"python", "console", "sh"}
    assert len(blocks("sh")) == len(blocks("console")) == 1


# Keras 3 asks a variable for an array in a way that NumPy 2 warns of.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_python_blocks_run(tmp_path, monkeypatch, capsys):
    """Each Python block runs as it stands, in a folder that has the model it loads."""
    monkeypatch.chdir(tmp_path)
    model = MODELS["nested"]()
    model.compile("sgd", "mse")
    model.save("base.keras")
    decayed = MODELS["nested"]()
    decayed.compile(tf_keras.optimizers.AdamW(), "mse")
    rewriter.rewrite(decayed, "keep")
    x, y = batch()
    decayed.fit(x, y, verbose=0)
    decayed.save("decayed.keras")
    for block in blocks("python"):
        if not block.startswith(FILE):
            exec(compile(block, "README.md", "exec"), {"x": x, "y": y})  # noqa: S102  our own README
    assert "3 of 3 layers with a kernel can be merged" in capsys.readouterr().out
    exported = tf_keras.models.load_model("tuned.keras")
    assert np.isfinite(exported.predict(x, verbose=0)).all()
    assert Path("serving", "saved_model.pb").exists()


def test_console_blocks_print_what_they_show(tmp_path):
    """Each command is run in a process of its own, and prints what the README says, to the letter."""
    data = split_digits()
    model = classifier()
    model._name = "sequential"  # as in a process in which it is the first
    model.compile(tf_keras.optimizers.SGD(0.05, momentum=0.9), LOSS, metrics=["accuracy"])
    model.fit(*data["base"], epochs=2, verbose=0)
    model.save(tmp_path / "base.keras")
    x, y = data["rest"]
    np.savez(tmp_path / "rest.npz", x=x, y=y)
    (script,) = [block for block in blocks("python") if block.startswith(FILE)]
    (tmp_path / "fine_tune.py").write_text(script)
    path = path_with_rewriter(tmp_path)
    session = re.split(r"^\$ (.*)\n", blocks("console")[0], flags=re.MULTILINE)
    assert session[0] == ""
    for command, output in zip(session[1::2], session[2::2], strict=True):
        result = run(command.split(), cwd=tmp_path, env={"PATH": path})
        assert result.returncode == 0, result.stderr
        assert result.stdout == output, command


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "samples/README.md"])
def test_links_lead_somewhere(name):
    """To a file of the repository, or a heading of the page."""
    text = (ROOT / name).read_text("utf-8")
    anchors = {
        re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in anchors
        elif not target.startswith("https://"):
            assert (ROOT / name).parent.joinpath(target).exists(), target


def test_make_targets_exist():
    """The make commands of the README and CONTRIBUTING are targets of the Makefile, each with a line of help."""
    helped = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert re.findall(r"^make (\w+)", blocks("sh")[0], re.MULTILINE) == ["demo", "test"]
    for name in ("README.md", "CONTRIBUTING.md"):
        assert set(re.findall(r"\bmake ([a-z]+)[ `]", (ROOT / name).read_text("utf-8"))) - {"what"} <= set(helped)


def test_the_figure_is_what_its_script_draws(tmp_path):
    """It can be drawn anew."""
    script = ROOT / "docs" / "figure.py"
    subprocess.run([sys.executable, str(script), str(tmp_path / "figure.svg")], check=True, capture_output=True)
    assert (tmp_path / "figure.svg").read_text("utf-8").startswith("<?xml")
    assert "figure.svg" in README


def test_the_reference_is_built_without_a_warning(tmp_path):
    """Every public name is in it."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "text", str(ROOT / "docs"), str(tmp_path)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    text = "".join(path.read_text("utf-8") for path in tmp_path.glob("*.txt"))
    for name in set(rewriter.__all__) - {"__version__"}:
        assert name in text
