"""What all studies share: options in, rows stored with their provenance, Markdown tables out.

A study is a module of this folder without an underscore. Its docstring begins with its question.

    SIZES = {"replicates": 200}           # its options and their defaults; a tuple reads 1,2,3
    QUICK = {"replicates": 8}             # sizes of a run that only shows that everything runs
    def run(options) -> rows              # a list of dicts, or `Rows` to say more about them all
    def table(rows) -> Markdown           # if the plain table of all columns does not do
    NEEDS = {"torch": "pip install …"}    # packages without which it is not run
    RESULTS = ("one", "two")              # the names of its files, if not one with its own name

With several files `run` yields the rows of each, in this order, and `table` takes them all.
"""

import argparse
import ast
import dataclasses
import importlib
import importlib.util
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mopl_jax.io import files, storage

HERE = Path(__file__).parent
RESULTS = HERE / "results"
STUDIES = HERE / "studies"


class Rows(list[dict[str, Any]]):
    """Rows of one stored file, and in `about` what is said of them all."""

    def __init__(self, rows: Iterable[dict[str, Any]] = (), **about: Any):
        super().__init__(rows)
        self.about = about


@dataclasses.dataclass(frozen=True)
class Study:
    """A module that answers one question, by its name."""

    name: str

    @property
    def question(self) -> str:
        """The docstring's first paragraph on one line; the module is not imported."""
        text = ast.get_docstring(ast.parse((HERE / f"{self.name}.py").read_text())) or ""
        return " ".join(text.split("\n\n")[0].split())

    @property
    def module(self) -> Any:
        """The module, imported."""
        return importlib.import_module(f"benchmarks.{self.name}")

    def attribute(self, name: str, otherwise: Any) -> Any:
        """What the module declares under a name, or `otherwise`."""
        return getattr(self.module, name, otherwise)

    @property
    def files(self) -> tuple[str, ...]:
        """The names of its stored files."""
        return self.attribute("RESULTS", (self.name,))

    def stored(self, folder: Path = RESULTS) -> bool:
        """Whether all of them are there."""
        return all((folder / f"{name}.parquet").exists() for name in self.files)


def studies() -> dict[str, Study]:
    """Every study of this folder, by name."""
    names = sorted(path.stem for path in HERE.glob("[!_]*.py"))
    return {name: Study(name) for name in names}


# Options.


def options(study: Study, arguments: Sequence[str]) -> argparse.Namespace:
    """The study's sizes as options, `--quick` and `--out`; a path may come first without a name."""
    if "path" in study.attribute("SIZES", {}) and arguments and arguments[0][0] != "-":
        arguments = ["--path", *arguments]
    parser = argparse.ArgumentParser(f"python -m benchmarks {study.name}", None, study.question)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; needs --out")
    for name, default in study.attribute("SIZES", {}).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=_reader(default), default=None)
    chosen = parser.parse_args(arguments)
    if chosen.quick and chosen.out == RESULTS:
        parser.error("--quick: expected --out FOLDER, because stored results are not for tiny runs")
    return _with_defaults(study, chosen)


def _with_defaults(study, chosen):
    sizes = study.attribute("SIZES", {})
    sizes = sizes | (study.attribute("QUICK", {}) if chosen.quick else {})
    given = {key: value for key, value in vars(chosen).items() if value is not None}
    return argparse.Namespace(**(sizes | given))


def _reader(default):
    if isinstance(default, tuple):
        one = _reader(default[0])
        return lambda text: tuple(one(part) for part in text.split(",") if part)
    return type(default)


# Running, storing and reading.


def run(study: Study, arguments: Sequence[str] = ()) -> None:
    """Compute, store every file when its rows are there, then write and print the table."""
    chosen, started = options(study, arguments), time.perf_counter()
    if missing := absent(study):
        print(f"{study.name}: not run: {missing}", file=sys.stderr)
        return
    files.prepare(chosen.out)
    for name, rows in zip(study.files, _parts(study, chosen), strict=True):
        store(chosen.out / f"{name}.parquet", rows, _sizes(study, chosen), started)
    print(write_table(study, chosen.out), end="")


def absent(study: Study) -> str:
    """Which package the study needs and does not find, and what installs it; empty if none."""
    needs = study.attribute("NEEDS", {}).items()
    missing = [(name, how) for name, how in needs if importlib.util.find_spec(name) is None]
    return "; ".join(f"{name} is not installed ({how})" for name, how in missing)


def _parts(study, chosen) -> Iterable[Sequence[dict]]:
    made: Any = study.module.run(chosen)
    return made if len(study.files) > 1 else [made]


def _sizes(study, chosen):
    """The sizes that a study ran with; of a path its name, as where it lies is no fact."""
    sizes = {key: getattr(chosen, key) for key in study.attribute("SIZES", {})}
    return {key: size.name if isinstance(size, Path) else size for key, size in sizes.items()}


def store(path: Path, rows: Sequence[dict], sizes: Mapping[str, Any], started: float) -> None:
    """Parquet with versions, device, sizes, seconds since `started` and what the rows say."""
    seconds = time.perf_counter() - started
    said = getattr(rows, "about", {})
    storage.write_results(path, rows, storage.provenance(sizes=sizes, seconds=seconds) | said)


def read(name: str, folder: Path = RESULTS) -> Rows:
    """The stored rows of one file, with their provenance in `about`."""
    rows, about = storage.read_results(folder / f"{name}.parquet")
    return Rows(rows, **about)


def table(study: Study, folder: Path = RESULTS) -> str:
    """The study's Markdown, made from the stored files alone."""
    return study.attribute("table", plain)(*(read(name, folder) for name in study.files)) + "\n"


def write_table(study: Study, folder: Path = RESULTS) -> str:
    """Write that and give it."""
    text = table(study, folder)
    path = folder / f"{study.name}.md"
    files.write_atomically(path, lambda path: path.write_text(text, encoding="utf-8"))
    return text


# Markdown.


def markdown(head: Sequence[str], lines: Iterable[Iterable[Any]], align: str = "lr") -> str:
    """One table: a line a row; `align` has l or r for each column, its last letter repeats."""
    marks = [{"l": "---", "r": "--:"}[letter] for letter in align.ljust(len(head), align[-1])]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in (head, marks, *lines))


def cell(value: Any) -> str:
    """A cell's text: three significant digits of a float, nothing for None."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return "" if value is None else f"{value:,}" if type(value) is int else str(value)


def plain(*stored: Sequence[dict]) -> str:
    """All columns of the rows of each file."""
    return "\n\n".join(columns(rows, tuple(rows[0])) for rows in stored)


def columns(rows: Sequence[dict], names: Sequence[str]) -> str:
    """The named columns of the rows, text to the left."""
    align = "".join("l" if isinstance(rows[0][name], str) else "r" for name in names)
    head = [name.replace("_", " ") for name in names]
    return markdown(head, ([row[name] for name in names] for row in rows), align)


def grouped(rows: Iterable[dict], *keys: str) -> dict[Any, list[dict]]:
    """Rows by the values of some columns, in order of appearance."""
    groups: dict[Any, list[dict]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups
