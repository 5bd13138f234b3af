"""``--optimizer NAME``: rules on whole layers by their names, in each command that attaches one."""

import json
import re

import pytest
import tf_keras

import rewriter
from models import fit, nested
from rewriter.optimizers.rules.by_name import RULES
from short_cases import cases


@pytest.fixture
def base(tmp_path):
    model = nested()
    model.compile("adam", "mse")
    fit(model)
    model.save(tmp_path / "base.keras")
    return tmp_path / "base.keras"


@pytest.mark.parametrize("rule", cases(RULES, {"JointMomentum", "SOAP"}))
def test_a_rule_is_attached_and_trains(base, run, tmp_path, rule):
    output = tmp_path / "rewritten.keras"
    code, out, err = run("rewrite", base, output, "--optimizer", rule, "--learning-rate", "0.5")
    assert code == 0
    assert "Adam" in err  # its state is lost, and that is said before
    assert f"optimizer: {rule}" in out
    if rule == "Muon":
        assert "AdamW for last, from which an output is reached through no merged layer" in out
    model = rewriter.load_model(output)
    assert type(model.optimizer).__name__ == rule
    assert float(model.optimizer.learning_rate) == 0.5
    fit(model)
    assert run("export", output, tmp_path / "plain.keras")[0] == 0
    assert tf_keras.models.load_model(tmp_path / "plain.keras").optimizer is not None


def test_a_setting_that_it_does_not_have_is_said(base, run, tmp_path):
    code, _, err = run("rewrite", base, tmp_path / "out.keras", "--optimizer", "SOAP", "--momentum", "0.5")
    assert (code, err) == (2, "rewriter: SOAP takes no --momentum.\n")
    assert not (tmp_path / "out.keras").exists()


def test_the_help_names_each(run):
    _, out, _ = run("rewrite", "--help")
    words = " ".join(out.replace("│", " ").split())
    assert f"{', '.join([*RULES][:-1])} or {[*RULES][-1]}" in words


def test_inspect_counts_its_state(base, run):
    code, out, _ = run("inspect", base, "--optimizer", "KFAC", "--json")
    state = json.loads(out)["optimizer_state"]
    assert code == 0
    assert state["after"]["optimizer"] == "KFAC"
    model = rewriter.rewrite(tf_keras.models.load_model(base), "KFAC")
    fit(model)
    # The count of steps is left out.
    assert state["after"]["total"] == sum(each.numpy().nbytes for each in model.optimizer.variables[1:])


@pytest.mark.parametrize("command", ["rewrite", "inspect", "benchmark"])
def test_a_wrong_name_is_said(base, run, tmp_path, command):
    output = [tmp_path / "out.keras"] if command == "rewrite" else []
    for wrong, hint in {"Sopa": "Did you mean 'SOAP'?", "Adam": "In Python rewriter.rewrite takes"}.items():
        code, _, err = run(command, base, *output, "--optimizer", wrong)
        said = " ".join(err.replace("│", " ").split())
        assert code == 2
        assert f"'{wrong}' is none of {', '.join(RULES)}" in said
        assert hint in said


def test_inspect_says_what_another_one_makes_of_a_rewritten_model(base, run, tmp_path):
    """As for a plain one: the state of now and that to be, and what is lost."""
    output = tmp_path / "kept.keras"
    assert run("rewrite", base, output, "--keep-optimizer")[0] == 0
    _, kept, _ = run("inspect", output)
    assert "under Adam, exported" in kept.splitlines()[0]
    code, out, _ = run("inspect", output, "--optimizer", "SOAP")
    assert code == 0
    assert re.search(r"optimizer state [\d,]+ bytes under Adam → [\d,]+ bytes under SOAP$", out.splitlines()[0])
    assert "state of Adam: lost" in out


def test_a_name_is_taken_in_lower_case(base, run):
    code, out, _ = run("inspect", base, "--optimizer", "soap", "--json")
    assert code == 0
    assert json.loads(out)["optimizer_state"]["after"]["optimizer"] == "SOAP"


def test_it_is_this_optimizer_or_the_compiled_one(base, run, tmp_path):
    code, _, err = run("rewrite", base, tmp_path / "out.keras", "--optimizer", "SOAP", "--centered")
    assert code == 2
    assert "give one or the other" in err


@pytest.mark.slow
def test_benchmark_measures_it(base, run):
    code, out, _ = run("benchmark", base, "--optimizer", "SOAP", "--rounds", "1", "--steps", "1", "--json")
    assert code == 0
    assert any(each["rewritten"] == "SOAP" for each in json.loads(out)["times"])


@pytest.mark.parametrize("options", [[], ["--optimizer", "SOAP"]])
def test_a_model_that_is_not_compiled_has_no_optimizer_in_its_file(run, tmp_path, options):
    """Nor does the command say that it gave one."""
    nested().save(tmp_path / "base.keras")
    code, out, _ = run("rewrite", tmp_path / "base.keras", tmp_path / "merged.keras", *options)
    assert code == 0
    assert "optimizer: none, the model is not compiled: no file of it holds one\nwritten: " in out
    assert rewriter.load_model(tmp_path / "merged.keras").optimizer is None
