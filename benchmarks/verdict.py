"""What is a verdict worth? `diagnose` on the worlds of the stress study, against whether
`recommended` covers there.

A cell (world, target, n) fails where its coverage is below the aim by more than two Monte-Carlo
standard errors. For each log its verdict; for each cell the verdict of most of its logs.
"""

import functools
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _study
from benchmarks._judge import APART, below
from benchmarks._sweep import logs_of, stress_worlds
from mopl_jax import estimators, intervals
from mopl_jax.diagnostics.verdicts import VERDICTS
from mopl_jax.diagnostics.weight_diagnostics import diagnose, unseen

SIZES = {"replicates": 300, "n": (32, 256, 2048), "d": (1, 5, 20), "seed": 21}
QUICK = {"replicates": 32, "n": (32,), "d": (1,)}


@functools.partial(jax.jit, static_argnames=("n", "reward_range"))
def _judge(target, logging, log_weight, reward, n, reward_range):
    """Of each log of n rows: verdicts with the policies known and not known, what is unseen,
    limits.
    """

    def one(log):
        made = estimators.snips(log[0][:n], log[1][:n])
        ends = intervals.recommended(made, 0.05, reward_range=reward_range)
        missed = unseen(target, logging, log[0][:n])
        verdicts = [diagnose(made, unseen=share).verdict for share in (missed, math.nan)]
        return jnp.stack(verdicts), missed, ends.lower, ends.upper

    return jax.lax.map(one, (log_weight, reward), batch_size=32)


def run(options) -> list[dict]:
    """One row for each world, target, n, and whether the policies are known."""
    worlds = [world for world in stress_worlds() if world.d in options.d]
    return [row for world in worlds for row in _cells(world, options)]


def _cells(world, options) -> Iterator[dict]:
    keys = jax.random.split(
        jax.random.fold_in(jax.random.key(options.seed), world.d), options.replicates
    )
    for name, log_weight, reward in logs_of(world, keys, options.n[-1]):
        for n in options.n:
            made = _judge(
                world.targets[name],
                world.logging,
                log_weight,
                reward,
                n,
                world.environment.reward_range,
            )
            about = {"world": world.name, "d": world.d, "estimand": name, "n": n}
            about |= {"replicates": options.replicates}
            yield from _rows(about, world.truth(name), *map(np.asarray, made))


def _rows(about, truth, verdicts, missed, low, high):
    hit = (low <= truth) & (truth <= high)
    for knows, verdict in zip(("policies", "densities"), verdicts.T, strict=True):
        said = {word: verdict == i for i, word in enumerate(VERDICTS)}
        counts = {word: int(np.sum(mine)) for word, mine in said.items()}
        hits = {f"{word}_covered": int(np.sum(hit[mine])) for word, mine in said.items()}
        found = {"known": knows, "coverage": float(np.mean(hit))}
        yield about | found | counts | hits | {"unseen": float(np.median(missed))}


def table(rows: list[dict]) -> str:
    """Per verdict: cells and how many of them fail, logs and the share of them that is covered; the
    hidden tail apart.
    """
    head = ("known", "verdict of most logs", "cells", "of these fail", "logs with this verdict")
    lines = []
    for known in ("policies", "densities"):
        kept = [row for row in rows if row["world"] not in APART and row["known"] == known]
        lines += [[known, word, *_line(kept, word)] for word in VERDICTS]
    for row in (row for row in rows if row["world"] in APART):
        counts = ", ".join(f"{word} {row[word]}" for word in VERDICTS)
        where, share = f"{row['world']}, n = {row['n']:,}", f"coverage {row['coverage']:.3f}"
        lines.append([row["known"], where, None, share, counts, None])
    return _study.markdown((*head, "covered"), lines, "llr")


def _line(rows, word):
    cells = [row for row in rows if word == max(VERDICTS, key=row.__getitem__)]
    failed, logs = sum(map(below, cells)), sum(row[word] for row in rows)
    covered = sum(row[f"{word}_covered"] for row in rows) / max(logs, 1)
    share = f"{failed} ({failed / max(len(cells), 1):.1%})"
    return len(cells), share, logs, f"{covered:.4f}"
