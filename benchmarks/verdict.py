"""What is a verdict worth? `diagnose` on the worlds of the stress study, against whether
`recommended` covers there.

A cell (world, target, n) fails where its coverage is below the aim by more than two Monte-Carlo
standard errors. For each log its verdict; for each cell the verdict of most of its logs.
"""

import functools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.stress import APART, below
from mopl_jax import estimators, intervals
from mopl_jax.coverage import engine, study
from mopl_jax.diagnostics.verdicts import VERDICTS
from mopl_jax.diagnostics.weight_diagnostics import diagnose, unseen
from mopl_jax.io import storage
from mopl_jax.numerics import devices

RESULTS = Path(__file__).parent / "results"
SIZES, REPLICATES, SEED = (32, 256, 2048), 300, 21


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


def _cells(world):
    keys = jax.random.split(jax.random.fold_in(jax.random.key(SEED), world.d), REPLICATES)
    mesh = devices.one_device()
    action = engine.draw_batch(keys, world.logging, SIZES[-1], mesh)
    reward = engine.reward_batch(keys, world.environment, action, mesh)
    for name, target in world.targets.items():
        log_weight, truth = (
            engine.weigh_batch(target, world.logging, action, mesh),
            world.truth(name),
        )
        for n in SIZES:
            made = _judge(
                target, world.logging, log_weight, reward, n, world.environment.reward_range
            )
            verdicts, missed, low, high = map(np.asarray, made)
            hit = (low <= truth) & (truth <= high)
            about = {
                "world": world.name,
                "d": world.d,
                "estimand": name,
                "n": n,
                "replicates": REPLICATES,
            }
            for knows, verdict in zip(("policies", "densities"), verdicts.T, strict=True):
                counts = {word: int(np.sum(verdict == i)) for i, word in enumerate(VERDICTS)}
                hits = {
                    f"{word}_covered": int(np.sum(hit[verdict == i]))
                    for i, word in enumerate(VERDICTS)
                }
                yield (
                    about
                    | {"known": knows, "coverage": float(np.mean(hit))}
                    | counts
                    | hits
                    | {"unseen": float(np.median(missed))}
                )


def main() -> None:
    """Write results/verdict.parquet and .md."""
    worlds = [
        w
        for w in study.build(study.read(RESULTS.parent / "studies" / "stress.toml")).worlds
        if w.d in (1, 5, 20)
    ]
    rows = [row for world in worlds for row in _cells(world)]
    storage.write_results(
        RESULTS / "verdict.parquet",
        rows,
        storage.provenance(study="stress.toml", sizes=SIZES, seed=SEED),
    )
    (RESULTS / "verdict.md").write_text(table(rows) + "\n")
    print(table(rows))


def table(rows: list[dict]) -> str:
    """Per verdict: cells and how many of them fail, logs and the share of them that is covered; the
    hidden tail apart.
    """
    lines = [
        (
            "| known | verdict of most logs | cells | of these fail | logs with this verdict |"
            " covered |"
        ),
        "|---|---|--:|--:|--:|--:|",
    ]
    for known in ("policies", "densities"):
        kept = [row for row in rows if row["world"] not in APART and row["known"] == known]
        lines += [f"| {known} | {word} | {_line(kept, word)} |" for word in VERDICTS]
    for row in (row for row in rows if row["world"] in APART):
        counts = ", ".join(f"{word} {row[word]}" for word in VERDICTS)
        lines.append(
            f"| {row['known']} | {row['world']}, n = {row['n']:,} | | coverage"
            f" {row['coverage']:.3f} | {counts} | |"
        )
    return "\n".join(lines)


def _line(rows, word):
    cells = [row for row in rows if word == max(VERDICTS, key=row.__getitem__)]
    failed, logs = sum(map(below, cells)), sum(row[word] for row in rows)
    covered = sum(row[f"{word}_covered"] for row in rows) / max(logs, 1)
    return f"{len(cells)} | {failed} ({failed / max(len(cells), 1):.1%}) | {logs:,} | {covered:.4f}"


if __name__ == "__main__":
    main()
