"""The command `mopl` and other programs, as tests run them: in this process or in one of their own,
with their exit code, what they print and the JSON they print.
"""

import contextlib
import functools
import io
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import jax
import jsonschema
import pytest

from mopl_jax.cli import main

SCHEMAS = Path(__file__).parents[1] / "docs" / "schemas"
MAIN = "from mopl_jax.cli import main; main()"


class Ended(NamedTuple):
    """How a program ended: its exit code, standard output and standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        """The one JSON document on standard output; NaN and Infinity are not JSON."""
        return json.loads(self.out, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def mopl(*arguments):
    """The command through its entry point in this process; settings are put back."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["mopl", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        settings_put_back(),
        pytest.raises(SystemExit) as end,
    ):
        main()
    return Ended(end.value.code, out.getvalue(), err.getvalue())


def document(*arguments):
    """The document of a command that succeeds and has nothing to complain about; it is as the
    schema of the command says.
    """
    ended = mopl(*arguments, "--json")
    assert (ended.code, ended.err) == (0, "")
    jsonschema.validate(ended.json, schema(arguments[0]))
    return ended.json


@functools.cache
def schema(name):
    """The JSON schema of a command's document, or of a policy."""
    return json.loads((SCHEMAS / f"{name}.json").read_text())


def described(said, name):
    """Every key of a document is described by the schema of its name."""
    jsonschema.validate(said, strict(schema(name)))


def strict(described):
    """The same schema with no key beside those that it describes."""
    if isinstance(described, list):
        return [strict(entry) for entry in described]
    if not isinstance(described, dict):
        return described
    closed = {key: strict(value) for key, value in described.items()}
    if "properties" in closed:
        closed.setdefault("additionalProperties", False)
    return closed


def assert_refused(ended, *texts):
    """Exit code 2, nothing printed, and one line of complaint in which the texts stand."""
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("mopl: ")
    assert ended.err.count("\n") == 1
    for text in texts:
        assert text in ended.err


@contextlib.contextmanager
def settings_put_back():
    """Precision, compilation cache and whatever else a program sets in jax for itself; signals.

    The devices are started before, or how many there are could not be put back.
    """
    jax.devices()
    before = dict(jax.config.values)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for name, value in dict(jax.config.values).items():
            if value != before[name]:
                jax.config.update(name, before[name])


def start(script, *arguments):
    """A Python script in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process, timeout=300):
    """How a process ends, after at most `timeout` seconds."""
    out, err = process.communicate(timeout=timeout)
    return Ended(process.returncode, out, err)
