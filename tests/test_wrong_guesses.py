"""A wrong guess is answered with the right name."""

import re

import keras
import numpy as np
import pytest
import tf_keras
import typer
from rewriter.cli import app, guesses, words
from tf_keras import layers

import rewriter


@pytest.fixture
def model():
    model = tf_keras.Sequential([layers.Dense(4, input_shape=(3,), name="encoder"), layers.Dense(2, name="head")])
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize(
    ("guess", "answer"),
    [
        ({"optimizer": "Keep"}, "Did you mean 'keep'"),
        ({"optimizer": "adam"}, r"make one, as in tf_keras\.optimizers\.Adam"),
        ({"optimizer": rewriter.JointMomentum}, r"Make one: JointMomentum\(\.\.\.\)"),
        ({"optimizer": keras.optimizers.SGD()}, r"one of Keras 3; make one of tf_keras\.optimizers"),
        ({"include": "heads"}, "Did you mean 'head'"),
        ({"exclude": "Dense"}, r"is a class.*lambda layer: isinstance\(layer, Dense\)"),
        ({"layers": "Dense"}, "Did you mean 'dense'"),
        ({"layers": "LSTM"}, "Did you mean 'recurrent'"),
        ({"layers": None}, "takes the names of families"),
        ({"include": "HEAD"}, "Did you mean 'head'"),
        ({"include": layers.Dense}, r"got the class Dense; give lambda layer: isinstance\(layer, Dense\)"),
        ({"exclude": [layers.Dense(3, name="third")]}, "got the layer third itself; give its path"),
        ({"inputs": 3}, "inputs= is no batch that sequential.* takes"),
        ({"inputs": np.zeros((2, 9))}, "inputs= is no batch that sequential.* takes: .*incompatible"),
    ],
)
def test_of_rewrite(model, guess, answer):
    """Optimizers, paths and families."""
    with pytest.raises(rewriter.RewriterError, match=answer):
        rewriter.rewrite(model, **guess)


def test_of_a_path(model):
    """What is no path is said to be none."""
    for call in (rewriter.save_model, rewriter.export):
        with pytest.raises(rewriter.FileError, match=r"a path is a str or a pathlib\.Path, got 3"):
            call(model, 3)
    with pytest.raises(rewriter.FileError, match=r"a path is a str or a pathlib\.Path, got None"):
        rewriter.load_model(None)


def test_of_names():
    """Of the package, and of a setting that tf-keras would pass over."""
    with pytest.raises(AttributeError, match=r"Did you mean 'rewrite'\?"):
        _ = rewriter.rewite
    for name, meant in {"lr": "learning_rate", "beta": "momentum", "weight_deacy": "weight_decay"}.items():
        with pytest.raises(TypeError, match=f"takes no {name}=. Did you mean {meant}=\\? It takes average, clipnorm"):
            rewriter.JointMomentum(**{name: 0.1})


def test_of_the_command_line(run, model, tmp_path):
    """Options, commands, and what an option takes."""
    model.save(tmp_path / "base.keras")
    for arguments, answer in [
        (("inspect", tmp_path / "base.keras", "--layer", "conv"), "--layers"),
        (("inspct", tmp_path / "base.keras"), "inspect"),
        (("split", tmp_path / "base.keras"), "Did you mean 'export'"),
        (("rewrite", tmp_path / "base.keras"), "give OUTPUT"),
        (("rewrite", tmp_path / "base.keras", tmp_path / "o.keras", "--momentum", "1.5"), "--momentum"),
        (("inspect", tmp_path / "base.keras", "--include", "haed"), "Did you mean 'head'"),
        (("rewrite", tmp_path / "base.keras", "--lr", "0.1"), "Did you mean --learning-rate?"),
        (("rewrite", tmp_path / "base.keras", "--keep"), "Did you mean --keep-optimizer?"),
        (("export", tmp_path / "base.keras", "--output=x"), "Did you mean OUTPUT, by itself?"),
    ]:
        code, _, err = run(*arguments)
        assert code == 2
        assert answer in err
    code, out, _ = run("rewrite", tmp_path / "base.keras", "--dry-run")
    assert code == 0
    assert out.endswith("dry run: nothing written\n")


def test_what_is_meant_is_there():
    """Each command, option and argument that an answer names is one that the command line has."""
    commands = typer.main.get_command(app).commands
    parameters = [parameter for command in commands.values() for parameter in command.params]
    there = {name for each in parameters for name in (*each.opts, each.metavar)}
    named = {option for _, said in words._OPTIONS for option in re.findall(r"--[a-z]+(?:-[a-z]+)*", said)}
    assert set(guesses._COMMANDS.values()) <= set(commands)
    assert set(guesses._OPTIONS.values()) | named <= there
    assert {"--data", "--import", "--keep-optimizer"} <= named


def test_of_a_rule_of_ones_own():
    """When it is made, and not in the middle of the first epoch."""

    class Misspelt(rewriter.JointOptimizer):
        slots = {"velocity": "fulll"}

        def update_layer(self, gradient, variable, layout):
            pass

    class Empty(rewriter.JointOptimizer):
        pass

    with pytest.raises(ValueError, match="the extent of slot 'velocity' of Misspelt must be one of"):
        Misspelt()

    class Listed(Misspelt):
        slots = ["velocity"]

    with pytest.raises(TypeError, match=r"Listed.slots must be a dict, as .*; got \['velocity'\]"):
        Listed()
    with pytest.raises(NotImplementedError, match="Empty must implement update_layer"):
        Empty()
