"""The sample notebook, run in a kernel of its own; and what notebooks see of long work."""

import nbformat
import pytest
from nbclient import NotebookClient

from processes import ROOT

pytestmark = pytest.mark.slow

SAMPLE = ROOT / "samples" / "fine_tune.ipynb"


def executed(notebook, tmp_path):
    """Run all cells of a notebook; a cell that raises is an error."""
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


def shown(outputs):
    """What a reader of a cell sees, but for warnings: each output as HTML, or else as text."""
    data = [output.data for output in outputs if output.output_type in {"display_data", "execute_result"}]
    return [each.get("text/html", each.get("text/plain")) for each in data]


def test_the_sample_runs_and_shows_plan_and_report(tmp_path):
    notebook = nbformat.read(SAMPLE, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "the sample is kept without outputs"
    *_, plan, accuracies, report = map(shown, executed(notebook, tmp_path))
    assert len(plan) == len(report) == 1
    assert plan[0].startswith("<pre")
    assert "3 of 3 layers with a kernel can be merged" in plan[0]
    assert "same" in report[0]
    assert float(accuracies[0].strip("[]").split(",")[-1]) > 0.9


MODEL = """
import tf_keras, rewriter
model = tf_keras.Sequential([tf_keras.Input((2,)), tf_keras.layers.Dense(3), tf_keras.layers.Dense(1)])
import IPython.display
import rewriter.core.progress.bars as bars
bars.DELAY = {delay}
pictures = []
show = IPython.display.HTML
IPython.display.HTML = lambda html: (pictures.append(html), show(html))[1]
"""
REWRITE = """
rewriter.rewrite(model)
print(any("running the model" in html for html in pictures), pictures[-1:] == [""], len(pictures))
"""


@pytest.mark.parametrize(("delay", "said"), [("0.0", "True True"), ("3600.0", "False False 0")])
def test_long_work_is_shown_below_the_cell_and_removed(delay, said, tmp_path):
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(MODEL.format(delay=delay)), nbformat.v4.new_code_cell(REWRITE)]
    )
    outputs = executed(notebook, tmp_path)[-1]
    text = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    assert text.startswith(said)
    assert [each for each in shown(outputs) if each] == []
