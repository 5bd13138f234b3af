"""A wrong guess is answered with the right name."""

import pytest
import tf_keras
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
        ({"include": "heads"}, "Did you mean 'head'"),
        ({"exclude": "Dense"}, r"is a class.*lambda layer: isinstance\(layer, Dense\)"),
        ({"layers": "Dense"}, "Did you mean 'dense'"),
        ({"layers": "LSTM"}, "Did you mean 'recurrent'"),
        ({"layers": None}, "takes the names of families"),
        ({"include": "HEAD"}, "Did you mean 'head'"),
    ],
)
def test_of_rewrite(model, guess, answer):
    """Optimizers, paths and families."""
    with pytest.raises(rewriter.RewriterError, match=answer):
        rewriter.rewrite(model, **guess)


def test_of_names():
    """Of the package, and of a setting that tf-keras would pass over."""
    with pytest.raises(AttributeError, match=r"Did you mean 'rewrite'\?"):
        _ = rewriter.rewite
    with pytest.raises(TypeError, match="takes learning_rate=, not lr="):
        rewriter.JointMomentum(lr=0.1)


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
    ]:
        code, _, err = run(*arguments)
        assert code == 2
        assert answer in err
    code, out, _ = run("rewrite", tmp_path / "base.keras", "--dry-run")
    assert code == 0
    assert out.endswith("dry run: nothing written\n")


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
    with pytest.raises(NotImplementedError, match="Empty must implement update_layer"):
        Empty()
