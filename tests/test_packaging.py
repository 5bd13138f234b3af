"""What a built wheel contains."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_wheel_holds_the_command_line_inside_the_package(tmp_path):
    """cli/ is installed as rewriter.cli; no top-level package named cli; typed; nothing of the tests."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("keras_rewriter-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        entry_points = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    packages = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert packages == {"rewriter"}
    expected = {f"rewriter/cli/{path.name}" for path in (ROOT / "cli").glob("*.py")}
    assert expected | {"rewriter/__init__.py", "rewriter/py.typed"} <= set(names)
    assert "rewriter = rewriter.cli:main" in entry_points
