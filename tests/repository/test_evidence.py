"""The evidence: its page is made of the runs that are kept, and runs are chosen, done and kept as it says."""

import json
import math
import statistics
from dataclasses import replace

import report
import run as evidence_run
from contestants import CONTESTANTS
from processes import ROOT
from tasks import TASKS


def test_the_page_of_evidence_is_made_of_the_runs(capsys):
    """Every number of the page is one of the lines that are kept."""
    report.main(["--print"])
    page = capsys.readouterr().out
    assert page == (ROOT / "docs" / "evidence.rst").read_text(encoding="utf-8")


def test_the_table_of_the_readme_is_made_of_the_runs():
    """The geometric mean over the tasks, on how many the loss is lower, and on how many the metric is better."""
    results = report.results_of(evidence_run.read_lines(), {})
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    centered = ("centered Adam", "centered AdamW", "centered SGD with momentum", "centered joint momentum")
    for name in (*centered, "SOAP", "Muon", "K-FAC"):
        own = [result for result in results if result.optimizer.name == name]
        ratio = statistics.geometric_mean(result.loss_ratio for result in own)
        lower = sum(result.loss_ratio < 1 for result in own)
        means = [[statistics.mean(each) for each in zip(*result.metrics, strict=True)] for result in own]
        better = sum(
            mine > other if result.task.of_classes else mine < other
            for result, (other, mine) in zip(own, means, strict=True)
        )
        tasks = " tasks" if name in {"centered Adam", "SOAP"} else ""
        row = f"| {name} / {own[0].optimizer.plain} | {ratio:#.2g} | {lower} of {len(own)}{tasks} | {better} |"
        assert row in readme


def test_a_run_of_the_evidence(tmp_path, monkeypatch):
    """From nothing, on a small task: a grid, confirmed rates, seeds, budgets; a second call does nothing."""
    monkeypatch.setattr(evidence_run, "FILE", tmp_path / "runs.jsonl")
    task = replace(TASKS["diabetes, not centered"], epochs=1)
    monkeypatch.setattr(evidence_run, "TASKS", {task.name: task})
    pair = {name: replace(CONTESTANTS[name], powers=range(-6, -3)) for name in ("Adam", "centered Adam")}
    monkeypatch.setattr(evidence_run, "CONTESTANTS", pair)
    fewer = {
        "_WIDEST": 3,
        "SEEDS": range(2),
        "CONFIRMING_SEEDS": range(200, 202),
        "BUDGETS": (0.5,),
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
