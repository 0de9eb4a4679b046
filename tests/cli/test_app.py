"""The command as a whole: help that waits for no library, compiled functions that are kept."""

import inspect
import os
import re
import subprocess
import sys
from importlib import import_module

import command
import pytest

from mopl_jax.cli import app
from mopl_jax.metrics import learnt_metric
from mopl_jax.simulation import closed_loop, run

HEAVY = ("jax", "numpy", "pyarrow", "matplotlib", "optax")
LIGHT = ("coverage", "metric", "plan", "simulate")
CALL = "import sys; from mopl_jax.cli import main\ntry:\n main()\nexcept SystemExit: pass\n"
LOADED = f"print(*[name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"


def python(code, *arguments, **environment):
    """A fresh Python that runs `code`; its environment has no settings of the cache but these."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XDG_", "MOPL_"))}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env=kept | {name: str(value) for name, value in environment.items()},
    )


def mopl(*arguments, **environment):
    return python("from mopl_jax.cli import main; main()", *arguments, **environment)


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in LIGHT)])
def test_help_waits_for_no_library(arguments, tmp_path):
    done = python(CALL + LOADED, *arguments, XDG_CACHE_HOME=tmp_path)
    assert "Usage:" in done.stdout
    assert done.stderr.strip() == ""


@pytest.mark.parametrize("name", ["check", "evaluate", "compare", "learn"])
def test_a_verb_on_a_log_waits_for_no_scipy(name):
    """scipy takes a third of jax's import, and only rare logs need it."""
    screens = "mopl_jax.evaluation.comparison, mopl_jax.report.learning_screen, mopl_jax.io.read"
    code = f"import sys, mopl_jax.cli.{name}, {screens}; sys.exit('scipy' in sys.modules)"
    assert python(code).returncode == 0


THREADS = "import os; print(os.environ['OPENBLAS_NUM_THREADS'], file=sys.stderr)"


@pytest.mark.parametrize(("asked", "given"), [({}, "1"), ({"OPENBLAS_NUM_THREADS": 3}, "3")])
def test_small_matrices_are_factorised_by_one_thread_unless_more_are_asked_for(
    asked, given, monkeypatch
):
    """Several wait for each other; the library that does it reads this before it is loaded."""
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    assert python(CALL + THREADS, "--help", **asked).stderr.strip() == given


@pytest.mark.parametrize("name", app.COMMANDS)
def test_help_lists_the_first_sentence_of_each_command(name):
    """The list of commands is written twice, so that help imports none of them."""
    module = import_module(f"mopl_jax.cli.{name}")
    first = inspect.getdoc(getattr(module, name)).split("\n\n")[0]
    assert app.COMMANDS[name] == " ".join(first.split())
    assert app.command(name).name == name


def test_defaults_are_those_of_the_library():
    """Numbers and names that options repeat, so that help imports nothing."""
    simulate = inspect.signature(import_module("mopl_jax.cli.simulate").simulate).parameters
    assert simulate["scale"].default == closed_loop.DEFAULT.scale
    assert simulate["alpha"].default == closed_loop.DEFAULT.alpha
    assert simulate["small"].default == run.SMALL
    metric = inspect.signature(import_module("mopl_jax.cli.metric").metric).parameters
    said = metric["objective"].annotation.__metadata__[0].help
    words = set(re.findall(r"\w+", said)) - {"One", "of", "default", "without", "labels"}
    assert words == {*learnt_metric.NAMED}


def test_unknown_commands_are_one_line():
    done = mopl("plann")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Did you mean 'plan'" in done.stderr
    assert done.stderr.count("\n") == 1


EMPTY = {
    "LOG": ("check", ""),
    "POLICY…": ("compare", "log.parquet", "logging", ""),
    "--target": ("evaluate", "log.parquet", "--target", ""),
    "--logging": ("learn", "log.parquet", "--logging", ""),
    "--report": ("learn", "log.parquet", "--report", ""),
    "--out": ("coverage", "--out", ""),
    "EXPERIMENTS...": ("metric", "", "--north-star", "x"),
    "SNAPSHOTS...": ("monitor", "", "--planned", "1"),
    "--pilot": ("plan", "--pilot", ""),
    "--replay": ("simulate", "--replay", ""),
}


@pytest.mark.parametrize("option", EMPTY)
def test_an_empty_path_is_not_the_folder_one_is_in(option):
    """As of a variable of the shell that is not set."""
    ended = command.mopl(*EMPTY[option])
    command.assert_refused(ended, option, "expected a path, got an empty one")


@pytest.mark.parametrize("platform", ["cuda", "tpu", "nonsense"])
def test_a_platform_that_is_not_there_is_one_line(platform):
    done = mopl("plan", "--d", "2", "--gain", "0.1", JAX_PLATFORMS=platform)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("mopl: JAX_PLATFORMS: expected a platform that")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("error", [MemoryError("12 TiB"), OverflowError("int too large")])
def test_what_a_machine_cannot_hold_is_one_line(monkeypatch, error):
    def fail(**_):
        raise error

    monkeypatch.setattr(app, "app", fail)
    command.assert_refused(command.mopl("plan"), f"this machine can hold, got more ({error})")


# Compiled functions.

PLAN = ("plan", "--d", "2", "--gain", "0.1")


def compiled(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*-cache")}


def test_compiled_functions_are_kept(tmp_path):
    """The first run fills the user's cache folder; the second says the same and adds nothing."""
    first = mopl(*PLAN, XDG_CACHE_HOME=tmp_path, HOME=tmp_path, LOCALAPPDATA=tmp_path)
    kept = compiled(tmp_path)
    second = mopl(*PLAN, XDG_CACHE_HOME=tmp_path, HOME=tmp_path, LOCALAPPDATA=tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    assert kept
    assert compiled(tmp_path) == kept
    assert (second.stdout, second.stderr) == (first.stdout, first.stderr)


@pytest.mark.parametrize("how", ["option", "variable", "no folder"])
def test_running_without_a_cache_is_silent(how, tmp_path):
    """Unwanted, or its folder cannot be made: the command runs, says nothing of it, keeps nothing.

    The user's own JAX_COMPILATION_CACHE_DIR is not used either where no cache is wanted.
    """
    (tmp_path / "file").write_text("")
    folder = tmp_path / ("file" if how == "no folder" else "folder")
    settings = {"XDG_CACHE_HOME": folder, "HOME": folder, "LOCALAPPDATA": folder}
    if how != "no folder":
        settings["JAX_COMPILATION_CACHE_DIR"] = tmp_path / "own"
    if how == "variable":
        settings["MOPL_NO_CACHE"] = 1
    done = mopl(*(["--no-cache"] if how == "option" else []), *PLAN, **settings)
    assert (done.returncode, done.stderr) == (0, "")
    assert compiled(tmp_path) == {}


def test_the_users_own_folder_is_respected(tmp_path):
    done = mopl(*PLAN, XDG_CACHE_HOME=tmp_path / "ours", JAX_COMPILATION_CACHE_DIR=tmp_path / "own")
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "ours").exists()
