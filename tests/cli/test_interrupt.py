"""Ctrl-C and SIGTERM: one line and exit code 130 or 143, wherever a command is."""

import signal

import pytest
from command import end, mopl, start
from worlds import write

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143}
AT_IMPORT = """
import importlib.abc, signal, sys
number, module = int(sys.argv.pop(1)), sys.argv.pop(1)
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == module:
            signal.raise_signal(number)
sys.meta_path.insert(0, Finder())
from mopl_jax.cli import main
main()
"""
IN_A_SWEEP = """
import signal, sys
from mopl_jax.cli import main
from mopl_jax.coverage import engine
number = int(sys.argv.pop(1))
real = engine.run_batch
def second_batch_never_ends(key, world, grid, start, *more):
    if start > 0:
        signal.raise_signal(number)
    return real(key, world, grid, start, *more)
engine.run_batch = second_batch_never_ends
main()
"""
SMALL = ["--n", "8", "--d", "2", "--interval", "normal", "--replicates", "128", "--memory", "0.001"]
COMMANDS = {
    "coverage": (SMALL, "interrupted; what was finished is kept, the same command resumes"),
    "simulate": ((), "interrupted; start it again"),
    "learn": (("log.parquet",), "interrupted; start it again"),
    "evaluate": (("log.parquet",), "interrupted; start it again"),
    "metric": (("log.parquet", "--north-star", "x"), "interrupted; start it again"),
}


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("command", COMMANDS)
def test_in_an_import_it_is_one_line(command, number):
    """Where a KeyboardInterrupt would become an ImportError, or crash an extension."""
    options, line = COMMANDS[command]
    ended = end(start(AT_IMPORT, int(number), "numpy", command, *options))
    assert (ended.code, ended.out, ended.err) == (SIGNALS[number], "", f"mopl: {line}\n")


def test_before_the_command_is_known_it_is_one_line():
    ended = end(start(AT_IMPORT, int(signal.SIGINT), "typer", "plan"))
    assert (ended.code, ended.err) == (130, "mopl: interrupted before it started\n")


@pytest.mark.parametrize("number", SIGNALS)
def test_in_a_sweep_it_says_that_the_same_command_resumes(number, tmp_path):
    """And so it does: the folder is free, and the results are those of a run that went on."""
    command = ["coverage", *SMALL, "--json", "--out"]
    stopped = end(start(IN_A_SWEEP, int(number), *command, tmp_path))
    assert stopped.code == SIGNALS[number]
    assert stopped.out == ""
    assert stopped.err == f"mopl: {COMMANDS['coverage'][1]}\n"
    assert not (tmp_path / "results.parquet").exists()
    whole = mopl(*command, tmp_path / "whole").json["rows"]
    assert mopl(*command, tmp_path).json["rows"] == whole


def test_an_ignored_signal_stays_ignored(tmp_path):
    """As nohup and shells that put a command in the background have it."""
    ignored = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{AT_IMPORT}"
    path = write(tmp_path / "log.parquet", {"reward": [1.0], "propensity": [1.0]})
    ended = end(start(ignored, int(signal.SIGINT), "numpy", "check", path))
    assert ended.code in (0, 3)
    assert "verdict" in ended.out
