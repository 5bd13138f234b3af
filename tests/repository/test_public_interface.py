"""What the package promises to whoever imports it."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import rewriter
from processes import ROOT
from rewriter.choice import Chosen

STUB = ast.parse((Path(rewriter.__file__).parent / "__init__.pyi").read_text("utf-8"))
PLACES = {each.name: node.module for node in STUB.body if isinstance(node, ast.ImportFrom) for each in node.names}
NAMED_IN_FILES = {
    "JointMomentum": "rewriter.joint_momentum",
    "Muon": "rewriter.muon",
    "KFAC": "rewriter.kfac",
    "QuasiDiagonal": "rewriter.quasi_diagonal",
    "SOAP": "rewriter.soap",
}  # whatever moves


def test_all_is_the_public_namespace():
    """__all__ lists each public name, once and in order, and nothing else resolves."""
    assert rewriter.__all__ == sorted(rewriter.__all__)
    assert set(rewriter.__all__) == set(PLACES)
    assert rewriter.callbacks.JointMomentumMonitor
    assert set(rewriter.__all__) <= set(dir(rewriter))
    with pytest.raises(AttributeError, match=r"no attribute .rewrit.\. Did you mean .rewrite."):
        _ = rewriter.rewrit


@pytest.mark.parametrize("name", sorted(name for name in PLACES if PLACES[name] not in {None, "version"}))
def test_every_public_name_is_documented(name):
    """Each public name, and each public method it has, says what it is."""
    value = getattr(rewriter, name)
    value = value.__wrapped__ if isinstance(value, Chosen) else value  # that is there for each Keras
    assert getattr(sys.modules[value.__module__], name) is value
    assert value.__module__ == NAMED_IN_FILES.get(name, f"rewriter.{PLACES[name]}")
    assert inspect.getdoc(value)
    methods = [method for key, method in vars(value).items() if inspect.isfunction(method) and key[0] != "_"]
    assert all(inspect.getdoc(method) for method in methods)


def test_public_names_are_not_hidden_by_modules():
    """A submodule of the same name as a function would hide it once imported."""
    modules = {path.stem for path in Path(rewriter.__file__).parent.iterdir()} - {"callbacks", "keras3", "testing"}
    assert not modules & set(rewriter.__all__)
    assert callable(rewriter.rewrite)


@pytest.mark.parametrize("arguments", [["-c", "import rewriter"], ["-m", "rewriter", "--help"]])
def test_tensorflow_is_not_imported_before_it_is_needed(arguments):
    """Importing the package and asking for help cost no TensorFlow import."""
    command = [sys.executable, "-X", "importtime", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "rewriter.version" in result.stderr
    assert not [line for line in result.stderr.splitlines() if line.endswith((" tensorflow", " tf_keras", " keras"))]


@pytest.mark.slow
def test_any_name_may_be_the_first_that_is_used():
    """Also one whose module is imported again while tf_keras is, in a fresh process."""
    names = ("JointOptimizer", "JointMomentum", "layout_of", "rewrite")
    for name in names:
        command = [sys.executable, "-c", f"import rewriter; print(rewriter.{name})"]
        assert name in subprocess.run(command, capture_output=True, text=True, check=True).stdout


PROGRAM = """
import rewriter


class Halved(rewriter.JointOptimizer):
    slots = {"velocity": "full"}

    def update_layer(self, gradient: object, variable: object, layout: rewriter.Layout) -> None:
        units: int = layout.units
        print(units, self.slot("velocity", variable))


def tune(model: object) -> None:
    plan: rewriter.Plan = rewriter.plan(model, layers="all")
    try:
        rewriter.rewrite(model, rewriter.Centered(rewriter.SOAP(0.003)), plan=plan)
    except rewriter.OptimizerError as error:
        problem: ValueError = error
        raise problem
    paths: list[str] = [each.path for each in rewriter.merged_layers(model)]
    same: bool = rewriter.verify(model, model).same
    print(paths, same, rewriter.is_rewritten(model), rewriter.keras3.Muon(0.001))
    rewriter.testing.check_joint_optimizer(Halved)
"""


@pytest.mark.slow
def test_type_checkers_see_every_public_name(tmp_path):
    """A user's program passes mypy; one that misuses the library does not."""
    right, wrong = tmp_path / "right.py", tmp_path / "wrong.py"
    every = "".join(f"rewriter.{name}\n" for name in rewriter.__all__)
    right.write_text(PROGRAM + every)
    wrong.write_text(
        "import rewriter\n\nrewriter.rewritten\nrewriter.rewrite(0, exact=3)\nlayout: str = rewriter.layout_of(0)\n"
    )
    settings = tmp_path / "mypy.ini"  # not that of this repository
    settings.write_text(f"[mypy]\nignore_missing_imports = True\nfollow_imports = silent\nmypy_path = {ROOT}\n")
    command = [sys.executable, "-m", "mypy", "--config-file", settings, "--cache-dir", tmp_path / "cache", right, wrong]
    said = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, cwd=tmp_path).stdout
    assert [line.partition(": error: ")[0].rpartition("/")[2] for line in said.splitlines()[:-1]] == [
        f"wrong.py:{line}" for line in (3, 4, 5)
    ], said
