"""Every sample runs, and does what it says."""

import re
import sys

import numpy as np
import pytest
from tf_keras import layers

import alternatives
import centered
import centered_costs
import fine_tune
import freeze_all_but_the_head
import hand_made_layers
import joint_rules
import keep_adam
import lamb_bias
import layer_rules
import reference_costs
import rewriter
import subclassed_model
import watch_momentum
from processes import ROOT, path_with_rewriter, run
from reference_networks import NETWORKS, perceptron
from warm_python import WARM_PYTHON

pytestmark = pytest.mark.slow

PNG = b"\x89PNG"


def test_digits(tmp_path):
    """The demo goes from a saved model to an exported one that another process finds equal, and draws a picture."""
    command = [*WARM_PYTHON, str(ROOT / "samples" / "digits.py"), str(tmp_path)]
    result = run(command, env={"PATH": path_with_rewriter(tmp_path)})
    assert result.returncode == 0, result.stderr
    assert re.findall(r"^\$ rewriter (\w+)", result.stdout, re.MULTILINE) == ["inspect", "rewrite", "export", "verify"]
    accuracies = [float(number) for number in re.findall(r"│ (0\.\d{4}) ", result.stdout)]
    base, *_, tuned, elsewhere = accuracies
    assert elsewhere == tuned > base
    assert (tmp_path / "learning_curves.png").read_bytes().startswith(PNG)


def test_joint_rules(capsys):
    """Each rule trains the digits, to better than chance in an epoch."""
    joint_rules.main(epochs=1)
    accuracies = [float(number) for number in re.findall(r"│ (0\.\d{4}) ", capsys.readouterr().out)]
    assert len(accuracies) == len(joint_rules.RULES)
    assert min(accuracies) > 0.2


def test_layer_rules(capsys):
    """Each rule trains the autoencoder."""
    layer_rules.main(epochs=2)
    losses = [float(number) for number in re.findall(r"│ (0\.\d{4}) ", capsys.readouterr().out)]
    assert len(losses) == 2 * len(layer_rules.RULES)
    assert max(losses) < 0.08


def test_fine_tune(capsys, tmp_path):
    """Fine-tuning on the digits that the base model has not seen makes it better, and the export has it."""
    fine_tune.main(tmp_path, epochs=2)
    base, tuned = [float(number) for number in re.findall(r"test accuracy (0\.\d{4})", capsys.readouterr().out)]
    assert tuned > base


def test_subclassed_model(capsys):
    """It trains, and comes back with the same names."""
    subclassed_model.main()
    out = capsys.readouterr().out
    before, after = map(float, re.findall(r"loss (\d\.\d+) to (\d\.\d+)", out)[0])
    assert after < before
    assert "5 of 5 layers with a kernel" in out
    assert "after the split: True" in out


def test_keep_adam(capsys):
    """Weights and state are those of the model that was never rewritten."""
    keep_adam.main(epochs=1)
    assert capsys.readouterr().out.count("bit for bit: True") == 2


def test_freeze_all_but_the_head(capsys):
    """Ten numbers of state, and a body that does not move."""
    freeze_all_but_the_head.main(epochs=1)
    out = capsys.readouterr().out
    assert "the body is as it was: True" in out
    assert "the optimizer's state: [(10,)]" in out


def test_life_cycle(tmp_path):
    """The shell script goes through every command, and stops where one fails."""
    model = perceptron(5, 4, 3)
    model.compile("sgd", "mse")
    model.save(tmp_path / "base.keras")
    command = ["sh", str(ROOT / "samples" / "life_cycle.sh"), str(tmp_path / "base.keras"), str(tmp_path)]
    path = path_with_rewriter(tmp_path)
    result = run(command, env={"PATH": path})
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("same: 4 weights bit for bit") == 2
    assert result.stdout.endswith("2 layers merged\n")
    again = run(command, env={"PATH": path})
    assert again.returncode == 2
    assert "joint.keras exists already" in again.stderr


def test_centered(capsys):
    """Each rule is compared with itself, centered, and gives the plain optimizer back."""
    centered.main(epochs=1)
    losses = re.findall(r"^(.*): training loss (\d\.\d+), test accuracy", capsys.readouterr().out, re.MULTILINE)
    assert [name for name, _ in losses] == [
        "Adam",
        "centered Adam",
        "SGD with momentum",
        "centered SGD with momentum",
    ]


def test_the_table_of_samples_lists_each():
    """With a link, and nothing that is not there."""
    files = {path.name for path in (ROOT / "samples").iterdir() if path.suffix in {".py", ".sh", ".ipynb"}}
    listed = set(re.findall(r"\]\(([a-z_]+\.\w+)\)", (ROOT / "samples" / "README.md").read_text("utf-8")))
    assert listed == files - {"handwriting.py", "reference_networks.py"}


def test_watch_momentum(capsys, tmp_path):
    """The monitor writes its events, and what it costs is printed."""
    watch_momentum.main(tmp_path, epochs=1, rounds=1)
    out = capsys.readouterr().out
    assert "each of 43 steps written: an epoch takes" in out
    assert list((tmp_path / "joint_momentum").iterdir())


def test_hand_made_layers(capsys):
    """Found and told come to the same plan, the same weights, and what is in no pair is remarked on."""
    hand_made_layers.main(epochs=2)
    out = capsys.readouterr().out
    assert out.count("3 of 3 layers with a kernel can be merged") == 2
    assert "calibration.sharpness: trainable, and in no pair: used by Mul" in out
    assert "the same weights bit for bit: True" in out


def test_lamb_bias(capsys, tmp_path):
    """Biases move further with one trust ratio a layer, in few steps too, and the picture is drawn."""
    lamb_bias.main(tmp_path, 150)
    separate, merged = re.findall(r"hidden_2 (\d\.\d+)", capsys.readouterr().out)
    assert float(merged) > float(separate) > 0
    assert (tmp_path / "lamb_bias.png").read_bytes().startswith(PNG)


def test_alternatives_are_joint_momentum(generator):
    """What is compared for speed is one rule: by hand, by pairing, and by rewriting, a model trains to the same."""
    x, y = generator.standard_normal((24, 5)), generator.standard_normal((24, 3))
    start = perceptron(5, 4, 3).get_weights()
    results = []
    for way in ("rewritten", "pairing", "by hand"):
        model = perceptron(5, 4, 3, dense=alternatives.HomogeneousDense if way == "by hand" else layers.Dense)
        if way == "by hand":
            model.set_weights([np.vstack(start[:2]), np.vstack(start[2:])])
        else:
            model.set_weights(start)
        optimizer = alternatives.PairingJointMomentum if way == "pairing" else alternatives.FullJointMomentum
        model.compile(optimizer(0.1), "mse")
        if way == "rewritten":
            rewriter.rewrite(model, rewriter.JointMomentum(0.1))
        model.fit(x, y, epochs=20, batch_size=24, shuffle=False, verbose=0)
        results.append(model.predict(x, verbose=0))
    np.testing.assert_allclose(results[1], results[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(results[2], results[0], rtol=1e-4, atol=1e-5)


def test_centered_costs_prints_a_table(capsys, monkeypatch):
    """A row for each network, geometric means below, in a graph and compiled."""
    monkeypatch.setitem(NETWORKS, "small", (lambda dense: perceptron(5, 4, 3, dense=dense), 8))
    centered_costs.main(1, ["small"])
    out = capsys.readouterr().out
    assert len(re.findall(r"^\| small( \| \d+\.\d\d){6} \|$", out, re.MULTILINE)) == 2
    assert out.count("| geometric mean |") == 2


def test_the_samples_of_keras_3_run_on_jax():
    """Each in a process of its own, as the backend is chosen when Keras is imported."""
    env = {"KERAS_BACKEND": "jax"}
    for arguments in (
        ["on_jax.py"],
        ["backend_costs.py", "1", "784-256-256-10, batch 128"],
        ["gpu_costs.py", "1", "8 x 2, batch 64"],
    ):
        path = ROOT / "samples" / arguments[0]
        result = run([sys.executable, str(path), *arguments[1:]], env=env)
        assert result.returncode == 0, result.stderr
        last = result.stdout.splitlines()[-1]
        assert re.fullmatch(r"on jax: loss 0\.\d+, same: .*|.*, geometric mean: \d+\.\d\d", last)


def test_alternatives_prints_a_table(capsys, monkeypatch):
    """One row a network, in a graph and under XLA; a small network stands for the large ones."""
    monkeypatch.setitem(NETWORKS, "small", (lambda dense: perceptron(5, 4, 3, dense=dense), 6))
    alternatives.main(1, ["small"])
    rows = re.findall(r"^\| small((?: \| \d+\.\d\d){6}) \|$", capsys.readouterr().out, re.MULTILINE)
    assert len(rows) == 2


def test_reference_costs(capsys, tmp_path):
    """A small run prints every cost beside its target."""
    reference_costs.main(tmp_path, 1, (8,), 16, (2, 3))
    out = capsys.readouterr().out
    for what in (
        "update alone, 8 x 8, XLA",
        "rewrite, 3 layers",
        "split, 2 layers",
        "export, a file",
        "rewriter --help",
    ):
        assert what in out


def test_reference_networks_are_what_they_are_called():
    """Each has the layers and the batch of its name."""
    widths, batches = {}, {}
    for name, (make, batch) in NETWORKS.items():
        widths[name] = [layer.units for layer in make(layers.Dense).layers if isinstance(layer, layers.Dense)]
        batches[name] = batch
    assert list(widths.values()) == [[256, 256, 10], [1024] * 4, [1024] * 4, [64] * 40, [4096] * 2, [1024, 256] * 4]
    assert all(name.endswith(f"batch {batch}") for name, batch in batches.items())
