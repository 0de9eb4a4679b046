"""What a console lacks does not cost the result: other characters, no notebook's backend, names as
they are.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
from command import MAIN, mopl
from worlds import write

from mopl_jax.cli import plain
from mopl_jax.report import style, terminal

N = 300
NAMES = ("[/red]", "$\\frac$", ":smile: [bold]")


def environment(**more):
    return os.environ | {name: str(value) for name, value in more.items()}


def printed(*arguments, **more):
    """What a process of its own prints, as bytes."""
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *map(str, arguments)],
        capture_output=True,
        timeout=300,
        env=environment(**more),
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_every_console_gets_the_plan(encoding):
    """The plan has α, ₂, ∞ and lines of boxes."""
    asked = ("plan", "--d", 2, "--gain", "0.1", "--target-scale", "2")
    code, out, err = printed(*asked, PYTHONIOENCODING=encoding)
    assert (code, err) == (0, b"")
    text = out.decode(encoding)
    infinity = "inf" if encoding != "utf-8" else "∞"
    assert infinity in text
    assert "unbounded" in text
    assert b"\x1b[" not in out  # no colour codes in a pipe


UNREAD = {
    "text": "draw {0}/target.json --n 3",
    "a screen": "evaluate {0}/log.toml --target {0}/target.json",
    "a complaint": "check {0}/none.toml",
}


@pytest.mark.parametrize("what", UNREAD)
def test_nobody_needs_to_read_what_is_printed(what, tmp_path):
    """As `mopl … | head -1`: quiet, and the exit code is what it would be."""
    assert mopl("example", "--out", tmp_path).code == 0
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", MAIN, *UNREAD[what].format(tmp_path).split()]
    streams = {"stdout": write, "stderr": write if what == "a complaint" else subprocess.PIPE}
    done = subprocess.run(command, timeout=300, **streams)
    os.close(write)
    assert done.returncode == (2 if what == "a complaint" else 0)
    assert not done.stderr


FULL = {
    "text": "draw {0}/target.json --n 3",
    "more than a buffer": "draw {0}/target.json --n 9999",
    "a document": "check {0}/log.toml --json",
    "a screen": "evaluate {0}/log.toml --target {0}/target.json",
}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no such device")
@pytest.mark.parametrize("what", FULL)
def test_an_output_on_a_full_disk_is_one_complaint(what, tmp_path):
    """And one that nobody can hear where complaints go there, too."""
    assert mopl("example", "--out", tmp_path).code == 0
    command = [sys.executable, "-c", MAIN, *FULL[what].format(tmp_path).split()]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, timeout=300, stdout=full, stderr=subprocess.PIPE)
        silent = ["check", f"{tmp_path}/none.toml"]
        unheard = subprocess.run([*command[:3], *silent], timeout=300, stdout=full, stderr=full)
    assert (done.returncode, unheard.returncode) == (2, 2)
    assert done.stderr.decode() == (
        "mopl: standard output: cannot be written (No space left on device); free some space, or"
        " write to another place\n"
    )


@pytest.mark.parametrize("character", sorted(plain.WORDS))
def test_the_words_for_characters_are_ascii(character):
    assert plain.WORDS[character].isascii()
    assert len(character) == 1


@pytest.mark.parametrize(
    ("text", "said"), [("é₂⁵ ≥ ½", "e25 >= 1/2"), ("文", "?"), ("plain", "plain")]
)
def test_what_has_no_word_loses_its_accents(text, said):
    plain.install()
    assert text.encode("ascii", "mopl_plain").decode() == said


def test_a_notebooks_backend_is_not_asked_for(tmp_path):
    study = ("coverage", "--quick", "--replicates", 8, "--n", "8", "--out", tmp_path / "out")
    code, _, err = printed(*study, "--json", MPLBACKEND="nonsense")
    assert (code, err) == (0, b"")
    assert (tmp_path / "out" / "coverage.png").is_file()


def odd_log(folder):
    """A log whose columns are markup, in which one weight has to be named by a check."""
    rng = np.random.default_rng(0)
    table = {name: rng.normal(size=N) for name in NAMES}
    table[NAMES[0]] = np.maximum(table[NAMES[0]], 0)
    return write(folder / "log.parquet", table | {"reward": rng.normal(size=N), "p": np.ones(N)})


def test_names_are_text_on_the_screen(tmp_path):
    ended = mopl("check", odd_log(tmp_path), "--action", ",".join(NAMES), "--propensity", "p")
    assert ended.code == 0
    for name in NAMES:
        assert name in " ".join(ended.out.split())


def test_names_are_text_in_figures_and_tables(tmp_path, capsys):
    """matplotlib reads what stands between two dollars as a formula, unless they are escaped."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots()
    ax.set_xlabel(style.literal("$\\frac$ and $[/red]"))
    style.save(figure, tmp_path / "one.svg")
    assert "$\\frac$ and $[/red]" in (tmp_path / "one.svg").read_text()
    table = terminal.table("[/red]")
    table.add_row("[bold]:smile:")
    terminal.console().print(table)
    out = capsys.readouterr().out
    assert "[/red]" in out
    assert "[bold]:smile:" in out


def test_names_give_the_terminal_no_orders(capsys):
    """Escape sequences in names of files and columns are text, wherever they stand."""
    made = terminal.table("name", title="\x1b[31mtitle")
    made.add_row("w_\x1b[31m\x07 and more")
    out = terminal.console()
    out.print(made, terminal.headed("\x1b]0;x", "rest\x9b"), "line\x1b[2J", sep="\n")
    text = capsys.readouterr().out
    for shown in ("w_[31m", "[31mtitle", "]0;xrest", "line[2J"):
        assert shown in text
    assert all(x.isprintable() or x == "\n" for x in text)
