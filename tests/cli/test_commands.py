"""The command line: whole life cycles, exit codes, and one clear line for each mistake."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tf_keras
from rewriter.cli.option_hints import Options
from tf_keras import layers

import rewriter
from models import MODELS, fit
from rewriter.core import hints
from rewriter.files import formats
from warm_python import WARM_PYTHON


@pytest.fixture
def base(tmp_path):
    """A trained standard model in a file."""
    model = MODELS["nested"]()
    model.compile(tf_keras.optimizers.SGD(0.05, momentum=0.9), "mse")
    fit(model)
    path = tmp_path / "base.keras"
    model.save(path)
    return path


@pytest.mark.parametrize("suffix", [".keras", ".h5", ""])
def test_life_cycle(run, base, tmp_path, suffix):
    """rewrite, inspect, export, verify: every step exits with 0 and the ends are the same function."""
    joint, plain = tmp_path / f"joint{suffix}", tmp_path / f"plain{suffix}"
    code, out, err = run("rewrite", base, joint)
    assert (code, err) == (0, "")
    assert "3 of 3 layers with a kernel merged" in out
    assert out.splitlines()[-7:] == [
        "optimizer: SGD converted to centered JointMomentum",
        "learning_rate: 0.05 kept",
        "momentum: 0.9 kept",
        "velocity: 6 slots converted, divided by the learning rate, to their mean per unit where merged",
        "iterations: 3 kept",
        "centered: 3 of 3 merged",
        f"written: {joint}",
    ]
    code, out, err = run("inspect", joint, "--strict")
    assert (code, err) == (0, "")
    assert "3 of 3 layers with a kernel merged;" in out
    sha256 = formats.digest(base)
    assert f"rewritten by keras-rewriter {rewriter.__version__} with tf-keras {tf_keras.__version__}, file" in out
    assert (
        f"source sha256: {sha256}\nsettings: optimizer: SGD converted to centered JointMomentum; selectors: none\n"
        in out
    )
    assert "inner/first           Dense  6x6  kernel 5x6 + bias 6\n" in out
    code, out, err = run("export", joint, plain)
    assert (code, err) == (0, "")
    assert "3 layers split back into kernel and bias: inner/first, inner/innermost/deep, last" in out
    for pair in ((base, joint), (joint, plain), (base, plain)):
        assert run("verify", *pair) == (0, "same: 6 weights bit for bit, 4 outputs compared\n", "")
    assert all(
        type(layer) is not layers.Dense or layer.bias is not None for layer in tf_keras.models.load_model(plain).layers
    )


def test_verify_exits_with_1_where_models_differ(run, base, tmp_path):
    """The answer no has a code of its own, and the first difference is named."""
    other = tf_keras.models.load_model(base)
    fit(other)
    other.save(tmp_path / "other.keras")
    code, out, err = run("verify", base, tmp_path / "other.keras")
    assert (code, err) == (1, "")
    assert out.endswith("different: 6 of 6 weights, 4 of 4 outputs\n")
    assert "inner/first" in out
    code, out, _ = run("verify", base, tmp_path / "other.keras", "--json")
    assert code == 1
    assert json.loads(out)["same"] is False


def test_data_is_what_a_model_is_run_on(run, tmp_path):
    """Where nothing that could be made fits; what does not fit either is refused."""
    layered = [layers.InputLayer((None, 3)), layers.Conv1D(4, 40), layers.Dense(2)]
    base, joint = tmp_path / "base.keras", tmp_path / "joint.keras"
    tf_keras.Sequential(layered).save(base)
    fitting, other = tmp_path / "fitting.npz", tmp_path / "other.npz"
    np.savez(fitting, x=np.ones((3, 50, 3), "float32"))
    np.savez(other, x=np.ones((3, 50, 4), "float32"))
    for command in (("inspect", base), ("rewrite", base, joint)):
        code, _, err = run(*command, "--discover", "--data", fitting)
        assert (code, err) == (0, "")
    _, out, _ = run("verify", base, joint)
    assert out.startswith(
        "same: 4 weights bit for bit, 0 outputs compared\noutputs not compared: the first model raised"
    )
    assert out.endswith("; pass --data\n")
    assert run("verify", base, joint, "--data", fitting)[1] == "same: 4 weights bit for bit, 3 outputs compared\n"
    for command in (("rewrite", base, tmp_path / "none.keras"), ("verify", base, joint)):
        code, out, err = run(*command, "--data", other)
        assert (code, out) == (2, "")
        assert err.startswith("rewriter: --data is no batch that sequential")
    assert not (tmp_path / "none.keras").exists()


def test_data_of_several_inputs_is_by_name(run, tmp_path):
    """An ``x`` could be either of them."""
    inputs = {name: layers.Input((3,), name=name) for name in ("left", "right")}
    joined = layers.Dense(2)(layers.Concatenate()([*inputs.values()]))
    tf_keras.Model(inputs, joined, name="twins").save(tmp_path / "base.keras")
    rows = np.ones((3, 3), "float32")
    np.savez(tmp_path / "uneven.npz", left=rows, right=np.ones((9, 3)))
    _, _, err = run("verify", tmp_path / "base.keras", tmp_path / "base.keras", "--data", tmp_path / "uneven.npz")
    assert err.endswith("uneven.npz: its arrays have different numbers of rows: left 3, right 9.\n")
    for name, arrays in {"x": {"x": rows}, "one": {"left": rows}, "both": {"left": rows, "right": rows}}.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
        code, _, err = run("rewrite", tmp_path / "base.keras", tmp_path / name, "--data", tmp_path / f"{name}.npz")
        missing = f"{name}.npz has {', '.join(arrays)}; twins needs an array for each of its inputs: left, right.\n"
        assert (code, missing in err) == ((0, False) if name == "both" else (2, True))


def test_a_model_without_any_kernel_is_said_to_have_none(run, tmp_path):
    """There is no layer of which a reason could be given."""
    tf_keras.Sequential([layers.Flatten(input_shape=(3, 2))]).save(tmp_path / "flat.keras")
    code, _, err = run("rewrite", tmp_path / "flat.keras", tmp_path / "joint.keras")
    assert code == 2
    assert "flat.keras: nothing to merge. No layer of it has a kernel. See rewriter inspect " in err


def test_a_warning_is_printed_once(run, tmp_path, caplog):
    """Among the lines of the result, beside the one before anything is written; not by whoever shows what is logged."""
    caplog.set_level("WARNING", logger="rewriter")
    model = tf_keras.Sequential([layers.Dense(2, input_shape=(3,))])
    model.compile("adam", "mse")
    model.fit(np.ones((2, 3)), np.ones((2, 2)), verbose=0)
    model.save(tmp_path / "adam.keras")
    code, out, err = run("rewrite", tmp_path / "adam.keras", tmp_path / "joint.keras")
    said = "state of Adam: lost, 4 slots and 1 iteration; --keep-optimizer or --centered keeps it"
    assert (code, err, out.count(said)) == (0, f"warning: {said}\n", 1)
    assert caplog.messages == []


def test_json_is_in_the_words_of_the_command_line(run, tmp_path):
    """Its messages, and no names in it."""
    model = tf_keras.Sequential([layers.Dense(2, input_shape=(3,), name="dense")])
    model.compile("adam", "mse")
    model.fit(np.ones((2, 3)), np.ones((2, 2)), verbose=0)
    model.save(tmp_path / "inputs=.keras")
    result = json.loads(run("rewrite", tmp_path / "inputs=.keras", tmp_path / "joint.keras", "--json")[1])
    assert result["optimizer"][1].endswith("; --keep-optimizer or --centered keeps it")
    assert result["file"].endswith("inputs=.keras")


@pytest.mark.parametrize(
    ("hint", "in_python", "in_options"),
    [
        (hints.Argument("layers", "all"), "layers='all'", "--layers 'all'"),
        (hints.Argument("exclude", "head"), "exclude='head'", "--exclude 'head'"),
        (hints.Argument("exclude", ["a", "b"]), "exclude=['a', 'b']", "--exclude 'a' --exclude 'b'"),
        (hints.EXCLUDE, "exclude=", "--exclude"),
        (hints.INPUTS, "inputs=", "--data"),
        (hints.STRICT, "strict=True", "--strict"),
        (hints.DISCOVER, "discover=True", "--discover"),
        (hints.KEEP_OPTIMIZER, "optimizer='keep'", "--keep-optimizer"),
        (
            hints.NEW_OPTIMIZER,
            "Pass optimizer=None for joint momentum, or another optimizer",
            "Leave out --keep-optimizer for joint momentum",
        ),
        (hints.Argument("overwrite", True), "overwrite=True", "--overwrite"),
        (hints.Argument("safe_mode", False), "safe_mode=False", "--allow-lambda"),
        (hints.import_of("own_layers"), "import own_layers first", "give --import own_layers"),
        (hints.or_pass("{'A': A}"), ", or pass custom_objects={'A': A}", ""),
        (
            hints.selectors_of("Dense"),
            "a callable, lambda layer: isinstance(layer, Dense), or paths",
            "paths",
        ),
        (hints.PLAN, "rewriter.plan(model)", "rewriter inspect MODEL"),
        (hints.SPLIT, "rewriter.split(model)", "`rewriter export MODEL OUTPUT`"),
    ],
    ids=str,
)
def test_hints_are_in_the_words_of_the_command_line(hint, in_python, in_options):
    """The library speaks of its arguments; here they are options."""
    assert str(hint) == in_python
    with hints.worded(Options()):
        assert str(hint) == in_options
    assert str(hint) == in_python


@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
def test_a_model_that_is_not_built_is_said_to_be_none(run, tmp_path):
    """And not that other layers might be merged."""
    tf_keras.Sequential([layers.Dense(2, name="dense")], name="unbuilt").save(tmp_path / "unbuilt.keras")
    code, out, err = run("rewrite", tmp_path / "unbuilt.keras", tmp_path / "joint.keras")
    assert (code, out) == (2, "")
    assert err.startswith("rewriter: unbuilt is not built: dense. Call it on a batch")


def test_json(run, base, tmp_path):
    """--json prints one JSON document, of documented keys, and nothing else."""
    decided = {"model", "merge", "skip", "already_merged", "selectors", "names", "remarks"}
    decided |= {"layers", "decisions"}
    joint = tmp_path / "joint.keras"
    for arguments, keys in [
        (("inspect", base), {"file", "manifest", "optimizer_state"} | decided),
        (("rewrite", base, joint), {"file", "output", "optimizer"} | decided),
        (("inspect", joint), {"file", "manifest", "optimizer_state"} | decided),
        (("export", joint, tmp_path / "plain.keras"), {"file", "output", "layers", "optimizer"}),
        (("verify", base, joint), {"same", "compared", "weights", "outputs", "differing", "unmatched", "note"}),
    ]:
        code, out, err = run(*arguments, "--json")
        assert (code, err) == (0, "")
        assert set(json.loads(out)) == keys
    assert formats.read_manifest(joint)["source_sha256"] == formats.digest(base)


def test_dry_run_shows_what_the_run_does(run, base, tmp_path):
    """--dry-run prints the same plan and writes nothing."""
    code, dry, _ = run("rewrite", base, tmp_path / "joint.keras", "--exclude", "last", "--dry-run")
    assert code == 0
    assert not (tmp_path / "joint.keras").exists()
    _, wet, _ = run("rewrite", base, tmp_path / "joint.keras", "--exclude", "last")
    assert dry.splitlines()[0] == "model: 2 of 3 layers with a kernel can be merged (exclude='last' matched 1)"
    assert wet.splitlines()[0] == "model: 2 of 3 layers with a kernel merged (exclude='last' matched 1)"
    assert dry.splitlines()[1:-1] == wet.splitlines()[1:-1]
    assert dry.splitlines()[-1] == "dry run: nothing written"


def test_settings_of_joint_momentum(run, base, tmp_path):
    """Given settings win; the rest comes from the compiled SGD."""
    run("rewrite", base, tmp_path / "joint.keras", "--learning-rate", "0.5")
    optimizer = rewriter.load_model(tmp_path / "joint.keras").optimizer
    assert (float(optimizer.learning_rate), optimizer.momentum) == (0.5, 0.9)


def test_keep_optimizer(run, base, tmp_path):
    """--keep-optimizer keeps it with its state, and training goes on bit for bit."""
    code, out, _ = run("rewrite", base, tmp_path / "joint.keras", "--keep-optimizer")
    assert code == 0
    assert "optimizer: SGD kept\nslots: 6 kept\niterations: 3 kept\n" in out
    original, model = tf_keras.models.load_model(base), rewriter.load_model(tmp_path / "joint.keras")
    fit(original)
    fit(model)
    assert rewriter.verify(original, model).same


def test_import_of_a_users_module(run, tmp_path, monkeypatch):
    """A registered layer of the user's own is found once its module is imported, and asked for where it is not."""
    (tmp_path / "my_layers.py").write_text(
        "import tf_keras\n\n\n@tf_keras.saving.register_keras_serializable('mine')\n"
        "class Scaled(tf_keras.layers.Dense):\n    def call(self, inputs):\n        return 2 * super().call(inputs)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    make = (
        "import sys, tf_keras, my_layers\n"
        "tf_keras.Sequential([my_layers.Scaled(3, input_shape=(5,))]).save(sys.argv[1])"
    )
    path = tmp_path / "mine.keras"
    subprocess.run([*WARM_PYTHON, "-c", make, path], check=True, cwd=tmp_path, capture_output=True)
    code, out, err = run("rewrite", path, tmp_path / "joint.keras", "--import", "my_layers")
    assert (code, err) == (0, "")
    assert "Scaled" in out
    assert run("verify", path, tmp_path / "joint.keras", "--import", "my_layers")[0] == 0
    code, _, err = run("inspect", path, "--import", "no_such_module")
    assert code == 2
    assert err.startswith("rewriter: --import no_such_module: No module named 'no_such_module'.")
    (tmp_path / "wants_more.py").write_text("import not_there")
    (tmp_path / "raises.py").write_text("1 / 0")
    for module, answer in {
        "my_layers.py": "give the name of a module that Python finds from here, as in my_layers.",
        "./my_layers": "give the name of a module",
        "wants_more": "it imports not_there, which is not installed.",
        "raises": "it raised ZeroDivisionError: division by zero",
    }.items():
        code, _, err = run("inspect", path, "--import", module)
        assert code == 2
        assert err.startswith(f"rewriter: --import {module}: {answer}")


def make_bad_inputs(folder):
    (folder / "text.keras").write_text("not a model")
    tf_keras.Sequential([layers.Dense(3, use_bias=False, input_shape=(2,))]).save(folder / "nothing.keras")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("missing.keras", "no such file or folder."),
        ("text.keras", "not a model. Expected a .keras archive, an HDF5 file (.h5) or a SavedModel folder."),
        ("nothing.keras", "nothing to merge. dense: no bias (use_bias=False). See rewriter inspect "),
    ],
)
def test_bad_input_gets_one_line_and_2(run, tmp_path, name, line):
    """One clear line on standard error, exit code 2, no output file, no traceback."""
    make_bad_inputs(tmp_path)
    path, output = tmp_path / name, tmp_path / "output.keras"
    code, out, err = run("rewrite", path, output)
    assert (code, out) == (2, "")
    assert err.startswith(f"rewriter: {path}: {line}")
    assert err.count("\n") == 1
    assert not output.exists()


def test_nothing_to_merge_is_1_with_strict(run, tmp_path):
    """Under --strict the question is whether all can be merged, and the answer is no."""
    make_bad_inputs(tmp_path)
    for arguments in (
        ("rewrite", tmp_path / "nothing.keras", tmp_path / "output.keras"),
        ("inspect", tmp_path / "nothing.keras"),
    ):
        code, _, err = run(*arguments, "--strict")
        assert code == 1
        assert err.count("\n") == 1
        assert "nothing to merge" in err
    code, out, _ = run("inspect", tmp_path / "nothing.keras")
    assert code == 0
    # What a rewrite would not do is not foretold.
    assert "JointMomentum" not in out
    assert "centered" not in out
    assert not (tmp_path / "output.keras").exists()


def test_an_existing_output_is_refused(run, base, tmp_path):
    """Without --overwrite it stays, byte for byte; the input itself is never written to."""
    output = tmp_path / "output.keras"
    output.write_bytes(b"mine")
    for command in ("rewrite", "export"):
        code, out, err = run(command, base, output)
        assert (code, out, err) == (
            2,
            "",
            f"rewriter: {output} exists already; --overwrite replaces it.\n",
        )
        assert output.read_bytes() == b"mine"
        code, _, err = run(command, base, base, "--overwrite")
        assert code == 2
        assert "is the input itself" in err
    assert run("rewrite", base, output, "--overwrite")[0] == 0


def test_a_wrong_call_is_2(run, base, tmp_path):
    """Options that contradict each other, or do not exist, are the caller's mistake."""
    code, _, err = run("rewrite", base, tmp_path / "o.keras", "--keep-optimizer", "--momentum", "0.5")
    assert code == 2
    assert "--keep-optimizer" in err
    assert run("rewrite", base)[0] == 2
    assert run("inspect", base, "--no-such-option")[0] == 2
    code, _, err = run("inspect", base, "--include", "inner/frist")
    assert code == 2
    assert "Did you mean 'inner/first'" in err


@pytest.mark.slow
def test_tensorflow_is_quiet_in_a_process_of_its_own(tmp_path):
    """A mistake prints its one line and nothing of what TensorFlow says while it loads."""
    result = subprocess.run(
        [sys.executable, "-m", "rewriter", "inspect", str(tmp_path / "missing.keras")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"rewriter: {tmp_path / 'missing.keras'}: no such file or folder.\n"


class Unregistered(layers.Dense):
    """A layer that was not registered when its model was saved."""


def test_what_is_said_of_a_class_that_was_not_registered_helps(run, tmp_path, monkeypatch):
    """What a class is registered by now is another name than the one in the file."""
    path = tmp_path / "model.h5"
    tf_keras.Sequential([tf_keras.Input((3,)), Unregistered(2)]).save(path)
    code, _, err = run("inspect", path)
    assert code == 2
    said = "tf_keras.saving.get_custom_objects()['Unregistered'] = Unregistered"
    assert f"give --import MODULE, one that defines it and says {said}." in " ".join(err.split())
    source = f"import tf_keras\n\n\nclass Unregistered(tf_keras.layers.Dense):\n    pass\n\n\n{said}\n"
    (tmp_path / "its_module.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        code, out, _ = run("inspect", path, "--import", "its_module")
    finally:
        tf_keras.saving.get_custom_objects().pop("Unregistered", None)
    assert code == 0
    assert "Unregistered" in out


def test_inspect_refuses_data_that_does_not_fit(run, base, tmp_path):
    np.savez(tmp_path / "data.npz", x=np.zeros((4, 1), "float32"))
    code, out, err = run("inspect", base, "--data", tmp_path / "data.npz")
    assert (code, out) == (2, "")
    assert err.startswith("rewriter: --data is no batch that")
