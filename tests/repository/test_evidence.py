"""The evidence: its page is made of the runs that are kept, and runs are chosen, done and kept as it says."""

import json
import math
import re
import statistics
from dataclasses import replace

import numpy as np
import pytest
import tf_keras

import report
import run as evidence_run
import soap_settings
from contestants import CONTESTANTS
from processes import ROOT
from tasks import TASKS
from training import Trainer

pytestmark = pytest.mark.slow


def test_the_page_of_evidence_is_made_of_the_runs(capsys):
    """Every number of the page is one of the lines that are kept."""
    report.main(["--print"])
    page = capsys.readouterr().out
    assert page == (ROOT / "docs" / "evidence.rst").read_text(encoding="utf-8")


def row_of(name, results):
    """The geometric mean over the tasks, on how many the loss is lower, and on how many the metric is better."""
    own = [result for result in results if result.optimizer.name == name]
    ratio = statistics.geometric_mean(result.loss_ratio for result in own)
    lower = sum(result.loss_ratio < 1 for result in own)
    means = [[statistics.mean(each) for each in zip(*result.metrics, strict=True)] for result in own]
    better = sum(
        mine > other if result.task.of_classes else mine < other
        for result, (other, mine) in zip(own, means, strict=True)
    )
    return f"| {name} / {own[0].optimizer.plain} | {ratio:#.2g} | {lower} of {len(own)} | {better} |"


@pytest.mark.parametrize("page", ["README.md", "docs/how_to/center.md", "docs/how_to/choose_a_rule.md"])
def test_tables_of_the_docs_are_made_of_the_runs(page):
    """Every row that is about training losses is one of the evidence."""
    results = report.results_of(evidence_run.read_lines(), {})
    rows = {row_of(name, results) for name in {result.optimizer.name for result in results}}
    said = re.findall(r"^\| .* / .* \| .* of .* \|.*$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert said
    assert set(said) <= rows


def test_seconds_and_twins_in_the_docs_are_those_of_the_runs():
    """What the rules take to the loss of AdamW, in seconds and in steps, and what the bias in the matrix is worth."""
    results = report.results_of(evidence_run.read_lines(), report.read_ratios())
    texts = [
        " ".join((ROOT / page).read_text("utf-8").split()) for page in ("README.md", "docs/how_to/choose_a_rule.md")
    ]

    def reached(name):
        return [each for each in results if each.optimizer.name == name and each.budget is not None]

    def seconds(name):
        return f"{statistics.geometric_mean(each.budget * each.step for each in reached(name)):.2f}"

    def steps(name):
        return statistics.geometric_mean(each.budget for each in reached(name))

    def twin(name):
        own = [each for each in results if each.optimizer.is_twin and each.optimizer.plain == name]
        return f"{statistics.geometric_mean(1 / each.loss_ratio for each in own):.2f}"

    assert [len(reached(name)) for name in ("SOAP", "Muon", "K-FAC", "quasi-diagonal")] == [9, 10, 8, 8]
    assert f"To AdamW's loss Muon took {seconds('Muon')} of its seconds, and SOAP {seconds('SOAP')} on nine" in texts[0]
    assert f"Muon took {seconds('Muon')} of its seconds over all ten" in texts[1]
    assert f"SOAP took {seconds('SOAP')} over nine of them" in texts[1]
    assert f"they took {seconds('centered SOAP')} and {seconds('centered Muon')}" in texts[1]
    assert f"K-FAC took {seconds('K-FAC')} over the eight tasks on which it got there" in texts[1]
    assert f"and the quasi-diagonal rule {seconds('quasi-diagonal')}" in texts[1]
    least, *_, most = sorted(reached("SOAP"), key=lambda each: each.budget * each.step)
    assert [each.task.name for each in (least, most)] == ["digits, autoencoder, tanh", "digits, convolutions"]
    ends = f"{least.budget * least.step:.2f} on the autoencoder to {most.budget * most.step:.2g} with convolutions"
    assert f"from {ends}" in texts[1]
    (constant,) = [
        each for each in results if (each.task.name, each.optimizer.name) == ("digits, constant rate", "SOAP")
    ]
    assert constant.budget is None
    counts = {5: "five", 10: "all ten"}
    assert f"lower than AdamW for {counts[constant.wins[0]]} of ten seeds" in texts[1]
    soap, muon, kfac = map(steps, ("SOAP", "Muon", "K-FAC"))
    assert (
        f"SOAP took {soap:.2f} of AdamW's and K-FAC {kfac:.2f}, where they got there, and Muon {muon:.2f}" in texts[1]
    )
    assert f"less than {1 / soap:.2g} of Adam's, Muon {1 / muon:.2g}, K-FAC {1 / kfac:.2g}" in texts[1]
    assert f"training loss was {twin('quasi-diagonal')} times that of the twin" in texts[1]
    assert f"{twin('K-FAC')} for K-FAC, {twin('Muon')} for Muon and {twin('SOAP')} for SOAP" in texts[1]


def test_settings_of_soap_in_the_docs_are_those_of_the_runs():
    """On how many seeds it ended above AdamW without the bound, and what rarer bases cost and spare."""
    text = " ".join((ROOT / "docs/how_to/choose_a_rule.md").read_text("utf-8").split())
    results = report.results_of(evidence_run.read_lines(), {})
    lines = soap_settings.read_lines()

    def of_adamw(task):
        (found,) = [each for each in results if (each.task.name, each.optimizer.name) == (task, "SOAP")]
        return statistics.mean(other for other, _ in found.losses)

    def losses(task, settings, rate):
        return [
            line["loss"]
            for line in lines
            if (line["task"], line["settings"]) == (task, settings) and line.get("rate") == rate
        ]

    above = {}
    for name, settings in {"bounded": {}, "not": {"bounded": False}}.items():
        at_rates = [losses("digits", settings, rate) for rate in soap_settings.RATES]
        assert [len(each) for each in at_rates] == [6, 6, 6]
        above[name] = [sum(not loss < of_adamw("digits") for loss in each) for each in at_rates]
    one, two, three = (["none", "one", "two", "three", "four", "five", "six"][count] for count in above["not"])
    assert above["bounded"] == [0, 0, 0]
    said = f"{one} of six seeds ended above AdamW's loss with that one at a rate of 0.0055, {two} at 0.0078 and {three}"
    assert f"On the digits {said} at 0.011; none with the default." in text
    name = "characters, transformer"
    rarely, often = (
        statistics.mean(losses(name, settings, 2**-7)) / of_adamw(name) for settings in (soap_settings.RARELY, {})
    )
    times = sorted(line["step"] for line in lines if "step" in line)
    assert len(times) == len(soap_settings.TIMED)
    said = f"A step on four of the tasks took {times[0]:.2f} to {times[-1]:.2f} of the time; in the transformer its"
    assert f"{said} training loss was {rarely:.2f} of AdamW's, for {often:.2f} with `every=10` (three seeds)" in text


@pytest.mark.parametrize("name", TASKS)
def test_what_trains_depends_only_on_its_weights(name):
    """The table of positions of the transformer was a constant that each process drew anew."""
    task = TASKS[name]
    (x, _), _ = task.split(0, tuning=False)
    outputs = []
    for _ in range(2):
        model = Trainer(task, CONTESTANTS["AdamW"]).model
        tf_keras.utils.set_random_seed(1)
        model.set_weights([np.random.default_rng(0).uniform(0, 0.1, each.shape) for each in model.get_weights()])
        outputs.append(model.predict(x[:8], verbose=0))
    assert np.isfinite(outputs).all()
    assert np.array_equal(*outputs)


def test_a_run_of_the_evidence(tmp_path, monkeypatch):
    """From nothing, on a small task: a grid, confirmed rates, seeds, budgets; a second call does nothing."""
    monkeypatch.setattr(evidence_run, "FILE", tmp_path / "runs.jsonl")
    task = replace(TASKS["diabetes, not centered"], epochs=4)
    monkeypatch.setattr(evidence_run, "TASKS", {task.name: task})
    pair = {name: replace(CONTESTANTS[name], powers=range(-6, -3)) for name in ("Adam", "centered Adam")}
    monkeypatch.setattr(evidence_run, "CONTESTANTS", pair)
    fewer = {
        "_WIDEST": 3,
        "SEEDS": range(2),
        "CONFIRMING_SEEDS": range(200, 202),
        "BUDGET_SEEDS": range(1),
    }
    for name, value in fewer.items():
        monkeypatch.setattr(evidence_run, name, value)
    evidence_run.main(math.inf, [])
    written = (tmp_path / "runs.jsonl").read_text()
    lines = [json.loads(line) for line in written.splitlines()]
    assert {line["optimizer"] for line in lines} == set(pair)
    assert {line["seed"] for line in lines if not line["tuning"]} == {
        *evidence_run.SEEDS,
        *evidence_run.CONFIRMING_SEEDS,
    }
    evidence_run.main(math.inf, [])
    assert (tmp_path / "runs.jsonl").read_text() == written
