"""Does the loop work? Estimates against online truth, gains over rounds, power of the learnt
metric, users against search.

On the simulated platform, whose true gains are known by paired simulation. Four parts, each in
its file: `closed_loop_metric` (sensitivity of the learnt metric on fresh changes),
`closed_loop_agreement` (intervals from many logs of explored users against the truth, for random
policies and for policies learnt on other rows), `closed_loop_rounds` (the loop with and without
pessimism, with the learnt metric and with the North Star), `closed_loop_search` (one A/B test
for each candidate: random steps, one weight at a time, Bayesian optimisation; by the North Star,
and by the learnt metric with as many times fewer users). The tests of a search are drawn from
their sampling distribution, true difference plus normal noise, instead of being simulated user
by user. Every way is held to weights as long as the first ones, and so is the attainable gain:
served with normal noise, longer weights are blurred less (`sharper` in the study's record: what
the best direction gains at other lengths).
"""

import functools
import itertools
import math
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mopl_jax import intervals, logs
from mopl_jax.estimators import difference, snips
from mopl_jax.io import storage
from mopl_jax.learning import constraints, optimise
from mopl_jax.logs import log_weights
from mopl_jax.metrics import objectives, validation
from mopl_jax.numerics import devices
from mopl_jax.policies import Gaussian
from mopl_jax.simulation import closed_loop, online, recommender

RESULTS = Path(__file__).parent / "results"
PLAN = closed_loop.DEFAULT
SIZES = {  # users of a round: sizes and metric were chosen with other users (another key)
    "learnt metric": {"explore": 16_384, "test": 8_192},
    "North Star": {"explore": 49_152, "test": 24_576},
}
EXPERIMENTS, FRESH, ROUNDS, SEEDS = 300, 24, 12, 5
LOGS, ROWS, LARGE, RANDOM, TRUTH = 200, 2**14, 2**18, 20, 2**14
CANDIDATES, SEARCHES, SEARCH_TRUTH = 160, 5, 2**13
SEARCH_TEST = {
    "North Star": (50_000, 5_000),
    "learnt metric": (1_024, 128),
}  # users in each arm: certain, and cheap
FEW = 100  # effective rows of the contrast at or above which intervals are held to their level
LEVELS = (0.8, 0.9, 0.95)  # of the attainable gain
LENGTHS = (1.5, 2.0, 4.0, 16.0)  # of the best weights, in that of the first ones
START = np.array(recommender.PRODUCTION, np.float32)


class World:
    """The platform, the users of each part, and the noise of a user."""

    def __init__(self, mesh):
        self.mesh, self.platform, self.key = mesh, recommender.short_video(), jax.random.key(2024)

    def part(self, name: int):
        """The key of one part."""
        return jax.random.fold_in(self.key, name)

    @functools.cached_property
    def base(self):
        """The first weights' users, met again under every policy whose true gain is asked for."""
        return self.play(START)

    def play(self, weights, users=TRUTH):
        """Users of the truth under smoothed weights."""
        return online.play(
            self.platform, closed_loop.smoothed(weights, PLAN), self.part(0), (0, users), self.mesh
        )

    def gain(self, weights, users=TRUTH) -> online.Value:
        """True gain over the first weights, paired."""
        paired = self.play(weights, users).expected.astype(float) - self.base.expected[:users]
        return online.Value(float(paired.mean()), float(paired.std() / math.sqrt(users)))


# The learnt metric.


def metric_part(world: World) -> tuple[np.ndarray, list[dict], dict]:
    """The metric of the loop, how sensitive each metric is to fresh changes of known truth, and the
    history's own validation.
    """
    history = closed_loop.history(
        world.platform, START, world.part(1), EXPERIMENTS, closed_loop.ARM, PLAN, mesh=world.mesh
    )
    found = {
        name: np.asarray(objectives.learn(history, objectives.NAMED[name]))
        for name in ("proxy", "gls", "log_p")
    }
    fresh = START + 0.3 * np.random.default_rng(1).normal(size=(FRESH, START.size))
    arms = [world.play(weights) for weights in fresh]
    effect = np.stack([(arm.signals.astype(float) - world.base.signals).mean(0) for arm in arms])
    truth = np.array([float((arm.expected - world.base.expected).mean()) for arm in arms])
    signals = world.base.signals.astype(float)
    rows = [
        {
            "metric": name,
            **_sensitivity(effect @ w, (signals @ w).std(), truth, signals[:, -1].std()),
        }
        | {"weights": w.tolist(), "signals": list(world.platform.signals)}
        for name, w in found.items()
    ]
    rate = float(objectives.exchange_rate(jnp.asarray(found["proxy"]), history))
    return (
        found["proxy"],
        rows,
        _validated(validation.validate(history, objectives.proxy)) | {"rate": rate},
    )


def _validated(said: validation.Validation) -> dict:
    """What a platform can know: every past test judged by a metric learnt without it."""
    return {
        "known": said.known,
        "nulls": said.nulls,
        "agreement": said.metric.agreement,
        "power": said.metric.power,
        "north_power": said.north_star.power,
        "factor": said.factor,
        "factor_se": said.factor_se,
        "false_positives": [
            said.false_positives,
            said.false_positives_low,
            said.false_positives_high,
        ],
    }


def _sensitivity(effect, spread, truth, days):
    """How many times fewer users for the same power: (Δ/σ)² over the North Star's; bootstrap over
    changes for its error.
    """
    squares = np.stack([(effect / spread) ** 2, (truth / days) ** 2])
    draws = np.random.default_rng(0).integers(0, truth.size, (1000, truth.size))
    factors = np.divide(*squares[:, draws].sum(axis=-1))
    agree = np.sign(effect) == np.sign(truth)
    large = np.abs(truth) >= np.median(np.abs(truth))
    return {
        "factor": float(squares[0].sum() / squares[1].sum()),
        "factor_se": float(factors.std()),
        "correlation": float(np.corrcoef(effect, truth)[0, 1]),
        "signs_agree": float(agree.mean()),
        "signs_agree_large": float(agree[large].mean()),
        "changes": truth.size,
        "effects": (effect / spread).tolist(),
        "truth": truth.tolist(),
    }


# Offline against online.


@jax.jit
def _contrasts(logs, means, now):
    """Estimated gain, ends of two intervals, and ESS of the contrast, for each mean."""

    def one(mean):
        made = [
            snips(
                log_weights(Gaussian(x, jnp.full_like(x, PLAN.fine * PLAN.scale)), logs),
                logs.reward,
            )
            for x in (mean, now)
        ]
        gain = difference(made[0], made[1])
        ends = [f(gain, 0.05) for f in (intervals.ess_skew, intervals.normal)]
        size = jnp.minimum(*[1 / jnp.sum(jnp.square(jax.nn.softmax(x.log_weight))) for x in made])
        return gain.value, size, *[(end.lower, end.upper) for end in ends]

    return jax.lax.map(one, means)


@jax.jit
def _learn(rows, logging):
    start = Gaussian(logging.mean, PLAN.fine * logging.scale)
    return optimise.fit(
        rows, start, project=constraints.spherical_cap(logging.mean, PLAN.radius * PLAN.scale)
    ).policy.mean


def agreement_part(world: World) -> list[dict]:
    """Each row: one policy on one log. Learnt policies are judged on the rows that chose them and
    on rows that did not.
    """
    logging = Gaussian.diagonal(jnp.asarray(START), PLAN.scale)
    ways = np.random.default_rng(2).normal(size=(RANDOM, START.size))
    reach = np.linspace(0.1, 2.0, RANDOM)[:, None] * PLAN.scale
    chosen = as_long(START + reach * ways / np.linalg.norm(ways, axis=1, keepdims=True)).astype(
        np.float32
    )
    truth = [world.gain(weights) for weights in chosen]
    rows, learnt = [], []
    for number in range(LOGS):
        traffic = online.play(
            world.platform, logging, world.part(10 + number), (0, ROWS), world.mesh
        )
        halves = logs.split(online.log(traffic, logging))
        mean = np.asarray(_learn(halves[0], logging))
        learnt.append((mean, world.gain(mean)))
        whole = online.log(traffic, logging)
        rows += _judged(whole, chosen, truth, {"log": number, "kind": "random", "n": ROWS})
        for kind, half in zip(("learnt, same rows", "learnt, other rows"), halves, strict=True):
            rows += _judged(
                half, mean[None], [learnt[-1][1]], {"log": number, "kind": kind, "n": ROWS // 2}
            )
    traffic = online.play(world.platform, logging, world.part(9), (0, LARGE), world.mesh)
    large, means = online.log(traffic, logging), np.stack([mean for mean, _ in learnt])
    rows += _judged(large, chosen, truth, {"log": -1, "kind": "random, large log", "n": LARGE})
    return rows + _judged(
        large, means, [v for _, v in learnt], {"log": -1, "kind": "learnt, large log", "n": LARGE}
    )


def _judged(logs, means, truth, about):
    gain, size, skew, normal = map(
        np.asarray, _flat(_contrasts(logs, jnp.asarray(means), jnp.asarray(START)))
    )
    return [
        about
        | {"estimate": float(gain[i]), "ess": float(size[i]), "truth": t.mean, "truth_se": t.se}
        | {"lower": float(skew[0][i]), "upper": float(skew[1][i])}
        | {"normal_lower": float(normal[0][i]), "normal_upper": float(normal[1][i])}
        for i, t in enumerate(truth)
    ]


def _flat(found):
    gain, size, *ends = found
    return [gain, size, *(jnp.stack(end) for end in ends)]


# The loop, and search.


def rounds_part(world: World, metric: np.ndarray) -> list[dict]:
    """The loop four ways, from the same weights."""
    rows = []
    for reward, pessimistic in itertools.product(SIZES, (True, False)):
        plan, learnt = (
            PLAN._replace(pessimistic=pessimistic, **SIZES[reward]),
            metric if reward == "learnt metric" else None,
        )
        for seed in range(SEEDS):
            about = {"reward": reward, "pessimistic": pessimistic, "seed": seed}
            key = world.part(100 + seed)
            for number, done in enumerate(
                closed_loop.rounds(world.platform, START, key, ROUNDS, plan, learnt, world.mesh),
                start=1,
            ):
                now, proposed = world.gain(done.production), world.gain(done.proposal)
                row = done._asdict() | {
                    "production": done.production.tolist(),
                    "proposal": done.proposal.tolist(),
                }
                truth = {
                    "true_gain": now.mean,
                    "true_gain_se": now.se,
                    "true_proposal": proposed.mean,
                }
                rows.append(about | {"round": number} | row | truth)
                print(about, number, f"{done.users:,} users, true gain {now.mean:.4f}", flush=True)
    return rows


def search_part(world: World, metric: np.ndarray, rate: float) -> list[dict]:
    """True gain of what each search has adopted, after each of its tests; `rate`: days for a unit
    of the metric.
    """
    base = world.base.signals[:SEARCH_TRUTH].astype(float)
    north = np.eye(base.shape[1])[-1]
    rows = []
    sizes = [(reward, size) for reward, some in SEARCH_TEST.items() for size in some]
    for (reward, size), name, seed in itertools.product(sizes, SEARCH, range(SEARCHES)):
        weights = rate * metric if reward == "learnt metric" else north
        noise = float((base @ weights).std()) * math.sqrt(2 / size)

        def effects(w, weights=weights, by_metric=reward == "learnt metric"):
            """True gain, and the difference that a test of endless users would show."""
            played = world.play(w, SEARCH_TRUTH)
            gain = float(
                (played.expected.astype(float) - world.base.expected[:SEARCH_TRUTH]).mean()
            )
            return gain, float(((played.signals - base) @ weights).mean()) if by_metric else gain

        found = SEARCH[name](effects, noise, np.random.default_rng(seed))
        about = {"method": name, "reward": reward, "test": size, "seed": seed}
        rows += [about | {"users": 2 * size * i, "true_gain": gain} for i, gain in enumerate(found)]
        print(about, f"{found[-1]:.4f}", flush=True)
    return rows


def as_long(weights):
    """Weights (…, d) brought to the length of the first ones."""
    return weights * np.linalg.norm(START) / np.linalg.norm(weights, axis=-1, keepdims=True)


def _climb(effects, noise, rng, steps):
    """Adopt a step whose test is significant, two-sided 5 %."""
    now, stands, path = START.astype(float), (0.0, 0.0), [0.0]
    for step in steps:
        tried = as_long(now + step)
        found = effects(tried)
        if found[1] - stands[1] + noise * rng.normal() > 1.96 * noise:
            now, stands = tried, found
        path.append(stands[0])
    return path


def _random_steps(effects, noise, rng):
    return _climb(effects, noise, rng, 0.25 * rng.normal(size=(CANDIDATES, START.size)))


def _one_weight(effects, noise, rng):
    axes = 0.4 * np.concatenate([np.eye(START.size), -np.eye(START.size)])
    return _climb(effects, noise, rng, axes[np.resize(rng.permutation(len(axes)), CANDIDATES)])


def _bayesian(effects, noise, rng):
    """Expected improvement under a Gaussian process; after each test the tried weights of the best
    posterior mean stand.
    """
    tried, seen, truth, path = [START.astype(float)], [0.0], [0.0], [0.0]
    for _ in range(CANDIDATES):
        pool = as_long(
            START + rng.normal(size=(2000, START.size)) * rng.uniform(0.1, 0.6, (2000, 1))
        )
        mean, sd = _posterior(np.array(tried), np.array(seen), noise, pool)
        ahead = mean - _posterior(np.array(tried), np.array(seen), noise, np.array(tried))[0].max()
        expected = ahead * _cdf(ahead / sd) + sd * np.exp(-((ahead / sd) ** 2) / 2) / math.sqrt(
            2 * math.pi
        )
        tried.append(pool[np.argmax(expected)])
        gain, measured = effects(tried[-1])
        truth.append(gain)
        seen.append(measured + noise * rng.normal())
        path.append(
            truth[
                int(
                    np.argmax(
                        _posterior(np.array(tried), np.array(seen), noise, np.array(tried))[0]
                    )
                )
            ]
        )
    return path


SEARCH = {
    "random steps": _random_steps,
    "one weight at a time": _one_weight,
    "Bayesian optimisation": _bayesian,
}


def _posterior(at, seen, noise, where, spread=0.05, length=1.5):
    """Mean and standard deviation of a Gaussian process with a squared-exponential kernel, at
    `where`.
    """

    def kernel(a, b):
        return spread**2 * np.exp(-((a[:, None] - b[None]) ** 2).sum(-1) / (2 * length**2))

    across = kernel(where, at)
    solved = np.linalg.solve(
        kernel(at, at) + noise**2 * np.eye(len(at)), np.column_stack([seen, across.T])
    )
    variance = spread**2 - np.einsum("ij,ji->i", across, solved[:, 1:])
    return across @ solved[:, 0], np.sqrt(np.maximum(variance, 1e-12))


def _cdf(z):
    return 0.5 * (1 + np.vectorize(math.erf)(z / math.sqrt(2)))


# The run.


def main() -> None:
    """Write results/closed_loop_*.parquet."""
    started = time.perf_counter()
    world = World(devices.start())
    best = closed_loop.optimum(
        world.platform, START, world.part(2), PLAN, users=2**16, steps=6, mesh=world.mesh
    )
    attainable = world.gain(best)
    sharper = {str(factor): world.gain(factor * best)._asdict() for factor in LENGTHS}
    about = {
        "plan": PLAN._asdict(),
        "sizes": SIZES,
        "optimum": best.tolist(),
        "attainable": attainable.mean,
        "attainable_se": attainable.se,
        "sharper": sharper,
        "production": START.tolist(),
        "days": float(world.base.expected.mean()),
        "days_sd": float(world.base.signals[:, -1].std()),
        "few": FEW,
        "history": {"experiments": EXPERIMENTS, "users": 2 * closed_loop.ARM * EXPERIMENTS},
    }

    def write(name, rows):
        seconds = time.perf_counter() - started
        storage.write_results(
            RESULTS / f"closed_loop_{name}.parquet",
            rows,
            storage.provenance(study=about, seconds=seconds),
        )
        print(f"{name}: written after {seconds:.0f} s", flush=True)

    print(f"attainable gain {attainable.mean:.4f} ± {attainable.se:.4f} days", flush=True)
    metric, rows, about["validation"] = metric_part(world)
    write("metric", rows)
    write("rounds", loops := rounds_part(world, metric))
    write("agreement", agreed := agreement_part(world))
    write("search", searched := search_part(world, metric, about["validation"]["rate"]))
    text = report(rows, agreed, loops, searched, about)
    (RESULTS / "closed_loop.md").write_text(text + "\n")
    print(text)


def report(metric, agreed, loops, searched, about) -> str:
    """Markdown: the metrics, the intervals, and users until most of the attainable gain."""
    held = about["validation"]
    rejected, low, high = held["false_positives"]
    longer = ", ".join(
        f"{value['mean']:.4f} at {factor} × it" for factor, value in about["sharper"].items()
    )
    parts = [
        (
            f"Attainable gain, by weights of the first ones' length: {about['attainable']:.4f} ±"
            f" {about['attainable_se']:.4f} days a week (that direction gains {longer}). The"
            f" history took {about['history']['users']:,} users."
        ),
        _table(
            ("learnt metric", "times fewer users", "correlation with the truth"),
            map(_metric_line, metric),
        ),
        (
            f"Each past test by a proxy learnt without it: sign right in {held['agreement']:.1%} of"
            f" {held['known']} known winners and losers, power {held['power']:.0%} against"
            f" {held['north_power']:.0%}, {held['factor']:.0f} ± {held['factor_se']:.0f} × fewer"
            f" users, {rejected:.1%} of {held['nulls']} A/A tests reject [{low:.1%}, {high:.1%}]."
        ),
        _table(
            (f"policies, ESS ≥ {FEW}", "least ESS", "ess_skew holds the truth", "normal"),
            _agreement_lines(agreed),
        )
        + "\n\n± one standard error, clustered by log.",
        _table(
            (
                "reward: way",
                *(f"users to {level:.0%}, runs" for level in LEVELS),
                "at the end",
                "after users",
            ),
            _way_lines(loops, searched, about["attainable"]),
        ),
    ]
    return "\n\n".join(parts)


def _table(head, lines):
    return "\n".join([f"| {' | '.join(head)} |", f"| --- |{' --: |' * (len(head) - 1)}", *lines])


def _metric_line(row):
    return (
        f"| {row['metric']} | {row['factor']:.0f} ± {row['factor_se']:.0f} |"
        f" {row['correlation']:.3f} |"
    )


def _agreement_lines(agreed):
    for kind in dict.fromkeys(row["kind"] for row in agreed):
        some = [row for row in agreed if row["kind"] == kind and row["ess"] >= FEW]
        least = min(row["ess"] for row in some)
        yield f"| {kind} | {least:,.0f} | {_held(some, '')} | {_held(some, 'normal_')} |"


def _held(rows, prefix):
    """How many intervals hold the truth; the share's standard error from whole logs, which policies
    share.
    """
    held = np.array(
        [row[f"{prefix}lower"] <= row["truth"] <= row[f"{prefix}upper"] for row in rows]
    )
    logs, of = np.unique([row["log"] for row in rows], return_inverse=True)
    if logs.size == 1:
        return f"{held.sum():,} of {held.size:,} (one log)"
    off = np.bincount(of, held - held.mean())
    error = math.sqrt(logs.size / (logs.size - 1) * np.square(off).sum()) / held.size
    return f"{held.sum():,} of {held.size:,}: {held.mean():.3f} ± {error:.3f}"


def _way_lines(loops, searched, attainable):
    """Median users to each level and how many runs have it; where the runs end, and after how many
    users.
    """
    ways: dict[str, dict[int, list[dict]]] = {}
    for row in [*loops, *searched]:
        if "method" in row:
            kind = f"{row['method']}, {2 * row['test']:,} users a test"
        else:
            kind = f"loop, {'pessimistic' if row['pessimistic'] else 'plain'}"
        ways.setdefault(f"{row['reward']}: {kind}", {}).setdefault(row["seed"], []).append(row)
    for way, runs in ways.items():
        reached = [
            [users_until(run, level * attainable) for run in runs.values()] for level in LEVELS
        ]
        ends = [run[-1]["true_gain"] / attainable for run in runs.values()]
        spent = np.median([run[-1]["users"] for run in runs.values()])
        end = f"{np.median(ends):.2f} ({min(ends):.2f} … {max(ends):.2f})"
        yield f"| {way} | {' | '.join(map(_reached, reached))} | {end} | {spent:,.0f} |"


def _reached(users: list[float]) -> str:
    """The median, and how many runs have got there."""
    middle = float(np.median(users))
    return (
        f"{'never' if math.isinf(middle) else f'{middle:,.0f}'} ({np.isfinite(users).sum()} of"
        f" {len(users)})"
    )


def users_until(run: list[dict], gain: float) -> float:
    """Users spent when a run first has the true gain; inf if never."""
    return next((row["users"] for row in run if row["true_gain"] >= gain), math.inf)


if __name__ == "__main__":
    main()
