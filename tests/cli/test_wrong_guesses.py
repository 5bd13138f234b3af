"""A wrong guess is answered with the right name."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import typer
from rewriter.cli import app, wrong_names
from rewriter.cli.option_hints import Options
from tf_keras import layers

import rewriter
from rewriter.core import hints


@pytest.fixture
def model():
    model = tf_keras.Sequential([layers.Dense(4, input_shape=(3,), name="encoder"), layers.Dense(2, name="head")])
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize(
    ("guess", "answer"),
    [
        ({"optimizer": "Kept"}, "Did you mean 'keep'"),
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
        ({"inputs": tf.data.Dataset.from_tensors(np.ones((2, 3)))}, r"a tf.data.Dataset has many: give the x of one"),
        ({"inputs": "batch.npz"}, "inputs= is a batch of arrays, and 'batch.npz' is text"),
        ({"inputs": np.ones((0, 3))}, "inputs= has an array without rows"),
        ({"layers": "attention"}, "Did you mean 'einsum'"),
        ({"inputs": np.zeros((2, 9))}, "inputs= is no batch that sequential.* takes: .*incompatible"),
    ],
)
def test_of_rewrite(model, guess, answer):
    """Optimizers, paths and families."""
    with pytest.raises(rewriter.RewriterError, match=answer):
        rewriter.rewrite(model, **guess)


def test_of_what_is_on_or_off(model, tmp_path):
    """A word counts as on in Python, ``"no"`` too; here it is asked again, before a file is replaced."""
    path = tmp_path / "there.keras"
    path.touch()
    for refused, call in {
        "strict must be True or False, got 'no'": lambda: rewriter.rewrite(model, strict="no"),
        "discover must be True or False, got 'gate'": lambda: rewriter.plan(model, discover="gate"),
        "check must be True or False, got None": lambda: rewriter.rewrite(model, check=None),
        "exact must be True or False, got 'no'": lambda: rewriter.rewrite(model, exact="no"),
        "overwrite must be True or False, got 'tf'": lambda: rewriter.export(model, path, "tf"),
        "safe_mode must be True or False, got 2": lambda: rewriter.load_model(path, safe_mode=2),
        "nesterov must be True or False, got 'no'": lambda: rewriter.JointMomentum(nesterov="no"),
        "use_ema must be True or False, got 0.99": lambda: rewriter.JointMomentum(use_ema=0.99),
    }.items():
        with pytest.raises(TypeError, match=refused):
            call()
    assert path.read_bytes() == b""
    assert not rewriter.plan(model, strict=1, discover=np.False_).merged
    assert rewriter.JointMomentum(nesterov=1).nesterov


def test_of_leaving_out_what_is_merged(run, model, tmp_path):
    """It stays merged, and the plan says so, and what takes it apart."""
    rewriter.rewrite(model)
    encoder, head = rewriter.plan(model, exclude="head").decisions
    assert (encoder.reason, encoder.is_merged, head.is_merged) == ("already merged", True, True)
    assert head.reason == "already merged: exclude= does not split a layer, rewriter.split(model) splits them all"
    assert "merged [1]" in str(rewriter.plan(model, exclude="head"))
    rewriter.save_model(model, tmp_path / "joint.keras")
    _, out, _ = run("inspect", tmp_path / "joint.keras", "--exclude", "head")
    assert "[1] already merged: --exclude does not split a layer, `rewriter export MODEL OUTPUT` splits them all" in out


def test_of_a_path_by_its_end():
    """The name of a layer that is inside another is not its path."""
    inner = tf_keras.Sequential([layers.Dense(4, input_shape=(3,), name="up")], name="block")
    outer = tf_keras.Sequential([inner, layers.Dense(2, name="head")])
    with pytest.raises(rewriter.SelectorError, match=r"Did you mean 'block/up'\?"):
        rewriter.plan(outer, include="up")
    with pytest.raises(rewriter.SelectorError, match=r"The first are 'block/up', 'head'\."):
        rewriter.plan(outer, include="qqq")


def test_of_setting_a_view(model):
    """Kernel and bias of a merged layer are read; what sets them is named, for an assignment and for set_weights."""
    weights = model.layers[0].get_weights()
    rewriter.rewrite(model)
    with pytest.raises(rewriter.ModelError, match=r"kernel of encoder is a view.* rewriter.standard_form"):
        model.layers[0].kernel = np.ones((3, 4))
    with pytest.raises(rewriter.ModelError, match=r"encoder is merged and has 1 weights, and was given 2"):
        model.layers[0].set_weights(weights)
    model.layers[0].set_weights(model.layers[0].get_weights())
    with rewriter.standard_form(model):
        model.layers[0].set_weights(weights)


def test_of_a_batch_is_answered_without_tensorflow_s_places():
    """A name that is missing is said as it is, and shapes without the device they met on."""

    class Named(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, inputs):
            return self.dense(inputs["left"] + inputs["right"])

    named, rows = Named(), np.ones((2, 3), "float32")
    named({"left": rows, "right": rows})
    with pytest.raises(rewriter.ModelError, match=r"takes: Exception encountered when calling layer .* right$"):
        rewriter.rewrite(named, inputs={"left": rows})
    with pytest.raises(rewriter.ModelError, match="takes: ") as raised:
        rewriter.rewrite(named, inputs={"left": rows, "right": np.ones((5, 7), "float32")})
    assert not re.search(r"\{\{|\[Op", str(raised.value))


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
        with pytest.raises(
            TypeError, match=f"takes no {name}=. Did you mean '{meant}'\\? It takes average, centered, clipnorm"
        ):
            rewriter.JointMomentum(**{name: 0.1})


def test_of_the_command_line(run, model, tmp_path):
    """Options, commands, and what an option takes."""
    model.save(tmp_path / "base.keras")
    for arguments, answer in [
        (("inspect", tmp_path / "base.keras", "--layer", "conv"), "--layers"),
        (("inspct", tmp_path / "base.keras"), "inspect"),
        (("split", tmp_path / "base.keras"), "Did you mean 'export'"),
        (("rewrite", tmp_path / "base.keras"), "give OUTPUT"),
        (("inspect", tmp_path / "base.keras", "--include", "haed"), "Did you mean 'head'"),
        (("rewrite", tmp_path / "base.keras", "--lr", "0.1"), "Did you mean '--learning-rate'?"),
        (("rewrite", tmp_path / "base.keras", "--keep"), "Did you mean '--keep-optimizer'?"),
        (("export", tmp_path / "base.keras", "--output=x"), "Did you mean 'OUTPUT'? It stands by itself."),
    ]:
        code, _, err = run(*arguments)
        assert code == 2
        assert answer in err
    code, out, _ = run("rewrite", tmp_path / "base.keras", "--dry-run")
    assert code == 0
    assert out.endswith("dry run: nothing written\n")


@pytest.mark.parametrize(
    ("option", "expected", "given"),
    [
        (("benchmark", "m", "--rounds"), "a whole number of 1 or more", ["0", "2.5", "ten"]),
        (("rewrite", "m", "--learning-rate"), "a number of 0 or more", ["-1", "inf", "fast"]),
        (("rewrite", "m", "--momentum"), "a number from 0 to 1", ["1.5", "-0.1", "nan"]),
    ],
)
def test_of_a_number(run, option, expected, given):
    """The answer repeats what was given."""
    for each in given:
        code, _, err = run(*option, each)
        assert code == 2
        assert f"Invalid value for '{option[-1]}': '{each}' is not {expected}." in err


EVERY_HINT = [
    *(value for value in vars(hints).values() if isinstance(value, hints.Argument | hints.Action)),
    *(hints.Argument(name) for name in ("layers", "include", "exclude")),
    hints.Argument("overwrite", True),
    hints.Argument("safe_mode", False),
    hints.import_of(),
    hints.or_pass(),
    hints.selectors_of("Dense"),
]


def test_what_is_meant_is_there():
    """Each command, option and argument that an answer names is one that the command line has."""
    commands = typer.main.get_command(app).commands
    parameters = [parameter for command in commands.values() for parameter in command.params]
    there = {name for each in parameters for name in (*each.opts, each.metavar)}
    with hints.worded(Options()):
        said = " ".join(map(str, EVERY_HINT))
    named = set(re.findall(r"--[a-z]+(?:-[a-z]+)*", said))
    assert set(re.findall(r"rewriter ([a-z]+)", said)) | set(wrong_names._COMMANDS.values()) <= set(commands)
    assert set(wrong_names._OPTIONS.values()) | named <= there
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
