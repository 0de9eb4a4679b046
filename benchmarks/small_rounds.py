"""Does the loop, in small rounds that all teach, find weights with as few users as Bayesian
optimisation on the same metric, and certify them?

On the simulated platform of `closed_loop`, by the metric learnt there. A round explores with
`users` around the weights it plays, N(w, s²); a quadratic surface of all rounds so far, whose
coefficients have the prior variance of the largest evidence, slopes and bends apart, says what to
play next: its best point (`greedy`) or that of a draw of it (`thompson`), as long as the first
weights and at most the loop's radius away; each round has a level of its own. No round is tested
online. What is certified then is the gain of the last weights over the first ones, by users
explored around the middle of both, who had no say in them. Users until a share of the attainable
gain are known by the truth, as those of `closed_loop`.

Then the loop itself with small rounds: of the users who explore in a round of `closed_loop`, half
do so in small rounds of `small` and teach, half certify between both weights, and what is certified
is tested online and adopted, or not: as many users a round as there.
"""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from benchmarks import _loop_metric, _study
from benchmarks import closed_loop as loop_study
from benchmarks._loop import PLAN, START, World
from mopl_jax.numerics import devices
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.simulation import closed_loop, online
from mopl_jax.simulation.closed_loop import certified_between
from mopl_jax.simulation.small_rounds import Search, believed, search

SIZES = {"seeds": 5, "total": 8192, "experiments": 300, "arm": closed_loop.ARM, "fresh": 24}
SIZES |= {"users": (256, 512, 2048), "widths": (0.4, 0.8), "truth": 2**14, "optimum": 2**16}
SIZES |= {"certify": 16_384, "small": 512, "rounds": 2, "explore": 0}
QUICK = {"seeds": 1, "total": 2048, "experiments": 12, "arm": 512, "fresh": 3, "users": (1024,)}
QUICK |= {"widths": (0.4,), "truth": 512, "optimum": 512, "certify": 2048}
QUICK |= {"rounds": 1, "explore": 1024}
RESULTS = ("small_rounds", "small_rounds_loop")
LEVELS = (0.8, 0.9)


def run(options) -> Iterator[_study.Rows]:
    """A row for each way, seed and round; then those of the loop."""
    world = World(devices.start(), options.truth)
    metrics, validated = _loop_metric.learnt(world, options)
    best = closed_loop.optimum(
        world.platform, START, world.part(2), PLAN, users=options.optimum, steps=6, mesh=world.mesh
    )
    attainable = world.gain(best).mean
    ways = [
        (how, width, users) for how in WAYS for width in options.widths for users in options.users
    ]
    rows = [
        row
        for how, width, users in ways
        for seed in range(options.seeds)
        for row in _search(world, metrics["proxy"], options, how, width, users, seed)
    ]
    about = {"attainable": attainable, "rate": validated["rate"]}
    yield _study.Rows(rows, **about)
    ways = [("learnt metric", True)]
    loops = loop_study.rounds(world, metrics["proxy"], options, options.small, ways)
    yield _study.Rows(loops, **about)


def _search(world, metric, options, how, width, users, seed) -> Iterator[dict]:
    rounds = max(options.total // users, 1)
    plan = PLAN._replace(scale=width, fine=PLAN.fine * PLAN.scale / width)
    mark = options.total / 32  # users from which, and then by fifths more, the gain is looked at
    about = {"way": how, "width": width, "users a round": users, "seed": seed}
    asked = world.part(500 + seed), rounds, Search(users, width, plan.radius), metric, world.mesh
    found = search(world.platform, START, *asked, choose=WAYS[how])
    for number, (*_, now) in enumerate(found, start=1):
        if number * users >= mark or number == rounds:
            mark = 1.2 * number * users
            row = {"users": number * users, "true_gain": world.gain(now).mean}
            last = number == rounds
            extra = _certified(world, metric, options, now, plan, seed) if last else {}
            yield about | row | {"bound": None, "certified": None} | extra


def thompson(posterior, rng):
    """A draw of the coefficients."""
    return posterior.mean + posterior.root @ rng.normal(size=len(posterior.mean))


WAYS = {"greedy": believed, "thompson": thompson}


def _certified(world, metric, options, now, plan, seed):
    """The lower bound of the gain over the first weights, one-sided 95 %, in the metric."""
    logging = Gaussian.diagonal(jnp.asarray(0.5 * (now + START), jnp.float32), plan.scale)
    traffic = online.play(
        world.platform, logging, world.part(600 + seed), (0, options.certify), world.mesh
    )
    held = online.log(traffic, logging, metric)
    policy = Gaussian.diagonal(jnp.asarray(now, jnp.float32), plan.fine * plan.scale)
    bound = float(certified_between(policy, held, jnp.asarray(START), 0.05).gain_bound)
    return {"bound": bound, "certified": bound > 0}


def table(rows: _study.Rows, loops: _study.Rows) -> str:
    """Users until a share of the attainable gain, median of the runs; alone, and in the loop."""
    first = [row for row in loops if row["round"] == 1 and row["pessimistic"]]
    certified = ", ".join(
        f"{reward} {sum(row['bound'] > 0 for row in some)} of {len(some)}"
        for (reward,), some in _study.grouped(first, "reward").items()
    )
    whole = loop_study.ways(loops, [], loops.about["attainable"])
    said = f"The loop with small rounds; its first round certifies a gain in: {certified}."
    return f"{_alone(rows)}\n\n{said}\n\n{whole}"


def _alone(rows):
    attainable = rows.about["attainable"]
    keys = ("way", "width", "users a round")
    lines = []
    for key, some in _study.grouped(rows, *keys).items():
        runs = list(_study.grouped(some, "seed").values())
        line = [*key, *(_reached(runs, level * attainable) for level in LEVELS)]
        ends = [run[-1]["true_gain"] / attainable for run in runs]
        line += [f"{np.median(ends):.2f} ({min(ends):.2f} … {max(ends):.2f})"]
        lines.append([*line, f"{sum(run[-1]['certified'] for run in runs)} of {len(runs)}"])
    head = [*keys, *(f"users to {level:.0%}, runs" for level in LEVELS), "at the end", "certified"]
    return _study.markdown(head, lines, "lrr")


def _reached(runs, level) -> str:
    first = [next((row["users"] for row in run if row["true_gain"] >= level), None) for run in runs]
    there = [users for users in first if users is not None]
    if 2 * len(there) <= len(runs):
        return f"never ({len(there)} of {len(runs)})"
    ordered = sorted([*there, *[np.inf] * (len(runs) - len(there))])
    return f"{ordered[len(runs) // 2]:,.0f} ({len(there)} of {len(runs)})"
