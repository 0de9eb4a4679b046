"""How long does a person wait for an answer? Each command on a log of 60,000 rows and four weights,
as a ratio to the time of `python -c "import jax"`.

Three rows a user. Cold: the user's cache folder (XDG_CACHE_HOME) is new and empty; warm: the same
command once more with what the cold one left there. Every round times `import jax` first; ratios
are taken within a round, and medians over rounds are stored.
"""

import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import _study
from benchmarks._process import MOPL, measured
from mopl_jax.io.policy_json import write_policy
from mopl_jax.policies import Gaussian

SIZES = {"n": 60_000, "rounds": 5}
QUICK = {"n": 3000, "rounds": 1}
D, PER_USER = 4, 3
IMPORT = (sys.executable, "-c", "import jax")
LOG = ("log.parquet", "--action", "w_", "--reward", "retained", "--cluster", "user")
KNOWN = ("--logging", "logging.json")
COMMANDS = {
    "--help": ("--help",),
    "check": ("check", *LOG, *KNOWN),
    "evaluate": ("evaluate", *LOG, *KNOWN, "--target", "a.json"),
    "compare of three": ("compare", LOG[0], "logging", "a.json", "b.json", *LOG[1:], *KNOWN),
    "learn": ("learn", *LOG, *KNOWN, "--out", "learnt.json", "--force"),
}
AIMS = {  # most times `import jax`: cold, warm (none: the same)
    "--help": (0.5, None),
    "check": (2.5, None),
    "evaluate": (4.0, 2.5),
    "compare of three": (5.0, None),
    "learn": (10.0, 5.0),
}


def generate(folder: Path, n: int) -> None:
    """A log of normal weights, a reward that saturates and a noise that rows of a user share."""
    rng = np.random.default_rng(0)
    action = rng.standard_normal((n, D))
    user = np.arange(n) // PER_USER
    noise = 0.5 * rng.standard_normal(n) + 0.5 * rng.standard_normal(user[-1] + 1)[user]
    reward = np.tanh(action @ np.full(D, 0.5)) + noise
    columns = {f"w_{i}": column for i, column in enumerate(action.T)}
    pq.write_table(pa.table(columns | {"retained": reward, "user": user}), folder / LOG[0])
    for name, mean, scale in (("logging", 0.0, 1.0), ("a", 0.2, 0.7), ("b", -0.1, 0.8)):
        write_policy(folder / f"{name}.json", Gaussian.diagonal(np.full(D, mean), scale))


def run(options) -> list[dict]:
    """Medians over rounds, one row for each command."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), options.n)
        rounds = [dict(_round(Path(folder))) for _ in range(options.rounds)]
    imports = [each.pop("import jax") for each in rounds]
    return [
        {"command": name, "import_jax_seconds": statistics.median(imports)}
        | _summary([each[name] for each in rounds], imports)
        for name in COMMANDS
    ]


def _round(folder) -> Iterator[tuple]:
    """Seconds of `import jax`, then seconds (cold, warm) of each command."""
    yield "import jax", measured(IMPORT, folder).seconds
    for name, arguments in COMMANDS.items():
        with tempfile.TemporaryDirectory() as cache:
            yield name, [_seconds(folder, arguments, cache) for _ in range(2)]


def _seconds(folder, arguments, cache):
    done = measured([*MOPL, *arguments], folder, {"XDG_CACHE_HOME": cache})
    if done.exit_code:
        raise ValueError(f"mopl {' '.join(arguments)}: exit code {done.exit_code}")
    return done.seconds


def _summary(took, imports):
    row = {}
    for i, kind in enumerate(("cold", "warm")):
        each = [pair[i] for pair in took]
        ratios = [seconds / base for seconds, base in zip(each, imports, strict=True)]
        row |= {f"{kind}_seconds": statistics.median(each)}
        row |= {f"{kind}_ratio": statistics.median(ratios)}
    return row


def table(rows: list[dict]) -> str:
    """Seconds and ratios beside the aims; a ratio above its aim is marked."""
    head = ("command", "cold, s", "warm, s", "cold / import jax", "aim", "warm / import jax", "aim")
    lines = [[row["command"], *_seconds_of(row), *_ratios(row)] for row in rows]
    note = f"`import jax`: {rows[0]['import_jax_seconds']:.2f} s. *: above the aim."
    return f"{_study.markdown(head, lines)}\n\n{note}"


def _seconds_of(row):
    return [f"{row[f'{kind}_seconds']:.2f}" for kind in ("cold", "warm")]


def _ratios(row):
    for kind, aim in zip(("cold", "warm"), AIMS[row["command"]], strict=True):
        ratio = row[f"{kind}_ratio"]
        yield f"{ratio:.2f}{' *' if aim is not None and ratio > aim else ''}"
        yield None if aim is None else f"≤ {aim:g}"
