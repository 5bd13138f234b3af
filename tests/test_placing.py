"""Files put in their place in one step: whenever the process dies, there is the old one or the new one, whole."""

import os

import pytest

import rewriter
from conftest import run_python
from models import MODELS
from rewriter import placing

# Writes over an old file or folder again and again, in a child that is killed at one of many points: function calls,
# counted over the whole write, and every one of the last. Prints what was found each time.
KILL = """
import json, os, signal, sys
from pathlib import Path
import tf_keras, rewriter
from rewriter.placing import place
target, kind = Path(sys.argv[1]), sys.argv[2]
model = tf_keras.Sequential([tf_keras.layers.Dense(3, input_shape=(5,))])
rewriter.rewrite(model)
def write_folder(path):
    path.mkdir()
    for name in "abc":
        (path / name).write_text(state)
def write():
    place(target, write_folder) if kind == "folder" else rewriter.save_model(model, target, overwrite=True)
def content():
    if not target.exists():
        return None
    if kind == "folder":
        return [(target / name).read_text() for name in "abc"]
    loaded = rewriter.load_model(target)
    return [float(loaded.layers[0].augmented_kernel[0, 0])]
def child(limit):
    count = 0
    def profile(frame, event, argument):
        nonlocal count
        if event in ("call", "c_call"):
            count += 1
            if count == limit:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.setprofile(profile)
    write()
    sys.setprofile(None)
    Path(sys.argv[3]).write_text(str(count))
    os._exit(0)
def restore():
    # The old one again, for the next kill to have something to lose.
    global state
    state = "old" * 1000
    model.layers[0].augmented_kernel.assign(model.layers[0].augmented_kernel * 0 + 1)
    write()
    state = "new" * 1000
    model.layers[0].augmented_kernel.assign(model.layers[0].augmented_kernel * 0 + 2)
restore()
before, seen = content(), []
def run_child(limit):
    pid = os.fork()
    if pid == 0:
        child(limit)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])
run_child(0)
total = int(Path(sys.argv[3]).read_text())
points = sorted({*range(1, total, max(1, total // 25)), *range(max(1, total - 40), total + 1)})
restore()
for limit in [*points, total + 1000]:
    killed = run_child(limit)
    now = content()
    seen.append("old" if now == before else "new" if now and set(map(str, now)) <= {"2.0", state} else str(now))
    if seen[-1] == "new":
        restore()
print(json.dumps({"seen": seen, "killed": killed}))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(("name", "kind"), [("model.keras", "file"), ("model.h5", "file"), ("model", "folder")])
def test_killed_at_any_moment_there_is_the_old_or_the_new(tmp_path, name, kind):
    """A kill at each call to the system leaves what was there, or what was to be there, and never a piece."""
    result = run_python(KILL, tmp_path / name, kind, tmp_path / "count")
    assert not result["killed"], "the last child should have come to its end"
    assert set(result["seen"]) == {"old", "new"}
    assert result["seen"].count("old") >= 15
    assert result["seen"].count("new") >= 2
    assert result["seen"][-1] == "new"


LIMIT = """
import json, resource, sys
from pathlib import Path
import tf_keras, rewriter
model = tf_keras.Sequential([tf_keras.layers.Dense(300, input_shape=(300,))])
model.compile("adam", "mse")
rewriter.rewrite(model)
folder = Path(sys.argv[1])
results = {}
for name in ("model.keras", "model.h5", "model"):
    path = folder / name
    rewriter.save_model(model, path)
    before = rewriter.formats.digest(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    for write in (rewriter.save_model, rewriter.export):
        try:
            write(model, path, overwrite=True)
            message = None
        except rewriter.FileError as error:
            message = str(error)
        results[f"{write.__name__} {name}"] = [message, rewriter.formats.digest(path) == before]
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(json.dumps({"results": results, "left": sorted(path.name for path in folder.iterdir())}))
"""


def test_where_there_is_no_room_the_old_file_stays(tmp_path):
    """With a limit on the size of files, as on a full disk, one line says so, and no piece is left behind."""
    result = run_python(LIMIT, tmp_path)
    assert result["left"] == ["model", "model.h5", "model.keras"]
    for message, unchanged in result["results"].values():
        assert unchanged
        assert message is not None
        assert ": not written, " in message
        assert "\n" not in message


def test_a_folder_that_is_no_saved_model_is_never_replaced(tmp_path):
    """--overwrite on a folder of the user's own would delete what is in it."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "thesis.tex").write_text("years of work")
    with pytest.raises(rewriter.FileError, match=r"holds thesis\.tex, no part of a SavedModel"):
        rewriter.export(MODELS["sequential"](), tmp_path / "project", overwrite=True)
    assert (tmp_path / "project" / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("exchanges", [True, False], ids=["in one step", "in two"])
def test_a_folder_is_replaced_whole(tmp_path, monkeypatch, exchanges):
    """Also where the system cannot let two folders change places; nothing else is left behind, nor by a failure."""
    if not exchanges:
        monkeypatch.setattr(placing, "_exchange", lambda *_: False)

    def write(path):
        path.mkdir()
        (path / "new").touch()

    target = tmp_path / "target"
    target.mkdir()
    (target / "old").touch()
    placing.place(target, write)
    assert [path.name for path in target.iterdir()] == ["new"]

    def fail(path):
        path.mkdir()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        placing.place(target, fail)
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["target", "target/new"]
