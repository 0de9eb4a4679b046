"""What is a verdict worth? `diagnose` on the worlds of the stress study, against whether `recommended` covers there.

A cell (world, target, n) fails where its coverage is below the aim by more than two Monte-Carlo standard errors. For each
log its verdict; for each cell the verdict of most of its logs.
"""

import functools
from pathlib import Path

import jax
import numpy as np

from benchmarks.stress import APART, below
from mopl_jax import coverage, estimators, intervals, storage, study
from mopl_jax.diagnose import VERDICTS, diagnose

RESULTS = Path(__file__).parent / "results"
SIZES, REPLICATES, SEED = (32, 256, 2048), 300, 21


@functools.partial(jax.jit, static_argnames=("n", "reward_range"))
def _judge(log_weight, reward, n, reward_range):
    """Verdict and limits of each log of n rows."""

    def one(log):
        made = estimators.snips(log[0][:n], log[1][:n])
        ends = intervals.recommended(made, 0.05, reward_range=reward_range)
        return diagnose(made).verdict, ends.lower, ends.upper

    return jax.lax.map(one, (log_weight, reward), batch_size=32)


def _cells(world):
    keys = jax.random.split(jax.random.fold_in(jax.random.key(SEED), world.d), REPLICATES)
    mesh = coverage.one_device()
    action = coverage.draw_batch(keys, world.logging, SIZES[-1], mesh)
    reward = coverage.reward_batch(keys, world.environment, action, mesh)
    for name, target in world.targets.items():
        log_weight, truth = coverage.weigh_batch(target, world.logging, action, mesh), world.truth(name)
        for n in SIZES:
            verdict, low, high = map(np.asarray, _judge(log_weight, reward, n, world.environment.reward_range))
            hit = (low <= truth) & (truth <= high)
            about = {"world": world.name, "d": world.d, "estimand": name, "n": n, "replicates": REPLICATES}
            counts = {word: int(np.sum(verdict == i)) for i, word in enumerate(VERDICTS)}
            hits = {f"{word}_covered": int(np.sum(hit[verdict == i])) for i, word in enumerate(VERDICTS)}
            yield about | {"coverage": float(np.mean(hit))} | counts | hits


def main() -> None:
    """Write results/verdict.parquet and .md."""
    worlds = [
        w for w in study.build(study.read(RESULTS.parent / "studies" / "stress.toml")).worlds if w.d in (1, 5, 20)
    ]
    rows = [row for world in worlds for row in _cells(world)]
    storage.write_results(
        RESULTS / "verdict.parquet", rows, storage.provenance(study="stress.toml", sizes=SIZES, seed=SEED)
    )
    (RESULTS / "verdict.md").write_text(table(rows) + "\n")
    print(table(rows))


def table(rows: list[dict]) -> str:
    """Per verdict: cells and how many of them fail, logs and the share of them that is covered; the hidden tail apart."""
    lines = [
        "| verdict of most logs | cells | of these fail | logs with this verdict | covered |",
        "|---|--:|--:|--:|--:|",
    ]
    kept = [row for row in rows if row["world"] not in APART]
    for word in VERDICTS:
        cells = [row for row in kept if word == max(VERDICTS, key=row.__getitem__)]
        failed, logs = sum(map(below, cells)), sum(row[word] for row in kept)
        covered = sum(row[f"{word}_covered"] for row in kept) / max(logs, 1)
        share = f"{failed} ({failed / max(len(cells), 1):.1%})"
        lines.append(f"| {word} | {len(cells)} | {share} | {logs:,} | {covered:.4f} |")
    for row in (row for row in rows if row["world"] in APART):
        counts = ", ".join(f"{word} {row[word]}" for word in VERDICTS)
        lines.append(f"| {row['world']}, n = {row['n']:,} | | coverage {row['coverage']:.3f} | {counts} | |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
