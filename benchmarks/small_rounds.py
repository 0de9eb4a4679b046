"""Does the loop, in small rounds that all teach, find weights with as few users as Bayesian
optimisation on the same metric, and certify them?

On the simulated platform of `closed_loop`, by the metric learnt there. A round explores with
`users` around the weights it plays, N(w, s²); a quadratic surface of all rounds so far, whose
coefficients have the prior variance of the largest evidence, slopes and bends apart, says what to
play next: its best point (`greedy`) or that of a draw of it (`thompson`), as long as the first
weights and at most a `STEP` away. No round is tested online. What is certified then is the gain of
the last weights over the first ones, by users explored around the middle of both, who had no say in
them. Users until a share of the attainable gain are known by the truth, as those of `closed_loop`.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import _loop_metric, _study
from benchmarks._loop import PLAN, START, World, as_long
from mopl_jax import estimators
from mopl_jax.intervals.ess_corrected import ess_skew
from mopl_jax.logs import log_weights
from mopl_jax.numerics import devices, quadratic
from mopl_jax.policies.gaussian import Gaussian
from mopl_jax.simulation import closed_loop, online

SIZES = {"seeds": 5, "total": 8192, "experiments": 300, "arm": closed_loop.ARM, "fresh": 24}
SIZES |= {"users": (256, 512, 2048), "widths": (0.4, 0.8), "truth": 2**14, "optimum": 2**16}
SIZES |= {"certify": 16_384}
QUICK = {"seeds": 1, "total": 2048, "experiments": 12, "arm": 512, "fresh": 3, "users": (1024,)}
QUICK |= {"widths": (0.4,), "truth": 512, "optimum": 512, "certify": 2048}
STEP, POOL = 1.25, 4000  # in s, as the loop's radius; candidates for the next weights
PRIORS = 4.0 ** -np.arange(1, 12)  # variances of coefficients, over that of the noise
LEVELS = (0.8, 0.9)


def run(options) -> _study.Rows:
    """A row for each way, seed and round."""
    world = World(devices.start(), options.truth)
    metrics, validated = _loop_metric.learnt(world, options)
    best = closed_loop.optimum(
        world.platform, START, world.part(2), PLAN, users=options.optimum, steps=6, mesh=world.mesh
    )
    attainable = world.gain(best).mean
    ways = [
        (how, width, users)
        for how in ("greedy", "thompson")
        for width in options.widths
        for users in options.users
    ]
    rows = [
        row
        for how, width, users in ways
        for seed in range(options.seeds)
        for row in _search(world, metrics["proxy"], options, how, width, users, seed)
    ]
    return _study.Rows(rows, attainable=attainable, rate=validated["rate"])


def _search(world, metric, options, how, width, users, seed) -> Iterator[dict]:
    rng, key = np.random.default_rng([seed, users]), world.part(500 + seed)
    now, gram, square = START.astype(float), 0.0, 0.0
    rounds = max(options.total // users, 1)
    mark = options.total / 32  # users from which, and then by fifths more, the gain is looked at
    about = {"way": how, "width": width, "users a round": users, "seed": seed}
    for number in range(1, rounds + 1):
        logging = Gaussian.diagonal(jnp.asarray(now), width)
        logs = _explored(world, logging, jax.random.fold_in(key, number), users, metric)
        features = np.asarray(quadratic.features((np.asarray(logs.action) - START) / width))[:, 1:]
        centred = np.concatenate([features, np.asarray(logs.reward)[:, None]], axis=1)
        centred = centred - centred.mean(axis=0)
        gram = gram + centred[:, :-1].T @ centred
        square += (centred[:, -1] ** 2).sum()
        surface = _posterior(gram, square, number * users, how, rng)
        now = _next(surface, now, width, rng)
        if number * users >= mark or number == rounds:
            mark = 1.2 * number * users
            found = {"users": number * users, "true_gain": world.gain(now).mean}
            last = number == rounds
            extra = _certified(world, metric, options, now, width, key) if last else {}
            yield about | found | {"bound": None, "certified": None} | extra


def _explored(world, logging, key, users, metric):
    traffic = online.play(world.platform, logging, key, (0, users), world.mesh)
    return online.log(traffic, logging, metric)


def _posterior(gram, square, n, how, rng):
    """Coefficients of all features but the constant; a draw of them for Thompson's rule."""
    products, moment = gram[:, :-1], gram[:, -1]
    noise = square / n  # what the weights explain is a small share of it
    slopes = np.arange(len(moment)) < START.size

    def fit(first, second):
        prior = np.where(slopes, first, second)
        root = np.sqrt(prior)
        inner = np.eye(len(prior)) + root[:, None] * products * root[None, :]
        solved = np.linalg.solve(inner, root * moment)
        evidence = solved @ (root * moment) / noise - np.linalg.slogdet(inner)[1]
        return evidence, root, inner, root * solved

    _, root, inner, mean = max((fit(a, b) for a in PRIORS for b in PRIORS), key=lambda x: x[0])
    if how == "greedy":
        return mean
    factor = np.linalg.cholesky(np.linalg.inv(inner))
    return mean + np.sqrt(noise) * root * (factor @ rng.normal(size=len(mean)))


def _next(surface, now, width, rng):
    """The best of candidates on the sphere, at most a step away."""
    away = rng.normal(size=(POOL, START.size))
    away *= STEP * width * rng.random((POOL, 1)) / np.linalg.norm(away, axis=1, keepdims=True)
    pool = as_long(np.concatenate([now[None], now + away]))
    features = np.asarray(quadratic.features((pool - START) / width))[:, 1:]
    return pool[np.argmax(features @ surface)]


def _certified(world, metric, options, now, width, key):
    """The lower bound of the gain over the first weights, one-sided 95 %, in the metric."""
    logging = Gaussian.diagonal(jnp.asarray(0.5 * (now + START)), width)
    logs = _explored(world, logging, jax.random.fold_in(key, 2**20), options.certify, metric)
    scale = PLAN.scale * PLAN.fine
    new, old = (Gaussian.diagonal(jnp.asarray(mean), scale) for mean in (now, START))
    pair = (estimators.snips(log_weights(x, logs), logs.reward) for x in (new, old))
    bound = float(ess_skew(estimators.difference(*pair), 0.1).lower)
    return {"bound": bound, "certified": bound > 0}


def table(rows: _study.Rows) -> str:
    """Users until a share of the attainable gain, median of the runs."""
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
