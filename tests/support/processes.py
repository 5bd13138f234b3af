"""Scripts of tests/scripts, in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

from warm_python import WARM_PYTHON

SUPPORT = Path(__file__).resolve().parent
SCRIPTS = SUPPORT.parent / "scripts"
ROOT = SUPPORT.parents[1]

_RUN = f"""
import runpy, sys
sys.path.insert(0, {str(SUPPORT)!r})
del sys.argv[0]
{{before}}
runpy.run_path(sys.argv[0], run_name="__main__")
"""
# Whoever imports rewriter in such a process gets an ImportError, installed or not.
_WITHOUT_REWRITER = "sys.modules['rewriter'] = None"


def run_script(name, *arguments, before="", python=WARM_PYTHON, env=None):
    """Run a script in a fresh process; returns what its last line of output says, as JSON.

    Args:
        name: The script, without its ending.
        arguments: What it finds in ``sys.argv``.
        before: What is run before it.
        python: The interpreter, as the beginning of a command.
        env: What its environment has besides.
    """
    command = [*python, "-c", _RUN.format(before=before), SCRIPTS / f"{name}.py", *arguments]
    result = run([*map(str, command)], timeout=300, env=env or {})
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def run_script_without_rewriter(name, *arguments):
    """Run a script in a fresh process in which ``rewriter`` cannot be imported."""
    return run_script(name, *arguments, before=_WITHOUT_REWRITER)


def run(command, **options):
    """Run a command and hold what it writes; Python and TensorFlow say nothing of themselves."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **options.pop("env", {})}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, **options)


def path_with_rewriter(folder):
    """A ``PATH`` on which ``rewriter`` is the command, in a process that has TensorFlow imported already."""
    command = folder / "bin" / "rewriter"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {" ".join(WARM_PYTHON)} -m rewriter "$@"\n')
    command.chmod(0o755)
    return os.pathsep.join([str(command.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
