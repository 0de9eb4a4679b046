"""Where does a log go in `mopl evaluate`? Its stays in modules, and how often it climbs back up.

A stay is a run of calls of one module's functions to which the log is handed: its file, its reader,
or arrays with as many entries as it has rows. A climb is a step to a module of a higher floor of
imports than the one before, from which the log had come down. Of a small log with users in a file,
which is evaluated in memory.
"""

import itertools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import pyarrow as pa

import mopl_jax as mopl
from benchmarks import _study, house, latency
from mopl_jax.io.log_reader import LogReader
from mopl_jax.io.sources import Source

SIZES = {"n": 997}
QUICK = {"n": 997}


def run(options) -> list[dict]:
    """One row."""
    floors, modules = _floors(), []
    with tempfile.TemporaryDirectory() as folder:
        latency.generate(Path(folder), options.n)
        paths = (f"{folder}/{name}.json" for name in ("logging", "a"))
        logging, target = (mopl.read_policy(path)[0] for path in paths)
        sys.setprofile(lambda frame, event, _: modules.extend(_entered(frame, event, options.n)))
        try:
            mopl.evaluate(
                f"{folder}/log.parquet",
                target,
                action="w_",
                reward="retained",
                cluster="user",
                logging=logging,
            )
        finally:
            sys.setprofile(None)
    way = [name for name, _ in itertools.groupby(modules)]
    climbs = sum(floors[b] > floors[a] for a, b in itertools.pairwise(way))
    return [{"stays": len(way), "modules": len(set(way)), "climbs": climbs, "way": " → ".join(way)}]


def _floors() -> dict[str, int]:
    """How many modules stand below each, in the longest chain of its imports."""
    checkout = _study.HERE.parent
    paths = sorted((checkout / house.PACKAGE).rglob("*.py"))
    sources = {house.module(path, checkout): path.read_text() for path in paths}
    arrows = {name: house.imports(name, text, sources) for name, text in sources.items()}
    return {name: len(chain) for name, chain in house.chains(arrows).items()}


def _entered(frame: FrameType, event: str, n: int) -> Iterator[str]:
    """The module of a function of the package that a log is handed to; not of one that shares
    variables with another, which looking at them at its call disturbs.
    """
    name, code = frame.f_globals.get("__name__", ""), frame.f_code
    shares = code.co_cellvars or code.co_freevars
    if event != "call" or shares or name.split(".")[0] != house.PACKAGE:
        return
    named = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    if any(_is_log(frame.f_locals.get(argument), n) for argument in named):
        yield name


def _is_log(given: Any, n: int) -> bool:
    if isinstance(given, LogReader | Source | pa.RecordBatch | pa.Table | pa.Array):
        return True
    return any(n in getattr(leaf, "shape", ()) for leaf in jax.tree.leaves(given))


def table(rows: list[dict]) -> str:
    """The three counts, and the way."""
    (row,) = rows
    counts = _study.markdown(("stays", "modules", "climbs"), [list(row.values())[:3]])
    return f"{counts}\n\n{row['way'].replace(f'{house.PACKAGE}.', '')}"
