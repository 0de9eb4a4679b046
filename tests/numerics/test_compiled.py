"""The folder of compiled functions: where each platform keeps what can be made again; its size."""

import os
from pathlib import Path

import pytest

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


def test_a_jax_that_is_there_already_is_left_alone(monkeypatch, tmp_path):
    """Tests and notebooks call the command's functions with a cache, or none, of their own."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setattr(compiled, "folder", lambda: tmp_path / "ours")
    compiled.keep(True)
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
    assert not (tmp_path / "ours").exists()
