"""``rewriter benchmark``: what it measures and says; how long anything took is no test's business."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import rewriter
from models import MODELS, fit
from processes import SUPPORT
from rewriter.commands.benchmark.run import joint_like
from rewriter.commands.data_batches import batch_for
from rules import Rule

ROUND = ("--rounds", 2, "--steps", 1, "--batch-size", 6)
TRAINED_WITH = ["JointMomentum", "the same SGD", "the same SGD, exact=False"]


@pytest.fixture
def base(tmp_path):
    model = MODELS["nested"]()
    model.compile("adam", "mse")
    path = tmp_path / "base.keras"
    model.save(path)
    return path


@pytest.fixture
def _no_memory(monkeypatch):
    """Spare the processes in which memory is measured, where it is not what a test is about."""
    monkeypatch.setattr("rewriter.commands.benchmark.run.peak_memory", lambda _: 1000)


def bytes_of(model, of_layer):
    return sum(4 * of_layer(layer) for layer in model._flatten_layers() if isinstance(layer, layers.Dense))


@pytest.mark.usefixtures("_no_memory")
@pytest.mark.parametrize("rewritten", [False, True])
def test_json(run, base, tmp_path, rewritten):
    if rewritten:
        assert run("rewrite", base, tmp_path / "joint.keras")[0] == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    options = () if rewritten else ("--jit-compile",)
    code, out, err = run("benchmark", tmp_path / "joint.keras" if rewritten else base, *ROUND, "--json", *options)
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert list(result) == [
        "file",
        "batch_size",
        "rounds",
        "times",
        "joint_optimizer",
        "optimizer_state",
        "peak_memory",
    ]
    assert (result["batch_size"], result["rounds"]) == (6, 2)
    measured = [(row["what"], row["rewritten"]) for row in result["times"]]
    assert measured == [
        (what + compiled, name)
        for compiled in ("", ", XLA")[: 1 if rewritten else 2]
        for what, names in (("training step", TRAINED_WITH), ("inference", ["JointMomentum"]))
        for name in names
    ]
    for row in result["times"]:
        assert list(row["ratio"]) == ["of_medians", "median", "low", "high"]
        assert row["ratio"]["of_medians"] == row["rewritten_seconds"] / row["original_seconds"]
    model = tf_keras.models.load_model(base)
    assert result["optimizer_state"] == {
        "original": bytes_of(model, lambda layer: layer.count_params()),
        "rewritten": bytes_of(model, lambda layer: layer.units),
    }
    assert list(result["peak_memory"]) == ["original", "rewritten"]
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


@pytest.mark.slow
def test_a_rule_of_ones_own_is_what_is_measured(run, tmp_path, monkeypatch):
    """In the file's optimizer, with its settings, in the place of joint momentum; also where memory is measured."""
    monkeypatch.chdir(SUPPORT)
    model = MODELS["sequential"]()
    model.compile("sgd", "mse")
    rewriter.rewrite(model, optimizer=Rule(beta=0.25))
    rewriter.save_model(model, tmp_path / "ruled.keras")
    code, out, err = run("benchmark", tmp_path / "ruled.keras", *ROUND, "--json", "--import", "rules")
    assert (code, err) == (0, "")
    result = json.loads(out)
    names = [row["rewritten"] for row in result["times"]]
    assert names == ["Rule", *TRAINED_WITH[1:], "Rule"]
    assert result["joint_optimizer"] == "Rule"
    kernels = [decision.target.augmented_kernel for decision in rewriter.plan(model).merged]
    slots = sum(size for kernel in kernels for size in (*kernel.shape, 1, kernel.shape.num_elements()))
    others = [each for each in model.trainable_variables if rewriter.layout_of(each) is None]
    slots += sum(3 * each.shape.num_elements() + 1 for each in others)
    assert result["optimizer_state"]["rewritten"] == 4 * slots
    assert joint_like(model.optimizer).beta == 0.25
    assert joint_like(model.optimizer) is not model.optimizer


@pytest.mark.usefixtures("_no_memory")
def test_a_rule_that_takes_no_learning_rate_has_its_own(run, tmp_path):
    """And what the measuring itself would warn of is no word to the user."""

    @tf_keras.saving.register_keras_serializable("tests_of_benchmark")
    class Fixed(rewriter.JointOptimizer):
        def __init__(self, rho=0.5):
            super().__init__(0.05)
            self.rho = rho

        def update_layer(self, gradient, variable, layout):  # noqa: ARG002
            variable.assign_sub(self.rho * gradient)

    model = MODELS["sequential"]()
    model.compile("adam", "mse")
    fit(model)
    model.save(tmp_path / "adam.keras")
    rewriter.rewrite(model, optimizer=Fixed())
    fit(model)
    rewriter.save_model(model, tmp_path / "fixed.keras")
    for name in ("fixed.keras", "adam.keras"):
        code, _, err = run("benchmark", tmp_path / name, *ROUND)
        assert (code, err) == (0, "")


@pytest.mark.usefixtures("_no_memory")
def test_other_layers(run, tmp_path):
    """--layers says what is merged, so what the optimizer's state is of."""
    model = tf_keras.Sequential([layers.InputLayer((4, 4, 2)), layers.Conv2D(6, 2), layers.Flatten(), layers.Dense(3)])
    model.save(tmp_path / "base.keras")
    for options, units in (((), 3), (("--layers", "all"), 6 + 3)):
        code, out, _ = run("benchmark", tmp_path / "base.keras", *ROUND, "--json", *options)
        assert code == 0
        unmerged = 0 if options else 2 * 2 * 2 * 6 + 6
        assert json.loads(out)["optimizer_state"]["rewritten"] == 4 * (units + unmerged)


@pytest.mark.usefixtures("_no_memory")
def test_centered_coordinates_are_measured_too(run, base):
    code, out, _ = run("benchmark", base, *ROUND, "--json", "--centered")
    assert code == 0
    measured = [row["rewritten"] for row in json.loads(out)["times"] if row["what"] == "training step"]
    assert measured == [*TRAINED_WITH, "centered SGD", "centered JointMomentum"]


@pytest.mark.slow
def test_memory_is_measured_in_a_process_of_its_own(run, tmp_path):
    """A model that keeps 16 MB of velocities, and one that keeps a few numbers."""
    path = tmp_path / "wide.keras"
    tf_keras.Sequential([layers.Dense(2000, input_shape=(2000,))]).save(path)
    code, out, err = run("benchmark", path, *ROUND, "--json")
    assert (code, err) == (0, "")
    memory = json.loads(out)["peak_memory"]
    assert memory["original"] > memory["rewritten"] + 8_000_000 > 16_000_000


@pytest.mark.usefixtures("_no_memory")
def test_table_and_picture(run, base, tmp_path):
    code, out, err = run("benchmark", base, *ROUND, "--plot", tmp_path / "ratios.svg")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["measured", "rewritten", "with", "original", "rewritten", "ratio", "(quartiles)"]
    assert [line.split("  ")[0].strip() for line in lines[2:-2]] == [
        *["training step"] * 3,
        "inference",
        "optimizer state",
        "peak memory",
    ]
    assert lines[-2:] == [
        "batch of 6, 2 rounds in turn; original: tf-keras SGD with momentum; ratio: rewritten / original",
        f"picture: {tmp_path / 'ratios.svg'}",
    ]
    assert (tmp_path / "ratios.svg").read_text().startswith("<?xml")


@pytest.mark.usefixtures("_no_memory")
def test_data_from_a_file(run, base, tmp_path, generator):
    data = tmp_path / "batch.npz"
    x, y = generator.standard_normal((9, 5)).astype("float32"), generator.standard_normal((9, 3)).astype("float32")
    np.savez(data, x=x, y=y)
    code, out, err = run("benchmark", base, *ROUND, "--data", data, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["batch_size"] == 6


@pytest.mark.usefixtures("_no_memory")
def test_inputs_by_name_and_a_batch_that_the_model_fixes(run, tmp_path, generator):
    one, other = tf_keras.Input((4,), 3, name="one"), tf_keras.Input((2,), 3, name="other")
    model = tf_keras.Model([one, other], layers.Dense(2)(layers.concatenate([one, other])))
    model.save(tmp_path / "two.keras")
    shapes = {"one": (3, 4), "other": (3, 2)}
    data = {name: generator.standard_normal(shape).astype("float32") for name, shape in shapes.items()}
    np.savez(tmp_path / "batch.npz", **data)
    for given in ((), ("--data", tmp_path / "batch.npz")):
        code, out, err = run("benchmark", tmp_path / "two.keras", *ROUND, "--json", *given)
        assert (code, err) == (0, "")
        assert json.loads(out)["batch_size"] == 3


class Silent(tf_keras.Model):
    """Says nothing of its inputs once it is saved without having been called as Keras calls it."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)


def test_mistakes_get_one_line(run, base, tmp_path):
    np.savez(tmp_path / "wrong.npz", z=np.zeros(3))
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 no archive")
    bare = tf_keras.Sequential([layers.Dense(3, use_bias=False, input_shape=(5,))])
    bare.save(tmp_path / "bare.keras")
    uncompiled = MODELS["nested"]()
    uncompiled.save(tmp_path / "uncompiled.keras")
    np.savez(tmp_path / "batch.npz", x=np.zeros((6, 5), "float32"), y=np.zeros((6, 3), "float32"))
    np.savez(tmp_path / "uneven.npz", x=np.zeros((6, 5), "float32"), y=np.zeros((4, 3), "float32"))
    np.savez(tmp_path / "wide.npz", x=np.zeros((6, 9), "float32"))
    np.savez(tmp_path / "empty.npz", x=np.zeros((0, 5), "float32"))
    input_name = tf_keras.models.load_model(base).input_names[0]
    np.save(tmp_path / "single.npy", np.zeros(3))
    (tmp_path / "single.npy").rename(tmp_path / "single.npz")
    np.savez(tmp_path / "targets.npz", x=np.zeros((6, 5), "float32"), y=np.zeros((6, 4, 7), "float32"))
    for arguments, line in (
        ((base, "--data", tmp_path / "targets.npz"), "the model cannot be trained on the targets that are given: "),
        ((base, "--data", tmp_path / "single.npz"), "single.npz: no .npz file of arrays"),
        ((base, "--data", tmp_path / "empty.npz"), "empty.npz has an array without rows"),
        ((base, "--data", tmp_path / "wrong.npz"), f"has z; model needs an array x, or {input_name}."),
        ((base, "--data", tmp_path / "broken.npz"), "broken.npz: no .npz file of arrays"),
        ((base, "--data", tmp_path / "none.npz"), "none.npz does not exist; data is an .npz file"),
        ((base, "--plot", tmp_path / "ratios.xyz"), "ratios.xyz has no ending of a picture; give one of "),
        ((base, "--plot", tmp_path / "no" / "ratios.png"), "no is no folder."),
        ((tmp_path / "bare.keras",), "bare.keras: nothing to merge"),
        ((tmp_path / "uncompiled.keras", "--data", tmp_path / "batch.npz"), "the model has no loss for them"),
        ((base, "--data", tmp_path / "wide.npz"), "--data is no batch that "),
        ((base, "--data", tmp_path / "uneven.npz"), "different numbers of rows: the inputs 6, y 4."),
    ):
        code, out, err = run("benchmark", *arguments, *ROUND)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert line in err


@tf_keras.saving.register_keras_serializable("tests_of_benchmark")
class OneHot(tf_keras.Model):
    """Takes whole numbers, of which a .keras file says nothing."""

    def __init__(self, **options):
        super().__init__(**options)
        self.dense = layers.Dense(2)

    def call(self, inputs):
        return self.dense(tf.one_hot(tf.bitcast(inputs, tf.int32), 4))

    def get_config(self):
        return {}


def test_what_cannot_be_guessed_is_asked_for():
    """In one line, and not with what TensorFlow says of the guess."""
    model = OneHot()
    model(np.zeros((2, 3), "int32"))
    model._saved_model_inputs_spec = None
    model._build_input_shape = {"tokens": (2, 3)}
    with pytest.raises(
        rewriter.ModelError, match=r"knows only the shapes of its inputs, and a batch made from these does not fit: "
    ):
        batch_for(model, 3)


def test_models_without_specs_ask_for_data():
    with pytest.raises(rewriter.ModelError, match=r"does not say what it takes; give it a batch, data="):
        batch_for(Silent(), 3)
