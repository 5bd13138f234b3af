"""Files put in their place in one step: whenever the process dies, there is the old one or the new one, whole."""

import os

import pytest

import rewriter
from models import MODELS
from processes import run_script
from rewriter.files import atomic_write

pytestmark = pytest.mark.slow


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(("name", "kind"), [("model.keras", "file"), ("model.h5", "file"), ("model", "folder")])
def test_killed_at_any_moment_there_is_the_old_or_the_new(tmp_path, name, kind):
    """A kill at each call to the system leaves what was there, or what was to be there, and never a piece."""
    result = run_script("kill_while_writing", tmp_path / name, kind, tmp_path / "count")
    assert not result["killed"], "the last child should have come to its end"
    assert set(result["seen"]) == {"old", "new"}
    assert result["seen"].count("old") >= 15
    assert result["seen"].count("new") >= 2
    assert result["seen"][-1] == "new"


def test_where_there_is_no_room_the_old_file_stays(tmp_path):
    """With a limit on the size of files, as on a full disk, one line says so, and no piece is left behind."""
    result = run_script("write_without_room", tmp_path)
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
        monkeypatch.setattr(atomic_write, "_exchange", lambda *_: False)

    def write(path):
        path.mkdir()
        (path / "new").touch()

    target = tmp_path / "target"
    target.mkdir()
    (target / "old").touch()
    atomic_write.place(target, write)
    assert [path.name for path in target.iterdir()] == ["new"]

    def fail(path):
        path.mkdir()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        atomic_write.place(target, fail)
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["target", "target/new"]
