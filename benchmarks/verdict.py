"""What is a verdict worth? `diagnose` on the worlds of the stress study, and on others with which
its rules were not chosen, against whether `recommended` covers there.

A cell (world, target, n) fails where its coverage is below the aim by more than two Monte-Carlo
standard errors. For each log its verdict; for each cell the verdict of most of its logs. The
others are clicks whose rate depends on the action (the held-out half of `click_rates`) and rewards
unrelated to it: normal, log-normal, counts, revenue. A declared range is known to the interval and
to the diagnosis.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import zeta

from benchmarks import _study
from benchmarks._click_worlds import worlds
from benchmarks._judge import APART, below
from benchmarks._sweep import logs_of, stress_worlds
from benchmarks.candidates import heavy, revenue, zipf
from mopl_jax import estimators, intervals
from mopl_jax.diagnostics.verdicts import VERDICTS
from mopl_jax.diagnostics.weight_diagnostics import UNBOUNDED, diagnose, unseen

SIZES = {
    "replicates": 300,
    "n": (32, 256, 2048),
    "d": (1, 5, 20),
    "n_other": (256, 1024, 4096),
    "seed": 21,
}
QUICK = {"replicates": 32, "n": (32,), "d": (1,), "n_other": (256,)}
OTHER = "another structure"
KNOWN = ("policies", "densities")


@functools.partial(jax.jit, static_argnames=("n", "reward_range"))
def _judge(target, logging, log_weight, reward, n, reward_range):
    """Of each log of n rows: verdicts with the policies known and not known, what is unseen,
    limits.
    """

    def one(log):
        made = estimators.snips(log[0][:n], log[1][:n])
        ends = intervals.recommended(made, 0.05, reward_range=reward_range)
        missed = math.nan if target is None else unseen(target, logging, log[0][:n])
        ranged = reward_range or UNBOUNDED
        modal = 0.0 if reward_range else math.nan
        verdicts = [diagnose(made, ranged, x, modal).verdict for x in (missed, math.nan)]
        return jnp.stack(verdicts), jnp.asarray(missed, float), ends.lower, ends.upper

    return jax.lax.map(one, (log_weight, reward), batch_size=32)


def run(options) -> list[dict]:
    """One row for each world, target, n, and whether the policies are known."""
    worlds = [world for world in stress_worlds() if world.d in options.d]
    rows = [row for world in worlds for row in _cells(world, options)]
    return rows + list(_others(options))


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


# The others.


class Other(NamedTuple):
    """Log weights and rewards by `draw(rng, shape)`; the `truth`, and the range that is known."""

    name: str
    draw: Callable
    truth: float
    reward_range: tuple[float, float] | None = None


SHIFT, SCALE = 0.5, 0.7
UNRELATED = {  # rewards with their means
    "normal": (np.random.Generator.standard_normal, 0.0),
    "log-normal 1": (lambda rng, size: rng.lognormal(0, 1, size), math.exp(0.5)),
    "log-normal 1.5": (lambda rng, size: rng.lognormal(0, 1.5, size), math.exp(1.125)),
    "counts, Zipf 3.5": (zipf(3.5), float(zeta(2.5) / zeta(3.5))),
    "counts, Zipf 2.5": (zipf(2.5), float(zeta(1.5) / zeta(2.5))),
    "revenue of 5 %": (revenue, 0.05 * math.exp(2.5)),
    "1 % of rows have 30 %": (heavy, 1.0),
}


def _unrelated(name, reward, truth, policy):
    """Rewards that do not depend on the action, under the logging policy or another one."""

    def draw(rng, shape):
        action = rng.standard_normal(shape)
        log_weight = 0.5 * action**2 - 0.5 * ((action - SHIFT) / SCALE) ** 2 - math.log(SCALE)
        return (log_weight if policy == "another" else 0 * action), reward(rng, shape)

    return Other(f"{name}, {policy}", draw, truth)


def others() -> list[Other]:
    """Worlds with which no rule was chosen."""
    clicks = [
        Other(each.name, each.draw, each.truth, (0.0, 1.0))
        for each in worlds()
        if each.half == "held out"
    ]
    pairs = itertools.product(UNRELATED.items(), ("itself", "another"))
    return clicks + [
        _unrelated(name, draw, truth, policy) for (name, (draw, truth)), policy in pairs
    ]


def _others(options) -> Iterator[dict]:
    rng = np.random.default_rng(options.seed)
    for each, n in itertools.product(others(), options.n_other):
        log = (jnp.asarray(x, float) for x in each.draw(rng, (options.replicates, n)))
        made = _judge(None, None, *log, n, each.reward_range)
        about = {"world": each.name, "d": 0, "estimand": OTHER, "n": n}
        about |= {"replicates": options.replicates}
        *_, densities = _rows(about, each.truth, *map(np.asarray, made))
        yield densities


def _rows(about, truth, verdicts, missed, low, high):
    hit = (low <= truth) & (truth <= high)
    for knows, verdict in zip(KNOWN, verdicts.T, strict=True):
        said = {word: verdict == i for i, word in enumerate(VERDICTS)}
        counts = {word: int(np.sum(mine)) for word, mine in said.items()}
        hits = {f"{word}_covered": int(np.sum(hit[mine])) for word, mine in said.items()}
        found = {"known": knows, "coverage": float(np.mean(hit))}
        yield about | found | counts | hits | {"unseen": float(np.median(missed))}


def table(rows: list[dict]) -> str:
    """Per verdict: cells and how many of them fail, logs and the share of them that is covered; the
    hidden tail apart; then each of the others.
    """
    head = ("known", "verdict of most logs", "cells", "of these fail", "logs with this verdict")
    lines = []
    usual = [row for row in rows if row["world"] not in APART and row["estimand"] != OTHER]
    other = [row for row in rows if row["estimand"] == OTHER]
    groups = {known: [x for x in usual if x["known"] == known] for known in KNOWN}
    groups |= {f"{KNOWN[-1]}, others": other}
    lines = [
        [known, word, *_line(kept, word)] for known, kept in groups.items() for word in VERDICTS
    ]
    for row in (row for row in rows if row["world"] in APART):
        counts = ", ".join(f"{word} {row[word]}" for word in VERDICTS)
        where, share = f"{row['world']}, n = {row['n']:,}", f"coverage {row['coverage']:.3f}"
        lines.append([row["known"], where, None, share, counts, None])
    return "\n\n".join([_study.markdown((*head, "covered"), lines, "llr"), _of_others(other)])


def _of_others(rows):
    """A line a world: coverage, the share of logs that is trusted and how many of these cover."""
    sizes = sorted({row["n"] for row in rows})
    head = ("another structure", *(f"n = {n:,}: coverage, trusted (covered)" for n in sizes))
    cells = {(row["world"], row["n"]): row for row in rows}
    names = dict.fromkeys(row["world"] for row in rows)
    lines = [[name, *(_trusted(cells[name, n]) for n in sizes)] for name in names]
    return _study.markdown(head, lines, "l")


def _trusted(row):
    share = row["trust"] / row["replicates"]
    covered = f" ({row['trust_covered'] / row['trust']:.2f})" if row["trust"] else ""
    return f"{row['coverage']:.3f}, {share:.2f}{covered}"


def _line(rows, word):
    cells = [row for row in rows if word == max(VERDICTS, key=row.__getitem__)]
    failed, logs = sum(map(below, cells)), sum(row[word] for row in rows)
    covered = sum(row[f"{word}_covered"] for row in rows) / max(logs, 1)
    share = f"{failed} ({failed / max(len(cells), 1):.1%})"
    return len(cells), share, logs, f"{covered:.4f}"
