"""What the command line says of itself, without TensorFlow."""

import re
import subprocess
import sys

import pytest
import typer
from rewriter.cli import app

import rewriter

COMMANDS = ["inspect", "rewrite", "export", "verify", "benchmark"]


def test_the_help_says_the_defaults(run):
    """Those of JointMomentum, of which the command line knows nothing until TensorFlow is loaded."""
    optimizer = rewriter.JointMomentum()
    help_text = " ".join(run("rewrite", "--help")[1].replace("│", " ").split())
    assert help_text.count("that of a compiled SGD, else") == 2
    assert f"compiled SGD, else {float(optimizer.learning_rate):g}." in help_text
    assert f"compiled SGD, else {optimizer.momentum:g}." in help_text


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("command", [(), ("inspect",), ("rewrite",), ("export",), ("verify",), ("benchmark",)])
def test_the_help_names_every_option_whole(run, monkeypatch, command, columns):
    """And beside it what it takes, in a word: nothing, where it is a flag."""
    monkeypatch.setenv("COLUMNS", str(columns))
    _, said, _ = run(*command, "--help")
    assert "<" not in said.replace("<path>", "")
    options = typer.main.get_command(app)
    for name in command:
        options = options.commands[name]
    names = [name for each in options.params for name in each.opts if name.startswith("--")]
    assert names
    assert all(re.search(rf"\{name} ", said) for name in names)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(run, command):
    """Each command's --help has an example that starts with the command itself."""
    code, out, err = run(command, "--help")
    assert (code, err) == (0, "")
    assert f"rewriter {command} " in out.split("Example:")[1]


def test_help_and_version_do_not_import_tensorflow():
    """They answer in a process in which TensorFlow cannot be imported."""
    script = (
        "import sys; sys.modules.update(dict.fromkeys(['tensorflow', 'tf_keras', 'keras']))\n"
        "from rewriter.cli import main; main()"
    )
    for arguments, expected in (
        (["--help"], "inspect"),
        (["--version"], f"rewriter {rewriter.__version__}"),
        (["rewrite", "--help"], "OUTPUT"),
    ):
        result = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
        assert expected in result.stdout
        assert result.stderr == ""
