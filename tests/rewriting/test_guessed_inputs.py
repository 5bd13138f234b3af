"""A model that does not say what it takes is run on what it was built with: a guess, which leaves nothing behind."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import rewriter
from models import ReadsClass


@tf_keras.saving.register_keras_serializable("tests_of_the_check")
class Looking(tf_keras.Model):
    """A subclassed model that takes indices and a mask, in a dict, and attends."""

    def __init__(self, **options):
        super().__init__(**options)
        self.table = layers.Embedding(3, 4)
        self.attend = layers.MultiHeadAttention(2, 3)
        self.dense = layers.Dense(4)
        self.watcher = ReadsClass(self.dense)

    def call(self, inputs):
        found = self.table(inputs["tokens"])
        mask = tf.cast(inputs["mask"], tf.bool)
        attended = self.attend(found, found, attention_mask=mask[:, None, :])
        return self.watcher(self.dense(attended))

    def get_config(self):
        return {}


def test_a_model_that_was_read_and_not_called_is_run_on_what_it_was_built_with(run, tmp_path):
    """A .keras file says shapes and no dtypes; nothing of the guess stays in the model."""
    tokens, path = np.array([[0, 1, 2, 1, 0]] * 3), tmp_path / "looking.keras"
    batch = {"tokens": tokens, "mask": np.ones((3, 5), bool)}
    model = Looking(name="looking")
    model(batch)
    model.save(path)
    read = rewriter.load_model(path)
    with pytest.raises(rewriter.DifferenceError, match=r"^watcher: its outputs differ"):
        rewriter.rewrite(read, include="dense")
    assert read._saved_model_inputs_spec is None
    report = rewriter.verify(read, model)
    assert report.same
    assert [one.path for one in report.comparisons if one.what == "outputs"][-2:] == ["watcher", "model"]
    assert [one.place for one in rewriter.plan(read, discover=True).remarks] == ["table.embeddings", "watcher.scale"]
    assert read._saved_model_inputs_spec is None

    np.savez(tmp_path / "batch.npz", y=tokens, **batch)
    command = ("rewrite", path, tmp_path / "folder", "--layers", "einsum")
    code, _, err = run(*command)
    assert (code, (tmp_path / "folder").exists()) == (2, False)
    assert "a SavedModel says what its model takes, and looking" in err
    assert "rewrite and export do that with --data" in err
    code, out, err = run(*command, "--data", tmp_path / "batch.npz")
    assert (code, err) == (0, "")
    note = "note: tf_keras.models.load_model gives new weights to attend, without a warning"
    assert note in out
    code, out, _ = run("export", path, tmp_path / "plain", "--data", tmp_path / "batch.npz")
    assert (code, note in out) == (0, True)
    assert run("rewrite", path, tmp_path / "joint.keras", "--layers", "einsum")[0] == 0
    again = ("rewrite", tmp_path / "joint.keras", tmp_path / "again", *command[3:], "--data", tmp_path / "batch.npz")
    assert run(*again)[::2] == (0, "")
    rewriter.save_model(rewriter.load_model(path), tmp_path / "untraced", save_traces=False)


class Lazy(tf_keras.Model):
    """Builds its second layer when it is called, for what it is called with."""

    def __init__(self, **options):
        super().__init__(**options)
        self.first, self.flatten, self.second = layers.Dense(4), layers.Flatten(), layers.Dense(2)

    def build(self, input_shape):
        self.first.build(input_shape)
        self.built = True
        self._build_input_shape = input_shape

    def call(self, inputs):
        return self.second(self.flatten(self.first(inputs)))


def test_a_guess_builds_no_layers(caplog):
    """They would be built for sizes that are made up."""
    model = Lazy()
    model.build((None, None, 3))
    with caplog.at_level("WARNING", logger="rewriter"), pytest.warns(UserWarning, match="rewritten in part"):
        rewriter.rewrite(model)
    assert "not compared: the model has layers that are not built" in caplog.text
    assert not model.second.built
    assert model(tf.ones((2, 7, 3))).shape == (2, 2)


@pytest.mark.parametrize(
    "shapes", [tf.TensorShape(None), [(None, 4), None], {"a": (None, 4), "b": tf.TensorShape(None)}]
)
def test_a_shape_that_says_nothing_is_no_guess(shapes):
    """Of an input of unknown rank, or of none."""
    model = Lazy()
    model.first.build((None, 4))
    model.built, model._build_input_shape = True, shapes
    model.second.build((None, 4))
    model.flatten.built = True
    assert rewriter.verify(model, model).note == (
        "outputs not compared: the first model does not say what it takes; pass inputs="
    )
    rewriter.rewrite(model)
