"""The evidence: its page is made of the runs that are kept, and runs are chosen, done and kept as it says."""

import json
import math
import re
import statistics
from dataclasses import replace

import pytest

import report
import run as evidence_run
from contestants import CONTESTANTS
from processes import ROOT
from tasks import TASKS

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

    of_soap = f"SOAP took {seconds('SOAP')} of its seconds"
    assert [len(reached(name)) for name in ("SOAP", "Muon", "K-FAC", "quasi-diagonal")] == [10, 10, 8, 8]
    assert f"To AdamW's loss {of_soap}, Muon {seconds('Muon')}." in texts[0]
    assert f"{of_soap} and Muon {seconds('Muon')} over all ten" in texts[1]
    assert f"they took {seconds('centered SOAP')} and {seconds('centered Muon')}" in texts[1]
    assert f"K-FAC took {seconds('K-FAC')} over the eight tasks on which it got there" in texts[1]
    assert f"and the quasi-diagonal rule {seconds('quasi-diagonal')}" in texts[1]
    least, *_, most = sorted(reached("SOAP"), key=lambda each: each.budget * each.step)
    assert [each.task.name for each in (least, most)] == ["diabetes, not centered", "digits, fine-tuning"]
    ends = f"{least.budget * least.step:.2f} on the diabetes data to {most.budget * most.step:.2g} in fine-tuning"
    assert f"SOAP from {ends}" in texts[1]
    soap, muon, kfac = map(steps, ("SOAP", "Muon", "K-FAC"))
    assert f"SOAP took {soap:.2f} of AdamW's, Muon {muon:.2f}, and K-FAC {kfac:.2f} where it got there" in texts[1]
    assert f"less than {1 / soap:.2g} of Adam's, Muon {1 / muon:.2g}, K-FAC {1 / kfac:.2g}" in texts[1]
    assert f"training loss was {twin('quasi-diagonal')} times that of the twin" in texts[1]
    assert f"{twin('K-FAC')} for K-FAC, {twin('Muon')} for Muon and {twin('SOAP')} for SOAP" in texts[1]


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
