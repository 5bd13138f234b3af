"""What a built wheel contains, and that it can be imported without the checkout."""

import subprocess
import sys
import zipfile

from processes import ROOT, run_script
from rewriter.version import __version__


def test_the_version_is_told_alike():
    """To who cites it, and in the headings of the changelog or as what is not released yet."""
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f"## [{__version__}] - 20" in changelog or "## [Unreleased]" in changelog


def test_the_wheel_holds_the_command_line_inside_the_package(tmp_path):
    """cli/ is installed as rewriter.cli; no top-level package named cli; typed; nothing of the tests."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("keras_rewriter-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        entry_points = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "rewriter").rglob("*.py")}
    assert modules <= set(names)
    packages = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert packages == {"rewriter"}
    expected = {f"rewriter/cli/{path.name}" for path in (ROOT / "cli").glob("*.py")}
    assert expected | {"rewriter/__init__.pyi", "rewriter/py.typed"} <= set(names)
    assert "rewriter = rewriter.cli:main" in entry_points

    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    dotted = sorted(
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in modules | expected
        if "__main__" not in name
    )
    assert run_script("import_all", installed, *dotted) == {"outside": []}
