"""Files that are written: whole or not at all, never over an input or out of the folder, one run at
a time in a folder.
"""

import os
import signal
import subprocess
import sys

import pytest

from mopl_jax.io import files

HOLD = """
import sys, time
from pathlib import Path
from mopl_jax.io import files
with files.claimed(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
STOP = """
import sys, time
from pathlib import Path
from mopl_jax.io import files
def write(path):
    path.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
files.write_atomically(Path(sys.argv[1]), write)
"""


def started(script, path):
    """A process that has come to its first printed line."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline().strip() in ("held", "writing")
    return process


def killed(process):
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_folder_has_one_run_at_a_time(tmp_path):
    """Another process is refused until the first one ends, even by kill -9; no file is left."""
    process = started(HOLD, tmp_path / "out")
    try:
        with pytest.raises(ValueError, match="out: another run is writing there; .* --out"):
            with files.claimed(tmp_path / "out"):
                pass
        with files.claimed(tmp_path / "out", lock=False) as folder:
            assert folder == tmp_path / "out"
    finally:
        killed(process)
    with files.claimed(tmp_path / "out"):
        assert list((tmp_path / "out").iterdir()) == []


def test_what_a_killed_process_leaves_is_removed_by_the_next(tmp_path, monkeypatch):
    """But not the file that another process is writing."""
    monkeypatch.setattr(files, "_YOUNG", 0.0)
    path = tmp_path / "x.txt"
    process = started(STOP, path)
    try:
        files.write_atomically(path, lambda temporary: temporary.write_text("whole"))
        assert len(list(tmp_path.iterdir())) == 2
    finally:
        killed(process)
    assert path.read_text() == "whole"
    files.write_atomically(path, lambda temporary: temporary.write_text("again"))
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_was_made_just_now_is_left(tmp_path):
    """Its process may not have locked it yet."""
    (tmp_path / ".mopl-unfinished-new").mkdir()
    files.write_atomically(tmp_path / "x.txt", lambda temporary: temporary.write_text("x"))
    assert (tmp_path / ".mopl-unfinished-new").exists()


def fail(temporary):
    temporary.write_text("half")
    raise OSError(28, "No space left on device")


def test_a_full_disk_changes_nothing(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(ValueError, match="x.txt: cannot be written .No space left on device.;"):
        files.write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_have_the_permissions_of_any_other(tmp_path):
    (tmp_path / "by hand").write_text("")
    files.write_atomically(tmp_path / "x", lambda temporary: temporary.write_text("x"))
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "by hand").stat().st_mode


def test_planted_links_are_not_followed(tmp_path):
    """Whatever lies beside the file under a name that could be guessed."""
    (tmp_path / "victim").write_text("old")
    for name in (f".x-{os.getpid()}.txt", f".write-{os.getpid()}", ".mopl-unfinished-"):
        (tmp_path / name).symlink_to(tmp_path / "victim")
    files.prepare(tmp_path)
    files.write_atomically(tmp_path / "x.txt", lambda temporary: temporary.write_text("new"))
    assert (tmp_path / "victim").read_text() == "old"


def test_the_folder_of_an_output_is_made(tmp_path):
    out = tmp_path / "a" / "b" / "x.json"
    assert files.check_output(out, "--out") == out
    assert files.write_json(out, {}).read_text() == "{}\n"
    with pytest.raises(ValueError, match="x.json: no such folder"):
        files.write_json(tmp_path / "c" / "x.json", {})


def linked(path):
    path.symlink_to(path.parent.parent / "elsewhere" / "file")


BAD_OUTPUTS = {
    "a folder": (lambda path: path.mkdir(), "expected a file to write, got .*x.json, a folder"),
    "a device": (os.mkfifo, "expected a file to write, got .*x.json, a device"),
    "a link": (linked, ".*x.json is a link that leads out of its folder, to .*elsewhere/file"),
    "an input": (lambda path: path.write_text(""), "expected a file of its own, .*which is read"),
}


@pytest.mark.parametrize("case", BAD_OUTPUTS)
def test_outputs_that_cannot_be_are_refused_before_anything_is_computed(case, tmp_path):
    make, words = BAD_OUTPUTS[case]
    path = tmp_path / "folder" / "x.json"
    path.parent.mkdir()
    make(path)
    (tmp_path / "same.json").symlink_to(path)
    read = [tmp_path / "same.json"]
    with pytest.raises(ValueError, match=f"--out: {words}"):
        files.check_output(path, "--out", read)
    with pytest.raises(ValueError, match=f"--out: {words}"):
        with files.claimed(path.parent, ["x.json"], read):
            pass


def test_links_within_the_folder_are_replaced(tmp_path):
    (tmp_path / "today.json").write_text("old")
    (tmp_path / "x.json").symlink_to("today.json")
    files.write_json(files.check_output(tmp_path / "x.json", "--out"), {})
    assert (tmp_path / "today.json").read_text() == "old"
    assert not (tmp_path / "x.json").is_symlink()


def test_a_place_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="out: cannot be written .Not a directory.*--report"):
        files.prepare(tmp_path / "file" / "out", "--report")
    with pytest.raises(ValueError, match="x.json: no such folder"):
        files.write_json(tmp_path / "file" / "x.json", {})


def test_a_disk_that_is_full_in_earnest(tmp_path):
    """A limit on the size of files stands for the disk; what was there stays."""
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "from pathlib import Path; from mopl_jax.io.files import write_json;"
        "write_json(Path(sys.argv[1]), ['x' * 10] * 1000)"
    )
    path = files.write_json(tmp_path / "x.json", {})
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True)
    assert "ValueError" in done.stderr
    assert "x.json: cannot be written (File too large)" in done.stderr
    assert path.read_text() == "{}\n"
    assert list(tmp_path.iterdir()) == [path]
