"""The evidence: its page is made of the runs that are kept, and runs are chosen, done and kept as it says."""

import json
import math
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


def test_a_run_of_the_evidence(tmp_path, monkeypatch):
    """From nothing, on a small task: a grid, confirmed rates, seeds, budgets; a second call does nothing."""
    monkeypatch.setattr(evidence_run, "FILE", tmp_path / "runs.jsonl")
    task = replace(TASKS["diabetes, not centered"], epochs=1)
    monkeypatch.setattr(evidence_run, "TASKS", {task.name: task})
    pair = {name: replace(CONTESTANTS[name], powers=range(-9, -6)) for name in ("Adam", "centered Adam")}
    monkeypatch.setattr(evidence_run, "CONTESTANTS", pair)
    fewer = {
        "_WIDEST": 2,
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
