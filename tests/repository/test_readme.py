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
from short_cases import cases

README = (ROOT / "README.md").read_text("utf-8")
PAGES = {
    str(path.relative_to(ROOT)): path.read_text("utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
LINKING = (*PAGES, "CONTRIBUTING.md", "samples/README.md")
FILE = "# fine_tune.py\n"
WORDS = 1300


def blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def with_python():
    return [page for page, text in PAGES.items() if blocks("python", text)]


def test_the_readme_is_short():
    """What stands between blanks is a word, in tables, commands and code too."""
    assert len(README.split()) <= WORDS


def test_every_block_is_of_a_kind_that_is_run():
    """Python, a console session with its output, make targets, and formulas, which are indented."""
    kinds = set(re.findall(r"```(\S+)\n", "".join(PAGES.values())))
    assert kinds == {"python", "console", "sh", "{toctree}"}
    for language in ("sh", "console"):
        assert len(blocks(language)) == len(blocks(language, "".join(PAGES.values()))) == 1


# Keras 3 asks a variable for an array in a way that NumPy 2 warns of.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("page", cases(with_python(), {"README.md", "docs/tutorial.md"}))
def test_python_blocks_run(page, tmp_path, monkeypatch, capsys):
    """Each Python block of a page runs as it stands, after those above, in a folder that has the models it loads."""
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
    names = {"x": x, "y": y}
    for block in blocks("python", PAGES[page]):
        if not block.startswith(FILE):
            exec(compile(block, page, "exec"), names)  # noqa: S102  our own pages
    out = capsys.readouterr().out
    for exported in {"tuned.keras", "tuned_digits.keras"} & {path.name for path in tmp_path.iterdir()}:
        assert "3 of 3 layers with a kernel can be merged" in out
        assert tf_keras.models.load_model(exported).count_params() > 0
    assert Path("serving", "saved_model.pb").exists() is (page == "docs/how_to/serve.md")


@pytest.mark.slow
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


@pytest.mark.parametrize("name", LINKING)
def test_links_lead_somewhere(name):
    """To a file of the repository, and a heading of it."""
    for target in re.findall(r"\]\(([^)]+)\)", (ROOT / name).read_text("utf-8")):
        if not target.startswith("https://"):
            path, _, anchor = target.partition("#")
            to = (ROOT / name).parent / path if path else ROOT / name
            assert to.exists(), target
            heads = re.findall(r"^#+ (.*)$", to.read_text("utf-8"), re.MULTILINE) if anchor else []
            assert not anchor or anchor in {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads}


def test_make_targets_exist():
    """The make commands of the README and CONTRIBUTING are targets of the Makefile, each with a line of help."""
    helped = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert re.findall(r"^make (\w+)", blocks("sh")[0], re.MULTILINE) == ["demo", "test"]
    for name in LINKING:
        assert set(re.findall(r"`make ([a-z]+)[ `]", (ROOT / name).read_text("utf-8"))) <= set(helped)


def test_the_figure_is_what_its_script_draws(tmp_path):
    """It can be drawn anew."""
    script = ROOT / "docs" / "figure.py"
    subprocess.run([sys.executable, str(script), str(tmp_path / "figure.svg")], check=True, capture_output=True)
    assert (tmp_path / "figure.svg").read_text("utf-8").startswith("<?xml")
    assert "figure.svg" in README


@pytest.mark.slow
def test_the_reference_is_built_without_a_warning(tmp_path):
    """Every public name is in it."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "text", str(ROOT / "docs"), str(tmp_path)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    text = "".join(path.read_text("utf-8") for path in tmp_path.rglob("*.txt"))
    for name in set(rewriter.__all__) - {"__version__"}:
        assert name in text
