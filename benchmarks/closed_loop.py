"""Does the loop work? Estimates against online truth, gains over rounds, power of the learnt
metric, users against search.

On the simulated platform, whose true gains are known by paired simulation. Four parts, each in
its file: `closed_loop_metric` (sensitivity of the learnt metric on fresh changes),
`closed_loop_rounds` (the loop with and without pessimism, with the learnt metric and with the
North Star), `closed_loop_agreement` (intervals from many logs of explored users against the truth,
for random policies and for policies learnt on other rows), `closed_loop_search` (one A/B test for
each candidate). Every way is held to weights as long as the first ones, and so is the attainable
gain: served with normal noise, longer weights are blurred less (`sharper` in the study's record:
what the best direction gains at other lengths).
"""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks import _loop_agreement, _loop_metric, _loop_search, _study
from benchmarks._loop import PLAN, START, TRUTH, World
from mopl_jax.numerics import devices
from mopl_jax.simulation import closed_loop

SIZES = {"experiments": 300, "arm": closed_loop.ARM, "fresh": 24, "rounds": 12, "seeds": 5}
SIZES |= {"logs": 200, "rows": 2**14, "large": 2**18, "random": 20, "truth": TRUTH}
SIZES |= {"candidates": 160, "searches": 5, "search_truth": 2**13, "optimum": 2**16, "explore": 0}
QUICK = {"experiments": 12, "arm": 512, "fresh": 3, "rounds": 1, "seeds": 1, "logs": 2}
QUICK |= {"rows": 1024, "large": 2048, "random": 2, "truth": 1024, "candidates": 2, "searches": 1}
QUICK |= {"search_truth": 512, "optimum": 512, "explore": 1024}
RESULTS = tuple(f"closed_loop_{part}" for part in ("metric", "rounds", "agreement", "search"))
USERS = {  # of a round: sizes and metric were chosen with other users (another key)
    "learnt metric": {"explore": 16_384, "test": 8_192},
    "North Star": {"explore": 49_152, "test": 24_576},
}
LEVELS = (0.8, 0.9, 0.95)  # of the attainable gain
LENGTHS = (1.5, 2.0, 4.0, 16.0)  # of the best weights, in that of the first ones


def run(options) -> Iterator[_study.Rows]:
    """The four parts."""
    world = World(devices.start(), options.truth)
    metrics, validated = _loop_metric.learnt(world, options)
    about = {"study": _about(world, options) | {"validation": validated}}
    metric, rate = metrics["proxy"], validated["rate"]
    yield _study.Rows(_loop_metric.rows(world, metrics, options.fresh), **about)
    yield _study.Rows(rounds(world, metric, options), **about)
    yield _study.Rows(_loop_agreement.rows(world, options), **about)
    yield _study.Rows(_loop_search.rows(world, metric, rate, options), **about)


def _about(world, options):
    """What can be attained, and what all parts share."""
    best = closed_loop.optimum(
        world.platform,
        START,
        world.part(2),
        PLAN,
        users=options.optimum,
        steps=6,
        mesh=world.mesh,
    )
    attainable = world.gain(best)
    users = 2 * options.arm * options.experiments
    return {
        "plan": PLAN._asdict(),
        "sizes": USERS,
        "optimum": best.tolist(),
        "attainable": attainable.mean,
        "attainable_se": attainable.se,
        "sharper": {str(factor): world.gain(factor * best)._asdict() for factor in LENGTHS},
        "production": START.tolist(),
        "days": float(world.base.expected.mean()),
        "days_sd": float(world.base.signals[:, -1].std()),
        "few": _loop_agreement.FEW,
        "history": {"experiments": options.experiments, "users": users},
    }


Ways = Sequence[tuple[str, bool]]  # reward, and whether the loop is pessimistic
ALL: Ways = tuple(itertools.product(USERS, (True, False)))


def rounds(
    world: World, metric: np.ndarray, options, small: int = 0, how: Ways = ALL
) -> Iterator[dict]:
    """The loop in some ways, from the same weights; in rounds of so many `small` users, if any."""
    runs = itertools.product(how, range(options.seeds))
    for (reward, pessimistic), seed in runs:
        users = USERS[reward]
        if options.explore:
            users = {"explore": options.explore, "test": options.explore // 2}
        plan = PLAN._replace(pessimistic=pessimistic, small=small, **users)
        learnt = metric if reward == "learnt metric" else None
        about = {"reward": reward, "pessimistic": pessimistic, "seed": seed}
        key = world.part(100 + seed)
        made = closed_loop.rounds(
            world.platform, START, key, options.rounds, plan, learnt, world.mesh
        )
        for number, done in enumerate(made, start=1):
            yield about | {"round": number} | _round(world, done)


def _round(world, done):
    now, proposed = world.gain(done.production), world.gain(done.proposal)
    weights = {key: getattr(done, key).tolist() for key in ("production", "proposal")}
    truth = {"true_gain": now.mean, "true_gain_se": now.se, "true_proposal": proposed.mean}
    return done._asdict() | weights | truth


def table(metric: _study.Rows, loops: list, agreed: list, searched: list) -> str:
    """The metrics, the intervals, and users until most of the attainable gain."""
    about = metric.about["study"]
    longer = ", ".join(
        f"{value['mean']:.4f} at {factor} × it" for factor, value in about["sharper"].items()
    )
    return "\n\n".join(
        (
            f"Attainable gain, by weights of the first ones' length: {about['attainable']:.4f} ±"
            f" {about['attainable_se']:.4f} days a week (that direction gains {longer}). The"
            f" history took {about['history']['users']:,} users.",
            _loop_metric.table(metric, about["validation"]),
            _loop_agreement.table(agreed),
            ways(loops, searched, about["attainable"]),
        )
    )


def ways(loops: list[dict], searched: list[dict], attainable: float) -> str:
    """Median users to each level and how many runs have it; where the runs end, and after how many
    users.
    """
    named = [row | {"way": _way(row)} for row in [*loops, *searched]]
    lines = []
    for (way,), some in _study.grouped(named, "way").items():
        runs = list(_study.grouped(some, "seed").values())
        reached = [[users_until(run, x * attainable) for run in runs] for x in LEVELS]
        ends = [run[-1]["true_gain"] / attainable for run in runs]
        spent = np.median([run[-1]["users"] for run in runs])
        end = f"{np.median(ends):.2f} ({min(ends):.2f} … {max(ends):.2f})"
        lines.append([way, *map(_reached, reached), end, f"{spent:,.0f}"])
    levels = (f"users to {level:.0%}, runs" for level in LEVELS)
    return _study.markdown(("reward: way", *levels, "at the end", "after users"), lines)


def _way(row):
    if "method" in row:
        return f"{row['reward']}: {row['method']}, {2 * row['test']:,} users a test"
    return f"{row['reward']}: loop, {'pessimistic' if row['pessimistic'] else 'plain'}"


def _reached(users: list[float]) -> str:
    """The median, and how many runs have got there."""
    middle = float(np.median(users))
    shown = "never" if math.isinf(middle) else f"{middle:,.0f}"
    return f"{shown} ({np.isfinite(users).sum()} of {len(users)})"


def users_until(run: list[dict], gain: float) -> float:
    """Users spent when a run first has the true gain; inf if never."""
    return next((row["users"] for row in run if row["true_gain"] >= gain), math.inf)
