"""What people see: the plan as a tree, in any width, with and without colours; and progress, where somebody looks."""

import html
import io
import itertools
import os
import pty
import re
import subprocess
import sys

import pytest
import tf_keras
from rewriter.cli import common
from rich.console import Console
from tf_keras import layers

import rewriter
from hand_made_models import hand_made
from models import MODELS
from processes import SCRIPTS
from rewriter.commands.benchmark.run import Benchmark, Row
from rewriter.commands.benchmark.timing import Ratio
from rewriter.core import progress, tables
from rewriter.model import families
from warm_python import WARM_PYTHON

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def shown(plan, width, **options):
    console = Console(file=io.StringIO(), width=width, markup=False, highlight=False, **options)
    tables.show(plan, console)
    return console.file.getvalue()


def test_the_tree_of_a_plan():
    """A row for each layer below whatever holds it; the model's counts all; reasons stand below, each once."""
    inputs = tf_keras.Input((5,), name="inputs")
    shared = layers.Dense(5, name="shared")
    inner = tf_keras.Sequential([layers.InputLayer((5,), name="start"), layers.Dense(4, name="deep")], name="inner")
    bare = [layers.Dense(2, use_bias=False, name=name) for name in ("one", "two")]
    model = tf_keras.Model(inputs, bare[1](bare[0](inner(shared(shared(inputs))))), name="whole")
    assert rewriter.plan(model).tree().splitlines() == [
        "whole: 2 of 4 layers with a kernel can be merged",
        "layer        class       action    kernel → W*  dtype    parameters",
        "───────────────────────────────────────────────────────────────────",
        "whole        Functional                                          66",
        "├─ inputs    InputLayer",
        "├─ shared    Dense       merge     5x5 → 6x5    float32          30",
        "├─ inner     Sequential",
        "│  ├─ start  InputLayer",
        "│  └─ deep   Dense       merge     5x4 → 6x4    float32          24",
        "├─ one       Dense       skip [1]  4x2          float32           8",
        "└─ two       Dense       skip [1]  2x2          float32           4",
        "[1] no bias (use_bias=False)",
        "variable names: shared/kernel and shared/bias → shared/augmented_kernel, and so on in 1 more",
    ]
    rewriter.rewrite(model)
    merged = [line.split() for line in rewriter.plan(model).tree().splitlines() if " merged " in line]
    assert [line[-6:] for line in merged] == [
        ["merged", "5x5", "→", "6x5", "float32", "30"],
        ["merged", "5x4", "→", "6x4", "float32", "24"],
    ]


def test_a_plan_has_a_row_for_layers_that_are_left_alike():
    """Those that are merged have one each, as long as they are few; below are the others and the total."""
    inner = tf_keras.Sequential([layers.Conv1D(4, 3, name=name) for name in ("one", "two", "three")], name="inner")
    model = tf_keras.Sequential(
        [
            layers.InputLayer((9, 5)),
            inner,
            layers.BatchNormalization(),
            layers.Dense(4, name="first"),
            layers.Dense(4, name="second"),
            layers.Dense(2, use_bias=False, name="bare"),
        ],
        name="whole",
    )
    assert str(rewriter.plan(model)).splitlines() == [
        "whole: 2 of 6 layers with a kernel can be merged",
        "layers             class     action    kernel → W*  dtype    parameters",
        "───────────────────────────────────────────────────────────────────────",
        "inner/one … three  3 Conv1D  skip [1]               float32         168",
        "first              Dense     merge     4x4 → 5x4    float32          20",
        "second             Dense     merge     4x4 → 5x4    float32          20",
        "bare               Dense     skip [2]  4x2          float32           8",
        "other layers       2 layers                                          16",
        "total              8 layers                                         232",
        "[1] not asked for: layers='dense,conv' merges it too",
        "[2] no bias (use_bias=False)",
        "variable names: first/kernel and first/bias → first/augmented_kernel, and so on in 1 more",
    ]


def rows_of(model, **settings):
    """The cells of the first column of a plan, and of its second."""
    lines = str(rewriter.plan(model, **settings)).splitlines()[3:]
    table = itertools.takewhile(lambda line: not line.startswith(("[", "variable names")), lines)
    return [re.split(r"  +", line)[:2] for line in table]


def test_no_plan_is_longer_than_a_screen():
    """First alike neighbours are one row, then neighbours of another shape, then layers wherever they are."""
    alike = tf_keras.Sequential([layers.InputLayer((4,)), *(layers.Dense(4, name=f"d{each}") for each in range(30))])
    assert rows_of(alike) == [["d0 … d29", "30 Dense"], ["total", "30 layers"]]
    of_two = [layers.Dense(4 + each % 2, name=f"d{each}") for each in range(30)]
    assert rows_of(tf_keras.Sequential([layers.InputLayer((4,)), *of_two]))[0] == ["d0 … d29", "30 Dense"]
    mixed = [layers.Dense(4, use_bias=bool(each % 3), name=f"d{each}") for each in range(60)]
    assert rows_of(tf_keras.Sequential([layers.InputLayer((4,)), *mixed])) == [
        ["d0 … d57", "20 Dense"],
        ["d1 … d59", "40 Dense"],
        ["total", "60 layers"],
    ]


@pytest.mark.parametrize("name", ["MobileNetV2", "EfficientNetV2B0"])
def test_the_plan_of_a_public_model_is_short(name):
    """The whole table of it, for the layers that are asked for by themselves and for all."""
    model = getattr(tf_keras.applications, name)(weights=None)
    for asked in ("dense", "all"):
        assert len(rows_of(model, layers=asked)) <= 25


def test_a_layer_with_several_pairs_has_a_row_for_each():
    """Below its own, which has the numbers of the layer as a whole."""
    lines = rewriter.plan(hand_made(), discover=True).tree().splitlines()
    at = next(index for index, line in enumerate(lines) if "Mixing" in line)
    assert [line.split()[:4] for line in lines[at : at + 3]] == [
        ["├─", "mixing", "Mixing", lines[at].split()[-1]],
        ["│", "├─", "w", "and"],
        ["│", "└─", "v", "and"],
    ]
    assert "[1] found: from_input, from_state and b" in lines


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_line_of_a_table_is_wider_than_the_terminal(width):
    """Columns that matter least go first, then long names lose their middle; a layer has one line all the same."""
    deep = layers.Dense(4, name="a_layer_with_a_name_that_is_longer_than_it_should_be_number_1", input_shape=(1024,))
    for _ in range(3):
        deep = tf_keras.Sequential([deep])
    model = tf_keras.Sequential([deep, layers.Dense(1024)])
    plan = rewriter.plan(model)
    lines = shown(plan, width).splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) == len(str(plan).splitlines())
    assert ("a_layer_with_a_name_that_is_longer_than_it_should_be_number_1" in "".join(lines)) is (width == 200)
    assert any("umber_1" in line and "merge" in line and "1024x4 → 1025x4" in line for line in lines)


def test_where_it_is_narrow_names_stay_whole():
    """And what is stacked takes more lines."""
    model = tf_keras.Sequential([layers.LSTM(16, input_shape=(3, 12), name="recurrent")])
    plan = rewriter.plan(model, layers="recurrent")
    assert "12x64 + 16x64 → 29x64" in str(plan)
    narrow = shown(plan, 36)
    assert max(map(len, narrow.splitlines()[1:-1])) <= 36
    assert "recurrent" in narrow
    assert "12x64 + 16x64 → 29x64" not in narrow


def test_colours_are_for_terminals():
    """Without them the text is the same."""
    plan = rewriter.plan(MODELS["nested"]())
    colourful = shown(plan, 200, force_terminal=True, color_system="standard")
    assert "\x1b[32mmerge" in colourful
    plain = [line.rstrip() for line in ESCAPE.sub("", colourful).splitlines()]
    assert plain == str(plan).splitlines()


DRAWS = SCRIPTS / "draw_progress.py"


def in_a_terminal(script, *arguments, **environment):
    """Run Python with standard error a terminal; returns what was on standard output, and in the terminal."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*WARM_PYTHON, script, *arguments],
        stdout=subprocess.PIPE,
        stderr=follower,
        env={**os.environ, "TERM": "xterm", **environment},
        text=True,
    )
    os.close(follower)
    out = process.communicate()[0]
    written = b""
    try:
        while chunk := os.read(leader, 4096):
            written += chunk
    except OSError:  # nobody writes any more
        pass
    os.close(leader)
    assert process.returncode == 0, written
    return out, ESCAPE.sub("", written.decode())


def test_progress_is_drawn_on_a_terminal():
    """Each stage by its name, with its steps where they are known, on standard error, once it takes long."""
    out, drawn = in_a_terminal(DRAWS, "0", "wait")
    assert out == "done\n"
    assert "reading [red]model" in drawn
    assert re.search(r"merging.* [0-3]/3", drawn)
    for arguments in (("3600",), ("0", "quiet")):
        assert in_a_terminal(DRAWS, *arguments) == ("done\n", "")


def test_no_progress_in_a_pipe():
    """Nobody looks."""
    result = subprocess.run([*WARM_PYTHON, DRAWS, "0"], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("done\n", "")


class Told:
    """A listener that writes down what it hears."""

    def __init__(self):
        self.heard = []

    def begin(self, name, steps):
        self.heard.append((name, steps))
        return self

    def advance(self):
        self.heard.append("step")

    def end(self):
        self.heard.append("end")


def test_what_takes_long_is_a_stage(tmp_path):
    """Reading, merging layer by layer, running the model to check it, writing; to whoever listens, and only then."""
    model = MODELS["nested"]()
    model.save(tmp_path / "base.keras")
    listener = Told()
    with progress.listening(listener):
        model = rewriter.load_model(tmp_path / "base.keras")
        rewriter.rewrite(model)
        rewriter.export(model, tmp_path / "plain.keras")
    assert [each for each in listener.heard if isinstance(each, tuple)] == [
        ("reading base.keras", None),
        ("running the model", None),
        ("merging", 3),
        ("running the model", None),
        ("running the model", None),
        ("splitting", 3),
        ("running the model", None),
        ("writing plain.keras", None),
    ]
    assert listener.heard.count("step") == 6
    assert listener.heard.count("end") == 8
    rewriter.split(model)
    assert listener.heard[-1] == "end"


def test_families_are_completed():
    """A shell completes the names that the table of families has."""
    assert set(common._FAMILIES) == {*families.NAMES, families.ALL}
    command = [sys.executable, "-m", "rewriter"]
    asked = {"COMP_WORDS": "rewriter rewrite --layers ein", "COMP_CWORD": "3", "_REWRITER_COMPLETE": "complete_bash"}
    script = "import sys; sys.argv = ['rewriter']; from rewriter.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env={**os.environ, **asked}
    )
    assert result.stdout.split() == ["einsum"]
    assert (
        "--install-completion"
        in subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
    )


def test_a_benchmark_fits_a_narrow_terminal():
    """The ratios are what is asked for; numbers are whole."""
    row = Row("training step", "the same SGD, exact=False", 0.01, 0.009, Ratio(0.9, 0.9, 0.85, 0.95))
    state = {"original": 41_414_656, "rewritten": 1}
    benchmark = Benchmark(
        "base.keras", "tf-keras", 32, 1, (row,), "JointMomentum", state, {"original": 9, "rewritten": 8}
    )
    assert "41,414,656 bytes" in shown(benchmark, 120)
    narrow = shown(benchmark, 50)
    assert max(map(len, narrow.splitlines()[:-1])) <= 50
    assert "41,414,656" not in narrow
    assert "training step" in narrow
    assert "1 round in turn" in narrow


def test_a_notebook_shows_tables_with_their_colours():
    """A plan and a report, as text between tags, without a background of their own."""
    model = MODELS["nested"]()
    plan, report = rewriter.plan(model), rewriter.verify(model, model)
    for shown_there in (plan, report):
        page = shown_there._repr_html_()
        assert page.startswith("<pre")
        plain = html.unescape(re.sub(r"<[^>]*>", "", page))
        assert [line.rstrip() for line in plain.splitlines()] == str(shown_there).splitlines()
        assert "background" not in page
    assert re.search(r'<span style="color: [^"]*">merge *</span>', plan._repr_html_())
