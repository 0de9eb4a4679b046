"""The folder of compiled functions: where each platform keeps what can be made again; its size."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import MAIN

from mopl_jax.numerics import compiled


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"HOME": "/home/me"}, "/home/me/.cache"),
        ("linux", {"HOME": "/home/me", "XDG_CACHE_HOME": "/scratch"}, "/scratch"),
        ("darwin", {"HOME": "/Users/me"}, "/Users/me/Library/Caches"),
        ("win32", {"HOME": "/me", "LOCALAPPDATA": "/me/Local"}, "/me/Local"),
    ],
)
def test_folder_is_the_platforms(platform, variables, expected, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("sys.platform", platform)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert compiled.folder() == Path(expected) / "mopl_jax" / "compiled"


def test_oldest_functions_are_forgotten(tmp_path, monkeypatch):
    """What is kept is the newest, and fits."""
    monkeypatch.setattr(compiled, "folder", lambda: tmp_path)
    monkeypatch.setattr(compiled, "LARGEST", 250)
    for age in range(5):
        path = tmp_path / f"{age}-cache"
        path.write_bytes(bytes(100))
        os.utime(path, (1e9 - age, 1e9 - age))
    assert compiled.prepared() == tmp_path
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0-cache", "1-cache"]


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps rights elsewhere")
@pytest.mark.parametrize("part", ["mopl_jax", "mopl_jax/compiled"])
@pytest.mark.parametrize("rights", [0o770, 0o707, 0o777])
def test_a_folder_that_others_may_write_is_not_used(part, rights, tmp_path, monkeypatch):
    """What they put there would be run; one of our own making is private."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert compiled.prepared() == tmp_path / "mopl_jax" / "compiled"
    (tmp_path / part).chmod(rights)
    assert compiled.prepared() is None


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps rights elsewhere")
def test_anothers_folder_is_not_used(tmp_path, monkeypatch):
    """Though it is to write for nobody else."""
    monkeypatch.setattr(compiled, "folder", lambda: tmp_path / "compiled")
    assert compiled.prepared()
    monkeypatch.setattr("os.geteuid", lambda: tmp_path.stat().st_uid + 1)
    assert compiled.prepared() is None


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps rights elsewhere")
def test_a_command_leaves_a_folder_of_others_alone(tmp_path):
    """Nothing is read there, nothing written, and the result is the same."""
    found, own = [], ("JAX_COMPILATION_CACHE_DIR", "MOPL_NO_CACHE")
    plain = {name: value for name, value in os.environ.items() if name not in own}
    for rights in (0o700, 0o777):
        folder = tmp_path / f"{rights}" / "mopl_jax" / "compiled"
        folder.mkdir(parents=True)
        folder.chmod(rights)
        folder.parent.chmod(0o700)
        asked = [sys.executable, "-c", MAIN, "plan", "--d", "2", "--gain", "0.1", "--json"]
        where = {"XDG_CACHE_HOME": str(tmp_path / f"{rights}")}
        done = subprocess.run(asked, capture_output=True, check=True, env=plain | where)
        found.append((done.stdout, done.stderr, any(folder.iterdir())))
    assert found[0] == (found[1][0], b"", True)
    assert found[1][1:] == (b"", False)


def test_a_jax_that_is_there_already_is_left_alone(monkeypatch, tmp_path):
    """Tests and notebooks call the command's functions with a cache, or none, of their own."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setattr(compiled, "folder", lambda: tmp_path / "ours")
    compiled.keep(True)
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
    assert not (tmp_path / "ours").exists()
